//! The effects: maps, programs, links, interfaces. Nothing here knows Kubernetes.

mod apply;
mod attach;
mod classify;
pub mod cleanup;
mod clock;
mod clsact;
mod config;
pub mod doctor;
pub mod dump;
mod error;
mod grace;
mod instance;
mod links;
mod map;
mod memory;
mod netlink;
mod observe;
mod options;
mod programs;
mod reserved;
mod size;
mod snapshot;
mod specification;
mod sys;
mod tables;

use std::sync::Arc;

pub use error::{ApplyError, CallError, DatapathError};
pub use grace::Grace;
pub use options::{AttachMode, DatapathOptions, PodInterfaces, SnatPorts, SocketLb, Uplinks};
pub use size::MapSizes;
pub use snapshot::Capacity;

use crate::plan::Snapshot;
use instance::Instance;
use proxy_common::layout::names;
use tables::Tables;

/// A running data path: maps, programs, attachments, and the threads that follow interfaces and sweep flows.
///
/// Dropping it ends the threads and detaches nothing.
#[derive(Debug)]
pub struct Datapath {
    tables: Arc<Tables>,
    grace: Grace,
}

impl Datapath {
    /// Opens or makes the maps, loads the programs, attaches them and follows the interfaces from now on.
    pub fn start(options: &DatapathOptions) -> Result<Self, DatapathError> {
        let instance = Instance::new(&options.instance);
        instance.prepare()?;
        let tables = Arc::new(Tables::prepare(&instance, &MapSizes::of_node(options.memory)?)?);
        Ok(Self {
            tables,
            grace: Grace::new()?,
        })
    }

    /// What the maps hold.
    pub fn snapshot(&self) -> Result<Snapshot, DatapathError> {
        snapshot::read(&self.tables)
    }

    /// How much the maps can hold.
    pub fn capacity(&self) -> Capacity {
        snapshot::capacity(&self.tables)
    }

    /// Waits out the readers of what has been taken away; blocks for some milliseconds. A clone of it can wait on
    /// another thread.
    pub fn grace(&self) -> Grace {
        self.grace.clone()
    }
}
