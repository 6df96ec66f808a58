//! Reads interfaces, addresses and routes of the calling thread's network namespace.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::{CallError, Context};
use super::netlink::{Body, Netlink, attributes, integer, number, text};

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// `veth`, `bridge`, …; empty for hardware.
    pub(super) kind: String,
    /// ARPHRD_*: the kind of link-layer header.
    pub(super) header: u16,
    pub(super) mtu: u32,
    pub(super) loopback: bool,
    /// The other end is in another network namespace.
    pub(super) peer_elsewhere: bool,
    /// Index of the bridge or bond that it is a port of; 0: of none.
    pub(super) master: u32,
    /// Index of the interface that it stands on (of a VLAN), or of a veth's other end; 0: of none.
    pub(super) lower: u32,
    /// Its link-layer address; zeroes where that is none of Ethernet's.
    pub(super) address: [u8; 6],
    /// Id of the XDP program that is attached.
    pub(super) xdp: Option<u32>,
}

/// An address of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) interface: u32,
    pub(super) address: IpAddr,
    pub(super) scope: u8,
    pub(super) flags: u32,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    /// Interfaces of default routes, in the order of the routes.
    pub(super) default_routes: Vec<u32>,
    /// Interfaces of routes by a gateway.
    pub(super) gateway_routes: BTreeSet<u32>,
}

/// Which parts have to be read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stale {
    pub(super) links: bool,
    pub(super) addresses: bool,
    pub(super) routes: bool,
}

impl Stale {
    pub(super) const ALL: Self = Self {
        links: true,
        addresses: true,
        routes: true,
    };

    pub(super) fn any(self) -> bool {
        self.links || self.addresses || self.routes
    }

    /// Adds what an event says. IPv4 routes go silently with their interface or address.
    pub(super) fn note(&mut self, kind: u16, body: &[u8]) {
        match kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => *self = Self::ALL,
            libc::RTM_NEWADDR | libc::RTM_DELADDR => {
                self.addresses = true;
                self.routes = true;
            }
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE if route(body).is_some() => self.routes = true,
            _ => {}
        }
    }
}

impl Observed {
    /// Reads what is stale.
    pub(super) fn refresh(&mut self, netlink: &mut Netlink, stale: Stale) -> Result<(), CallError> {
        if stale.links {
            let answers = netlink
                .dump(libc::RTM_GETLINK, &Body::new(&[0; 16]))
                .call("RTM_GETLINK", "interfaces")?;
            self.links = answers.iter().filter_map(|message| link(&message.body)).collect();
        }
        if stale.addresses {
            let answers = netlink
                .dump(libc::RTM_GETADDR, &Body::new(&[0; 8]))
                .call("RTM_GETADDR", "addresses")?;
            self.addresses = answers
                .iter()
                .filter_map(|message| address(&message.body))
                .collect();
        }
        if stale.routes {
            self.refresh_routes(netlink)?;
        }
        Ok(())
    }

    fn refresh_routes(&mut self, netlink: &mut Netlink) -> Result<(), CallError> {
        self.default_routes.clear();
        self.gateway_routes.clear();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut header = [0; 12];
            header[0] = family as u8;
            let answers = netlink
                .dump(libc::RTM_GETROUTE, &Body::new(&header))
                .call("RTM_GETROUTE", "routes")?;
            for found in answers.iter().filter_map(|message| route(&message.body)) {
                if found.default {
                    self.default_routes.extend(&found.interfaces);
                }
                self.gateway_routes.extend(found.interfaces);
            }
        }
        Ok(())
    }
}

fn link(body: &[u8]) -> Option<Link> {
    const IFLA_LINK_NETNSID: u16 = 37;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_XDP_PROG_ID: u16 = 4;
    let flags = u32::from_ne_bytes(integer(body, 8)?);
    let mut link = Link {
        index: u32::from_ne_bytes(integer(body, 4)?),
        header: u16::from_ne_bytes(integer(body, 2)?),
        loopback: flags & libc::IFF_LOOPBACK as u32 != 0,
        ..Link::default()
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_MTU => link.mtu = number(value)?,
            libc::IFLA_LINKINFO => {
                let inner = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = inner.map(|(_, value)| text(value)).unwrap_or_default();
            }
            IFLA_LINK_NETNSID => link.peer_elsewhere = true,
            libc::IFLA_MASTER => link.master = number(value)?,
            libc::IFLA_LINK => link.lower = number(value)?,
            libc::IFLA_ADDRESS => link.address = value.try_into().unwrap_or_default(),
            libc::IFLA_XDP => {
                let inner = attributes(value).find(|(kind, _)| *kind == IFLA_XDP_PROG_ID);
                link.xdp = inner.and_then(|(_, value)| number(value));
            }
            _ => {}
        }
    }
    Some(link)
}

fn address(body: &[u8]) -> Option<Address> {
    const IFA_FLAGS: u16 = 8;
    let mut found = Address {
        interface: u32::from_ne_bytes(integer(body, 4)?),
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        scope: *body.get(3)?,
        flags: u32::from(*body.get(2)?),
    };
    let (mut own, mut other) = (None, None);
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            libc::IFA_LOCAL => own = ip(value),
            libc::IFA_ADDRESS => other = ip(value),
            IFA_FLAGS => found.flags = number(value)?,
            _ => {}
        }
    }
    // On a point-to-point interface IFA_ADDRESS is the other end's.
    found.address = own.or(other)?;
    Some(found)
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(value).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    four.or_else(|_| <[u8; 16]>::try_from(value).map(|octets| IpAddr::V6(Ipv6Addr::from(octets))))
        .ok()
}

struct Route {
    default: bool,
    interfaces: Vec<u32>,
}

/// A route that makes its interfaces uplinks: a default route, or one by a gateway.
fn route(body: &[u8]) -> Option<Route> {
    const RTA_VIA: u16 = 18;
    let (prefix, table, kind) = (*body.get(1)?, *body.get(4)?, *body.get(7)?);
    let flags = u32::from_ne_bytes(integer(body, 8)?);
    if kind != libc::RTN_UNICAST || table == libc::RT_TABLE_LOCAL || flags & libc::RTM_F_CLONED != 0 {
        return None;
    }
    let mut gateway = false;
    let mut interfaces = Vec::new();
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            libc::RTA_OIF => interfaces.extend(number(value)),
            libc::RTA_GATEWAY | RTA_VIA => gateway = true,
            libc::RTA_MULTIPATH => gateway |= next_hops(value, &mut interfaces),
            _ => {}
        }
    }
    let default = prefix == 0;
    (default || gateway).then_some(Route { default, interfaces })
}

/// Adds the interfaces of a multipath route; true if one of its hops is a gateway.
fn next_hops(mut bytes: &[u8], interfaces: &mut Vec<u32>) -> bool {
    let mut gateway = false;
    while let Some(length) = integer(bytes, 0).map(u16::from_ne_bytes).map(usize::from) {
        let Some(hop) = bytes.get(..length).filter(|hop| hop.len() >= 8) else {
            break;
        };
        interfaces.extend(integer(hop, 4).map(u32::from_ne_bytes));
        gateway |= attributes(&hop[8..]).any(|(kind, _)| kind == libc::RTA_GATEWAY || kind == 18);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    gateway
}
