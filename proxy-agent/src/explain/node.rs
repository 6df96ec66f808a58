//! What is known of the node that is asked about, and who a caller is to it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proxy_common::layout::{CONFIG_PODS_SOCKET_LB, Config, Family, LAYOUT_VERSION};

use crate::datapath::{NodePortAddresses, SnatPorts};
use crate::plan::Range;
use crate::source::Node;

/// A node, as far as its Node object and the operator say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Whether there is a Node object of that name.
    pub is_known: bool,
    /// Its addresses, the primary ones first.
    pub addresses: Vec<IpAddr>,
    /// Those of them at which NodePorts do not answer.
    pub silent: BTreeSet<IpAddr>,
    /// Where its pods' addresses are from.
    pub pod_ranges: Vec<Range>,
}

impl NodeFacts {
    /// From its object, if there is one, from addresses that the operator adds, and from the choice of those at which
    /// NodePorts answer.
    pub fn new(name: &str, node: Option<&Node>, more: &[IpAddr], node_ports: &NodePortAddresses) -> Self {
        let mut facts = Self {
            name: name.to_owned(),
            is_known: node.is_some(),
            ..Self::default()
        };
        if let Some(node) = node {
            facts.addresses = node.addresses();
            let ranges = node.pod_ranges().into_iter();
            facts.pod_ranges = ranges
                .map(|range| Range::new(range.address, range.length))
                .collect();
        }
        for address in more {
            if !facts.addresses.contains(address) {
                facts.addresses.push(*address);
            }
        }
        // As the running agent has it: NodePorts answer at 127.0.0.1 for the host alone.
        facts
            .addresses
            .retain(|address| !address.is_loopback() && !address.is_unspecified());
        let primary = [Family::V4, Family::V6].map(|family| facts.primary(family));
        let silent = facts
            .addresses
            .iter()
            .filter(|address| !node_ports.has(**address, primary.contains(&Some(**address))));
        facts.silent = silent.copied().collect();
        facts
    }

    /// The address with which the node speaks for itself.
    pub fn primary(&self, family: Family) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter();
        addresses
            .find(|address| address.is_ipv4() == (family == Family::V4))
            .copied()
    }

    /// The same; if it is not known, one that stands for it (RFC 7600, RFC 6666: nobody has it).
    pub(super) fn primary_or_unknown(&self, family: Family) -> IpAddr {
        self.primary(family).unwrap_or(match family {
            Family::V4 => IpAddr::from([192, 0, 0, 8]),
            Family::V6 => IpAddr::from([0x100, 0, 0, 0, 0, 0, 0, 8]),
        })
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// The range of pods that holds an address.
    pub(super) fn pod_range_of(&self, address: IpAddr) -> Option<Range> {
        let is_in = |range: &&Range| {
            range.address.is_ipv4() == address.is_ipv4() && Range::new(address, range.length) == **range
        };
        self.pod_ranges.iter().find(is_in).copied()
    }
}

/// Who calls, as the node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// This host itself, and why.
    Host(String),
    /// A pod of this node, and why.
    Pod(String),
    /// Anyone else, and why.
    Outside(String),
}

impl Caller {
    /// One word for programs.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Pod(_) => "pod",
            Self::Outside(_) => "outside",
        }
    }
}

/// The configuration of a node that runs with Shunt's defaults.
pub(super) fn default_config(node_ports: &NodePortAddresses) -> Config {
    const RATE: u32 = 250;
    let ports = SnatPorts::default();
    Config {
        host_netns_cookie: 1,
        layout_version: LAYOUT_VERSION,
        flags: CONFIG_PODS_SOCKET_LB | node_ports.config_flags(),
        ticks_per_second: RATE,
        snat_first: ports.first(),
        snat_count: ports.count(),
        tcp_embryo: 60 * RATE,
        tcp_established: 86_400 * RATE,
        tcp_half_closed: 3600 * RATE,
        tcp_closing: 120 * RATE,
        udp_embryo: 30 * RATE,
        udp_established: 180 * RATE,
    }
}
