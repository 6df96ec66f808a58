//! Carries a plan's operations out.

use std::net::IpAddr;

use proxy_common::layout::{Backend, BackendId, FrontendKey, V4, V6, names, protocol};

use super::Datapath;
use super::error::{ApplyError, DatapathError};
use super::memory::BeyondEnd;
use crate::plan::{Frontend, Operation};

impl Datapath {
    /// Carries operations out in their order. Stops at the first that fails and says which it was.
    pub fn apply(&mut self, operations: &[Operation]) -> Result<(), ApplyError> {
        for (index, operation) in operations.iter().enumerate() {
            self.carry_out(operation).map_err(|source| ApplyError {
                index,
                operation: format!("{operation:?}"),
                source,
            })?;
        }
        Ok(())
    }

    fn carry_out(&mut self, operation: &Operation) -> Result<(), DatapathError> {
        let tables = &self.tables;
        match operation {
            Operation::PutIdentity(id, identity) => tables.identity.put(id, identity)?,
            Operation::RemoveIdentity(id) => {
                tables.identity.remove(id)?;
            }
            Operation::SetFilter(bit) => {
                self.released
                    .claim(&tables.prefilter, *bit)
                    .map_err(full(names::PREFILTER))?;
            }
            Operation::ReleaseFilter(bit) => self.released.release(*bit),
            Operation::PutBackend(id, backend) => {
                tables.backends.put(*id, backend).map_err(full(names::BACKENDS))?;
            }
            Operation::KillBackend(id) => {
                let backend = tables.backends.kill(*id).map_err(full(names::BACKENDS))?;
                self.end_sockets(*id, backend);
            }
            Operation::PutSlots { first, backends } => {
                tables.slots.put(*first, backends).map_err(full(names::SLOTS))?;
            }
            Operation::PutService(id, service) => {
                tables.services.put(*id, service).map_err(full(names::SERVICES))?;
            }
            Operation::PutFrontend(frontend, value) => match key(frontend) {
                Key::V4(key) => tables.frontends4.put(&key, value)?,
                Key::V6(key) => tables.frontends6.put(&key, value)?,
            },
            Operation::RemoveFrontend(frontend) => {
                match key(frontend) {
                    Key::V4(key) => tables.frontends4.remove(&key)?,
                    Key::V6(key) => tables.frontends6.remove(&key)?,
                };
            }
        }
        Ok(())
    }

    /// Has the sockets destroyed that were connected to a UDP backend, off the critical path.
    fn end_sockets(&self, id: BackendId, backend: Backend) {
        if backend.protocol == protocol::UDP
            && backend.is_alive()
            && let Some(gone) = &self.gone
            && gone.send((id, backend)).is_err()
        {
            tracing::error!("the janitor is gone: UDP sockets stay connected to {id:?}");
        }
    }
}

enum Key {
    V4(FrontendKey<V4>),
    V6(FrontendKey<V6>),
}

fn key(frontend: &Frontend) -> Key {
    match frontend.address {
        IpAddr::V4(address) => Key::V4(FrontendKey::new(address.into(), frontend.port, frontend.protocol)),
        IpAddr::V6(address) => Key::V6(FrontendKey::new(address.into(), frontend.port, frontend.protocol)),
    }
}

fn full(map: &'static str) -> impl Fn(BeyondEnd) -> DatapathError {
    move |BeyondEnd { index, length }| {
        DatapathError::Refused(format!(
            "{map} has {length} entries and none at {index}: the map is full"
        ))
    }
}
