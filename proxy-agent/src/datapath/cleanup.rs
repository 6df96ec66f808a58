//! Takes everything of an instance away again; works with the agent dead, and twice.

use serde::Serialize;

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Links that were detached.
    pub links: usize,
    /// Filters of ours on clsact qdiscs.
    pub filters: usize,
    /// Maps that were unpinned.
    pub maps: usize,
    /// Ranges that were taken out of net.ipv4.ip_local_reserved_ports.
    pub reserved_ports: Vec<String>,
}
