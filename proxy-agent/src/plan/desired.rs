//! What should be installed: a Service's ports as the model chose them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use proxy_common::layout::{Backend, Family, FrontendKind, HintFallback, Port, When};

use super::{Forwarding, Frontend, Range, Rule, Weight};
use crate::name::ObjectName;

/// One service port: a port of a Service in one family. It owns a service id, lists and backends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// The Service.
    pub service: ObjectName,
    /// Name of the port; empty for the only one.
    pub port_name: Arc<str>,
    /// IP protocol number.
    pub protocol: u8,
    /// The family.
    pub family: Family,
}

impl std::fmt::Display for PortKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.service)?;
        if !self.port_name.is_empty() {
            write!(f, ":{}", self.port_name)?;
        }
        let family = family_name(self.family);
        write!(f, " ({} {family})", protocol_name(self.protocol))
    }
}

/// The name of a family, for people.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The name of an IP protocol number that Services use.
pub fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        proxy_common::layout::protocol::TCP => "TCP",
        proxy_common::layout::protocol::UDP => "UDP",
        proxy_common::layout::protocol::SCTP => "SCTP",
        _ => "?",
    }
}

/// An endpoint that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// The port that it listens at.
    pub port: Port,
    /// Whether it is on this node.
    pub local: bool,
}

impl Endpoint {
    /// The one that a backend stands for.
    pub fn of(backend: &Backend) -> Self {
        Self {
            address: backend.address.into(),
            port: backend.port,
            local: backend.is_local(),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.local { "local" } else { "remote" };
        let address = std::net::SocketAddr::new(self.address, self.port.number());
        write!(f, "{place} endpoint {address}")
    }
}

/// The endpoints that take new flows of one sort of traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Indices into [`ServicePort::endpoints`], none twice.
    pub members: Vec<u32>,
    /// What happens to a new flow if there are none.
    pub when_empty: When,
}

impl List {
    /// A list of nobody.
    pub const fn empty(when_empty: When) -> Self {
        Self {
            members: Vec::new(),
            when_empty,
        }
    }
}

/// A TCP service port whose connections end when their endpoint is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mortal {
    /// Where it is reached.
    pub frontends: Vec<Frontend>,
    /// All endpoints that the Service has, ready, terminating or neither.
    pub endpoints: BTreeSet<SocketAddr>,
}

/// What a service port should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Which one.
    pub key: PortKey,
    /// metadata.uid of the Service.
    pub uid: Arc<str>,
    /// Where it is reached; each frontend once.
    pub frontends: Vec<(Frontend, FrontendKind)>,
    /// All endpoints that serve, ready or terminating, each address and port once: a UDP flow stays valid as long as
    /// its endpoint is here, whether a list names it or not.
    pub endpoints: Vec<Endpoint>,
    /// For the ClusterIP, by internal traffic policy.
    pub internal: List,
    /// For the other frontends from outside, by external traffic policy.
    pub external: List,
    /// For the other frontends from this node: all endpoints. With [`Forwarding::Dsr`] this node's, for what other nodes hand
    /// on: then `external` serves this node too.
    pub shortcut: List,
    /// How packets from outside go to endpoints of other nodes; [`Forwarding::Snat`] where none does.
    pub forwarding: Forwarding,
    /// How a new flow gets its endpoint out of a list.
    pub rule: Rule,
    /// The weight of each endpoint, in their order; empty: all alike.
    pub weights: Vec<Weight>,
    /// Seconds in which a new endpoint grows to its weight; 0: it has it at once.
    pub slow_start: u32,
    /// Seconds for which a client keeps its endpoint, counted from its last new flow; 0: each flow on its own.
    pub affinity: u32,
    /// Why its topology hints are not followed; none: there are none, or they are.
    pub hints: Option<HintFallback>,
    /// Who may use its guarded frontends; in order, none twice.
    pub source_ranges: Vec<Range>,
}

impl ServicePort {
    /// metadata.uid of the Service that these are the ports of.
    pub fn uid_of(ports: &[Self]) -> Arc<str> {
        ports.first().map(|port| port.uid.clone()).unwrap_or_default()
    }

    /// The endpoints of one of its lists.
    pub fn members<'a>(&'a self, list: &'a List) -> impl Iterator<Item = &'a Endpoint> {
        list.members
            .iter()
            .filter_map(|index| self.endpoints.get(*index as usize))
    }
}
