//! The cluster that all rows use: two pods on each node, and a Service a situation.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Result;
use lab::address::{self, Family, Pair};
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Options};

/// Pods and their nodes.
const PODS: [(&str, u8); 4] = [("a", 1), ("b", 1), ("c", 2), ("d", 2)];

/// Pods of the Service with session affinity.
pub(crate) const STICKY: &[&str] = &["b", "c", "d"];

/// A Service and its port, NodePort and cluster address, which are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pod on each node.
    Both,
    /// A pod on n1.
    First,
    /// A pod on n2.
    Second,
    /// The calling pod itself.
    Itself,
    /// No pod.
    None,
    /// externalTrafficPolicy Local, a pod on n1.
    ExternalLocal,
    /// internalTrafficPolicy Local, a pod on n1.
    InternalLocal,
    /// Its endpoints change.
    Changing,
    /// Session affinity, and pods on both nodes.
    Sticky,
    /// loadBalancerSourceRanges that hold the client, pod a and node n1.
    Guarded,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Both,
        Self::First,
        Self::Second,
        Self::Itself,
        Self::None,
        Self::ExternalLocal,
        Self::InternalLocal,
        Self::Changing,
        Self::Sticky,
        Self::Guarded,
    ];

    fn number(self) -> u8 {
        1 + self as u8
    }

    /// The pods that may answer, and each must if called often enough.
    pub(crate) fn pods(self) -> &'static [&'static str] {
        match self {
            Self::Both | Self::Guarded => &["b", "c"],
            Self::First | Self::ExternalLocal | Self::InternalLocal => &["b"],
            Self::Second | Self::Changing => &["c"],
            Self::Sticky => STICKY,
            Self::Itself => &["a"],
            Self::None => &[],
        }
    }

    fn port(self) -> u16 {
        80 + u16::from(self.number())
    }

    fn node_port(self) -> u16 {
        30_000 + u16::from(self.number())
    }
}

/// Where a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frontend {
    /// Its cluster address.
    ClusterIp,
    /// Its NodePort on a node's address.
    NodePort(u8),
    /// Its NodePort on the loopback address.
    Loopback,
    /// The load balancer's address.
    LoadBalancer,
    /// Its externalIP.
    ExternalIp,
}

impl Frontend {
    /// The address and port for a Service.
    pub(crate) fn of(self, kind: Kind, family: Family) -> SocketAddr {
        let (address, port): (Pair, u16) = match self {
            Self::ClusterIp => (address::cluster(kind.number()), kind.port()),
            Self::NodePort(node) => (address::node(node), kind.node_port()),
            Self::Loopback => (address::LOOPBACK, kind.node_port()),
            Self::LoadBalancer => (address::LOAD_BALANCER, kind.port()),
            Self::ExternalIp => (address::EXTERNAL, kind.port()),
        };
        address.at(family, port)
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIp => formatter.write_str("ClusterIP"),
            Self::NodePort(node) => write!(formatter, "NodePort-of-n{node}"),
            Self::Loopback => formatter.write_str("NodePort-of-loopback"),
            Self::LoadBalancer => formatter.write_str("LoadBalancer"),
            Self::ExternalIp => formatter.write_str("externalIP"),
        }
    }
}

/// The lab with its pods and Services.
pub(crate) struct Cluster {
    /// The lab.
    pub(crate) lab: Lab,
    next_port: AtomicU16,
}

impl Cluster {
    /// Starts all of it.
    pub(crate) fn start(options: Options) -> Result<Self> {
        let mut lab = Lab::start(options)?;
        for (name, node) in PODS {
            lab.add_pod(name, node)?;
        }
        let cluster = Self {
            lab,
            next_port: AtomicU16::new(0),
        };
        for kind in Kind::ALL {
            cluster.lab.apply(&cluster.service(kind, kind.pods()))?;
        }
        Ok(cluster)
    }

    /// The client, pod a and node n1, each alone.
    fn allowed(&self) -> Vec<String> {
        let addresses = [address::CLIENT, self.lab.pod("a").address, address::node(1)];
        let both = addresses
            .into_iter()
            .flat_map(|pair| [format!("{}/32", pair.v4), format!(" {}/128 ", pair.v6)]);
        both.collect()
    }

    /// The first of so many ports for clients that no other call has: below NodePorts and ephemeral ports.
    pub(crate) fn ports(&self, count: usize) -> u16 {
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        10_000 + self.next_port.fetch_add(count, Ordering::Relaxed) % 19_900
    }

    /// A Service over these pods.
    pub(crate) fn service(&self, kind: Kind, pods: &[&str]) -> Service {
        let name = format!("{kind:?}").to_lowercase();
        let mut service = Service::new(&name, kind.number(), kind.port(), ECHO_PORT)
            .node_port(kind.node_port())
            .over(pods.iter().map(|pod| self.lab.pod(pod)));
        service.load_balancer = Some(address::LOAD_BALANCER);
        service.external = Some(address::EXTERNAL);
        service.external_local = kind == Kind::ExternalLocal;
        service.internal_local = kind == Kind::InternalLocal;
        if kind == Kind::Guarded {
            service.source_ranges = self.allowed();
        }
        service.affinity = if kind == Kind::Sticky { 3600 } else { 0 };
        service
    }
}
