//! What is told of a change.

use std::net::SocketAddr;

use serde::Serialize;

/// What would change on a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Preview {
    /// Frontends that come, go, change their kind, or move to another Service.
    pub frontends: Vec<FrontendChange>,
    /// Lists of service ports whose backends change.
    pub backends: Vec<BackendChange>,
    /// Service ports whose session affinity changes.
    pub affinity: Vec<AffinityChange>,
    /// Frontends of these Services that several Services claim, after.
    pub conflicts: Vec<Conflict>,
    /// What would not be served as it is written, or not as somebody may expect.
    pub warnings: Vec<String>,
    /// How many of the new flows get another backend than they would get now.
    pub moved: Vec<Moved>,
    /// What the state now does not say, and what was taken in its place.
    pub unknown: Vec<String>,
    /// Writes to maps.
    pub writes: usize,
}

/// One frontend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrontendChange {
    /// Where.
    pub frontend: String,
    /// `added`, `removed`, `moved` (to another Service) or `changed` (its kind).
    pub change: &'static str,
    /// The service port that has it now.
    pub before: Option<String>,
    /// The service port that has it after.
    pub after: Option<String>,
    /// Its kind: after, or before if it goes.
    pub kind: &'static str,
    /// Whether it lets in loadBalancerSourceRanges alone.
    pub guarded: bool,
}

/// How long the clients of a service port keep their backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AffinityChange {
    /// The service port.
    pub service: String,
    /// Seconds now; 0: not at all.
    pub before: u32,
    /// Seconds after.
    pub after: u32,
}

/// One list of a service port.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackendChange {
    /// The service port.
    pub service: String,
    /// `internal`, `external` or `shortcut`.
    pub list: &'static str,
    /// Backends that come.
    pub added: Vec<SocketAddr>,
    /// Backends that go.
    pub removed: Vec<SocketAddr>,
}

/// A frontend that several Services claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conflict {
    /// Where.
    pub frontend: String,
    /// The Service that has it: the oldest.
    pub winner: String,
    /// Those that do without.
    pub losers: Vec<String>,
}

/// How many of the new flows to a list get another backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// The service port, or the frontend if it moves from one to another.
    pub of: String,
    /// `internal`, `external` or `shortcut`.
    pub list: &'static str,
    /// Percent of new flows, to a tenth.
    pub percent: f64,
}
