//! What can be changed while programs run.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use super::config;
use super::error::{Context, DatapathError};
use super::node_ports::{Answering, NodePortAddresses};
use super::options::FlowLives;
use super::tables::Current;

/// Changes the lives of flows; a clone can do so on another thread.
#[derive(Clone, Debug)]
pub struct Lives(pub(super) Current);

impl Lives {
    /// From now on flows live so long, those that are there too.
    pub fn set(&self, lives: FlowLives) -> Result<(), DatapathError> {
        config::change(&self.0.get(), |config| config::set_lives(config, lives))
    }
}

/// Changes at which addresses NodePorts answer, and tells which they are.
#[derive(Clone, Debug)]
pub struct NodePorts {
    pub(super) tables: Current,
    pub(super) chosen: Arc<Mutex<NodePortAddresses>>,
    /// Wakes the thread that follows the addresses; gone with the data path.
    pub(super) wake: Weak<UnixStream>,
    pub(super) answering: watch::Receiver<Answering>,
}

impl NodePorts {
    /// From now on NodePorts answer there. Connections that are there go on.
    pub fn set(&self, addresses: &NodePortAddresses) -> Result<(), DatapathError> {
        config::change(&self.tables.get(), |config| {
            config::set_node_ports(config, addresses)
        })?;
        self.chosen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(addresses);
        self.wake()
    }

    /// The thread that follows interfaces looks at what it is told.
    pub(super) fn wake(&self) -> Result<(), DatapathError> {
        match self.wake.upgrade() {
            Some(wake) => Ok((&*wake)
                .write_all(&[0])
                .call("write", "the thread that follows interfaces")?),
            None => Ok(()),
        }
    }

    /// Where they answer, now and after each change of the choice or of the node's addresses.
    pub fn answering(&self) -> watch::Receiver<Answering> {
        self.answering.clone()
    }
}
