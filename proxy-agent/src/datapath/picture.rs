//! What decides about a call on a node that runs: an instance's maps, read at one moment, and the node's routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use proxy_common::layout::{
    Addr, Affinity, AffinityKey, Config, Counter, Interface, NamespaceAddress, NodeAddress,
};

use super::clock::Clock;
use super::error::{Context, DatapathError};
use super::instance::Instance;
use super::netlink::{Body, Netlink, attributes, integer, number};
use super::observe::{Observed, Stale};
use super::snapshot;
use super::tables::Tables;
use crate::plan::Snapshot;

/// A node that runs, as a call would find it.
pub struct Picture {
    /// What the maps hold of Services.
    pub snapshot: Snapshot,
    /// CONFIG.
    pub config: Config,
    /// The node's own addresses, the primary ones first.
    pub addresses: Vec<IpAddr>,
    /// Those of them at which NodePorts do not answer.
    pub silent: BTreeSet<IpAddr>,
    /// AFFINITY.
    pub affinities: Vec<(AffinityKey, Affinity)>,
    /// The values of NAMESPACES.
    pub namespaces: Vec<NamespaceAddress>,
    /// The tick that records of affinity are told by.
    pub now: u32,
    interfaces: BTreeMap<u32, Interface>,
    observed: Observed,
    uplinks: BTreeSet<u32>,
    netlink: Netlink,
}

/// Where a packet to some address leaves the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The interface's name.
    pub interface: String,
    /// Whether it leads to other nodes and the world: a default route, or one by a gateway, goes by it.
    pub is_uplink: bool,
    /// The address with which the node speaks there in its own name.
    ///
    /// # Errors
    /// [`Counter::NoSourceAddress`]: it has none.
    pub source: Result<IpAddr, Counter>,
}

impl Picture {
    /// Takes the picture of an instance, in the calling thread's network namespace.
    pub fn take(instance: &Path) -> Result<Self, DatapathError> {
        let tables = Tables::open(&Instance::new(instance))?;
        let interfaces: BTreeMap<u32, Interface> = tables.interfaces.entries()?.into_iter().collect();
        let mut netlink = Netlink::route().call("socket", "rtnetlink")?;
        let mut observed = Observed::default();
        observed.refresh(&mut netlink, Stale::ALL)?;
        let mut own = addresses(tables.node_addresses4.entries()?);
        own.extend(addresses(tables.node_addresses6.entries()?));
        let uplinks = observed.default_routes.iter().chain(&observed.gateway_routes);
        Ok(Self {
            snapshot: snapshot::read(&tables)?,
            config: tables.config.get(&0)?.unwrap_or_default(),
            addresses: ordered(&own, interfaces.get(&0)),
            silent: own
                .into_iter()
                .filter(|(_, answers)| !answers)
                .map(|(address, _)| address)
                .collect(),
            affinities: tables.affinity.entries()?,
            namespaces: values(tables.namespaces.entries()?),
            now: Clock::new()?.now()?,
            interfaces,
            uplinks: uplinks.copied().collect(),
            observed,
            netlink,
        })
    }

    /// The way to an address; none: the routing table knows no way.
    pub fn way(&mut self, address: IpAddr) -> Result<Option<Way>, DatapathError> {
        let Some(index) = self.route(address)? else {
            return Ok(None);
        };
        let links = &mut self.observed.links.iter();
        // As the programs do it: the interface's own address, else the node's.
        let entries = [index, 0]
            .into_iter()
            .filter_map(|index| self.interfaces.get(&index));
        let mut sources = entries.map(|interface| match address {
            IpAddr::V4(_) => snapshot::ip(interface.v4),
            IpAddr::V6(_) => snapshot::ip(interface.v6),
        });
        Ok(Some(Way {
            interface: links
                .find(|link| link.index == index)
                .map_or_else(|| index.to_string(), |link| link.name.clone()),
            is_uplink: self.uplinks.contains(&index),
            source: sources
                .find(|source| !source.is_unspecified())
                .ok_or(Counter::NoSourceAddress),
        }))
    }

    /// The interface by which the kernel would send to an address.
    fn route(&mut self, address: IpAddr) -> Result<Option<u32>, DatapathError> {
        let (family, octets) = match address {
            IpAddr::V4(four) => (libc::AF_INET, four.octets().to_vec()),
            IpAddr::V6(six) => (libc::AF_INET6, six.octets().to_vec()),
        };
        let mut header = [0; 12];
        header[0] = family as u8;
        header[1] = octets.len() as u8 * 8;
        let body = Body::new(&header).attribute(libc::RTA_DST, &octets);
        let answers = match self.netlink.get(libc::RTM_GETROUTE, &body) {
            Ok(answers) => answers,
            Err(error) if is_no_way(&error) => return Ok(None),
            Err(error) => return Err(error).call("RTM_GETROUTE", "a route")?,
        };
        let unicast = answers
            .iter()
            .filter(|message| integer::<1>(&message.body, 7) == Some([libc::RTN_UNICAST]));
        let mut attributes =
            unicast.flat_map(|message| attributes(message.body.get(12..).unwrap_or_default()));
        let interface = attributes.find(|(kind, _)| *kind == libc::RTA_OIF);
        Ok(interface.and_then(|(_, value)| number(value)))
    }
}

fn values<K, V>(entries: Vec<(K, V)>) -> Vec<V> {
    entries.into_iter().map(|(_, value)| value).collect()
}

fn is_no_way(error: &std::io::Error) -> bool {
    let codes = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL, libc::EACCES];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// The node's addresses of a family, and whether NodePorts answer there.
fn addresses<A: Addr>(entries: Vec<(A, u32)>) -> BTreeMap<IpAddr, bool> {
    let own = entries.into_iter().filter_map(|(address, value)| {
        let answers = match NodeAddress::read(&address, value) {
            NodeAddress::NodePorts => true,
            NodeAddress::Silent => false,
            NodeAddress::Foreign => return None,
        };
        Some((snapshot::ip(address), answers))
    });
    own.collect()
}

fn ordered(own: &BTreeMap<IpAddr, bool>, primary: Option<&Interface>) -> Vec<IpAddr> {
    let primary = primary.map(|primary| [snapshot::ip(primary.v4), snapshot::ip(primary.v6)]);
    let mut addresses: Vec<IpAddr> = primary.into_iter().flatten().collect();
    addresses.retain(|address| own.contains_key(address));
    let others: Vec<IpAddr> = own
        .keys()
        .filter(|address| !addresses.contains(address))
        .copied()
        .collect();
    addresses.extend(others);
    addresses
}
