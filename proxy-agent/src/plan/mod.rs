//! Desired against installed: ordered map operations, ids, slots. Pure: no I/O, no clock, no Kubernetes types.

mod desired;
mod operation;

pub use desired::{Endpoint, List, PortKey, ServicePort, protocol_name};
pub use operation::{Frontend, Operation, Snapshot};
