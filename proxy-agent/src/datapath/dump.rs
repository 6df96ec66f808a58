//! What an instance's pinned maps hold, as plain data for the command line.

use std::net::IpAddr;
use std::path::Path;

use proxy_common::layout::FrontendKind;
use serde::Serialize;

use super::error::DatapathError;

/// A service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceEntry {
    /// Its id: index into SERVICES.
    pub id: u32,
    /// Where it is reached.
    pub frontends: Vec<FrontendEntry>,
    /// The list for the ClusterIP.
    pub internal: ListEntry,
    /// The list for calls from outside.
    pub external: ListEntry,
    /// The list for calls of this node to the outside addresses.
    pub shortcut: ListEntry,
}

/// Where a service port is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FrontendEntry {
    /// The address; unspecified: every node address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalIP`.
    pub kind: &'static str,
}

/// One list of backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListEntry {
    /// Backend ids in the order of the slots.
    pub backends: Vec<u32>,
    /// What happens to a new flow if there are none: `reject` or `drop`.
    pub when_empty: &'static str,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendEntry {
    /// Its id: index into BACKENDS.
    pub id: u32,
    /// The endpoint's address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// The service port that owns it.
    pub service: u32,
    /// On this node.
    pub local: bool,
    /// Serves new flows.
    pub alive: bool,
    /// Which use of the id it is.
    pub generation: u32,
}

/// One direction of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowEntry {
    /// `embryo` or `established`.
    pub table: &'static str,
    /// `forward` (from the client) or `reverse` (from the backend).
    pub direction: &'static str,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Source as the packet arrives.
    pub source: std::net::SocketAddr,
    /// Destination as the packet arrives.
    pub destination: std::net::SocketAddr,
    /// Source as the packet leaves.
    pub new_source: std::net::SocketAddr,
    /// Destination as the packet leaves.
    pub new_destination: std::net::SocketAddr,
    /// `stack`, `redirect`, `hairpin` or `foreign`.
    pub action: &'static str,
    /// The service port.
    pub service: u32,
    /// The backend.
    pub backend: u32,
    /// The backend's generation when the flow was made.
    pub generation: u32,
    /// `replied`, `established`, `fin-forward`, `fin-reverse`, `reset`.
    pub state: Vec<&'static str>,
    /// Seconds since it was last seen, at most one too many.
    pub idle_seconds: u32,
    /// Seconds until it does not exist any more without traffic; 0: expired, its memory not yet taken back.
    pub expires_seconds: u32,
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CounterEntry {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether it counts drops and refusals.
    pub drop: bool,
    /// The count over all CPUs since the maps were made.
    pub value: u64,
}
