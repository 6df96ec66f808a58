//! Desired against installed: ordered map operations, ids, slots. Pure: no I/O, no clock, no Kubernetes types.

mod operation;

pub use operation::{Frontend, Operation, Snapshot};
