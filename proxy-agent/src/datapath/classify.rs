//! Which interface leads where, and which addresses are the node's. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proxy_common::layout::{INTERFACE_LAYER3, Interface, V4, V6};

use super::glob;
use super::node_ports::{Answering, NodePortAddresses};
use super::observe::{Address, Link, Observed};
use super::options::{PodInterfaces, Uplinks};

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_INFINIBAND: u16 = 32;
const SCOPE_GLOBAL: u8 = 0;
const SCOPE_HOST: u8 = 254;
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_DAD_FAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;

/// Where an interface leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// To a pod.
    Pod,
    /// To other nodes and the world.
    Uplink,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Uplink => "uplink",
        }
    }
}

/// An interface that gets programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) role: Role,
    /// Without a link-layer header.
    pub(super) layer3: bool,
}

/// What follows from what was observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Desired {
    /// By interface index.
    pub(super) targets: BTreeMap<u32, Target>,
    /// The node's own, and whether NodePorts answer there.
    pub(super) node_addresses: BTreeMap<IpAddr, bool>,
    pub(super) interfaces: BTreeMap<u32, Interface>,
    /// What keeps this node from being reached, in words.
    pub(super) concerns: Vec<String>,
}

/// What the operator said.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) pods: PodInterfaces,
    pub(super) uplinks: Uplinks,
    pub(super) node_ports: NodePortAddresses,
}

impl Selection {
    /// What the observed interfaces are.
    pub(super) fn judge(&self, observed: &Observed) -> Desired {
        let uplinks = self.uplinks(observed);
        let targets = observed
            .links
            .iter()
            .filter_map(|link| Some((link.index, self.target(link, &uplinks, observed)?)));
        let interfaces = interfaces(observed, &uplinks);
        let primary = interfaces.get(&0).copied().unwrap_or_default();
        let has_node_ports = |address: IpAddr| {
            let is_primary = [IpAddr::from(primary.v4), IpAddr::from(primary.v6)].contains(&address);
            self.node_ports.has(address, is_primary)
        };
        let addresses = node_addresses(observed).into_iter();
        Desired {
            targets: targets.collect(),
            node_addresses: addresses
                .map(|address| (address, has_node_ports(address)))
                .collect(),
            interfaces,
            concerns: self.concerns(observed, &uplinks),
        }
    }

    /// Where NodePorts answer.
    pub(super) fn answering(&self, desired: &Desired) -> Answering {
        if self.node_ports.is_all() {
            return Answering::Everywhere;
        }
        let chosen = desired.node_addresses.iter().filter(|(_, answers)| **answers);
        let chosen = chosen.map(|(address, _)| *address);
        Answering::At(chosen.chain(self.node_ports.loopback()).collect())
    }

    fn concerns(&self, observed: &Observed, uplinks: &[u32]) -> Vec<String> {
        let mut concerns = Vec::new();
        if let PodInterfaces::Bridge(bridge) = &self.pods
            && observed.links.iter().all(|link| link.name != *bridge)
        {
            concerns.push(format!(
                "the bridge {bridge} does not exist (detectLocal.bridgeInterface)"
            ));
        }
        if let Uplinks::Names(names) = &self.uplinks {
            let absent = names
                .iter()
                .filter(|name| observed.links.iter().all(|link| link.name != **name));
            concerns.extend(absent.map(|name| format!("the uplink {name} does not exist (--uplinks)")));
        } else if uplinks.is_empty() {
            concerns.push(
                "no interface carries a default route or a route by a gateway: Services are not reached from outside; \
                 name the uplinks with --uplinks"
                    .to_owned(),
            );
        }
        let foreign = observed
            .links
            .iter()
            .filter(|link| uplinks.contains(&link.index) && is_layer3(link).is_none());
        concerns.extend(foreign.map(|link| {
            format!(
                "the uplink {} has link-layer headers that the programs can't read: it gets none",
                link.name
            )
        }));
        concerns
    }

    /// Indices of the uplinks; those of default routes first.
    fn uplinks(&self, observed: &Observed) -> Vec<u32> {
        let mut uplinks: Vec<u32> = match &self.uplinks {
            Uplinks::Auto => observed
                .default_routes
                .iter()
                .chain(&observed.gateway_routes)
                .copied()
                .collect(),
            Uplinks::Names(names) => {
                let named = |name: &String| observed.links.iter().find(|link| link.name == *name);
                names.iter().filter_map(named).map(|link| link.index).collect()
            }
        };
        let mut seen = BTreeSet::new();
        uplinks.retain(|index| seen.insert(*index));
        uplinks
    }

    fn target(&self, link: &Link, uplinks: &[u32], observed: &Observed) -> Option<Target> {
        if link.loopback {
            return None;
        }
        let role = match &self.pods {
            _ if uplinks.contains(&link.index) => Role::Uplink,
            PodInterfaces::Auto if link.kind == "veth" && link.peer_elsewhere => Role::Pod,
            PodInterfaces::Patterns(patterns)
                if patterns.iter().any(|pattern| glob::matches(pattern, &link.name)) =>
            {
                Role::Pod
            }
            PodInterfaces::Bridge(bridge) if is_port_of(link, observed, |name| name == bridge) => Role::Pod,
            PodInterfaces::Prefix(prefix)
                if (link.kind != BRIDGE && link.name.starts_with(prefix))
                    || is_port_of(link, observed, |name| name.starts_with(prefix)) =>
            {
                Role::Pod
            }
            _ => return None,
        };
        let layer3 = is_layer3(link)?;
        // A pod's interface has a link-layer header: there are no programs for others.
        (role == Role::Uplink || !layer3).then(|| Target {
            name: link.name.clone(),
            role,
            layer3,
        })
    }
}

const BRIDGE: &str = "bridge";

/// Whether a pod can be behind a port of such a bridge: not by hardware, nor by what leads to other nodes.
fn is_port_of(link: &Link, observed: &Observed, is_wanted: impl Fn(&str) -> bool) -> bool {
    const OF_PODS: [&str; 3] = ["veth", "tun", "netkit"];
    let master = observed.links.iter().find(|other| other.index == link.master);
    OF_PODS.contains(&link.kind.as_str())
        && master.is_some_and(|master| master.kind == BRIDGE && is_wanted(&master.name))
}

/// Whether an interface has no link-layer header; `None` if it has one that the programs can't read.
fn is_layer3(link: &Link) -> Option<bool> {
    match link.header {
        ARPHRD_ETHER => Some(false),
        ARPHRD_INFINIBAND => None,
        _ => Some(true),
    }
}

/// The node's own addresses, at all of which NodePorts can answer.
fn node_addresses(observed: &Observed) -> BTreeSet<IpAddr> {
    /// Where kube-proxy in its IPVS mode keeps the addresses of Services; a node that comes from there may still have it.
    const IPVS: &str = "kube-ipvs0";
    let ipvs = observed
        .links
        .iter()
        .find(|link| link.name == IPVS)
        .map(|link| link.index);
    let answering = observed.addresses.iter().filter(|address| {
        Some(address.interface) != ipvs
            && address.scope != SCOPE_HOST
            && address.flags & IFA_F_DAD_FAILED == 0
            && !is_link_local(address.address)
    });
    answering
        .map(|address| address.address)
        .filter(|address| !address.is_loopback())
        .collect()
}

/// IPv6 only: an IPv4 address of 169.254/16 can be a node's sole address.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(six) if six.is_unicast_link_local())
}

/// Entries of INTERFACES; that of index 0 holds the node's primary addresses.
fn interfaces(observed: &Observed, uplinks: &[u32]) -> BTreeMap<u32, Interface> {
    let order: Vec<u32> = uplinks
        .iter()
        .copied()
        .chain(observed.links.iter().map(|link| link.index))
        .collect();
    let primary = Interface {
        v4: order
            .iter()
            .find_map(|index| source4(observed, *index))
            .map(V4::from)
            .unwrap_or_default(),
        v6: order
            .iter()
            .find_map(|index| source6(observed, *index))
            .map(V6::from)
            .unwrap_or_default(),
        ..Interface::default()
    };
    let entries = observed.links.iter().filter(|link| !link.loopback).map(|link| {
        let interface = Interface {
            v4: source4(observed, link.index).map_or(primary.v4, V4::from),
            v6: source6(observed, link.index).map_or(primary.v6, V6::from),
            flags: if is_layer3(link) == Some(true) {
                INTERFACE_LAYER3
            } else {
                0
            },
            mtu: link.mtu,
            index: link.index,
        };
        (link.index, interface)
    });
    entries.chain([(0, primary)]).collect()
}

/// Addresses of an interface from which others can answer.
fn sources(observed: &Observed, interface: u32) -> impl Iterator<Item = &Address> {
    const UNSTABLE: u32 = IFA_F_DAD_FAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE;
    observed.addresses.iter().filter(move |address| {
        address.interface == interface && address.scope == SCOPE_GLOBAL && address.flags & UNSTABLE == 0
    })
}

fn source4(observed: &Observed, interface: u32) -> Option<Ipv4Addr> {
    // On IPv4 the first flag means "secondary": such an address is as good as the first.
    sources(observed, interface).find_map(|address| match address.address {
        IpAddr::V4(four) => Some(four),
        IpAddr::V6(_) => None,
    })
}

fn source6(observed: &Observed, interface: u32) -> Option<Ipv6Addr> {
    // The kernel puts the newest first. The oldest stays what it is when an address comes and goes.
    let stable = sources(observed, interface).filter_map(|address| match address.address {
        IpAddr::V6(six) if address.flags & IFA_F_TEMPORARY == 0 => Some(six),
        _ => None,
    });
    stable.last()
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
