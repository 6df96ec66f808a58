//! Carries a plan's operations out.
//!
//! Stores into memory are made one by one. Writes by system call are gathered where that changes nothing for a
//! reader: identities, which no program reads, may come earlier; frontends may come later, as long as all that happens
//! meanwhile is that something new is written which nobody shows yet.

use std::net::IpAddr;

use proxy_common::layout::{
    Backend, BackendId, FrontendKey, FrontendValue, Identity, NetworkList, Networks,
    SOURCE_RANGE_SERVICE_BITS, Service, ServiceId, SourceRange, SourceRangeKey, V4, V6, Vip, names, protocol,
};

use super::Datapath;
use super::error::{ApplyError, CallError, DatapathError};
use super::janitor::Errand;
use super::map::Map;
use super::memory::BeyondEnd;
use super::sys::Layout;
use super::tables::Tables;
use crate::plan::{Frontend, Operation, Range};

/// Writes to one map that wait for each other, with the operations that they come from.
struct Gathered<K, V> {
    entries: Vec<(K, V)>,
    indices: Vec<usize>,
}

impl<K: Layout, V: Layout> Gathered<K, V> {
    const fn new() -> Self {
        Self {
            entries: Vec::new(),
            indices: Vec::new(),
        }
    }

    fn add(&mut self, index: usize, key: K, value: V) {
        self.entries.push((key, value));
        self.indices.push(index);
    }

    /// Writes them; on failure says which operation it was.
    fn flush(&mut self, map: &Map<K, V>) -> Result<(), (usize, CallError)> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let result = map.put_all(&self.entries);
        let indices = std::mem::take(&mut self.indices);
        self.entries.clear();
        result.map_err(|(done, error)| (indices.get(done).copied().unwrap_or_default(), error))
    }
}

/// The frontends of both families that are still to be written, and what stands at their addresses, which comes after them.
struct Frontends {
    four: Gathered<FrontendKey<V4>, FrontendValue>,
    six: Gathered<FrontendKey<V6>, FrontendValue>,
    vips4: Gathered<V4, Vip>,
    vips6: Gathered<V6, Vip>,
}

type Failure = (usize, DatapathError);

impl Datapath {
    /// Carries operations out, each for readers as if in its place. Stops at the first that fails and says which it
    /// was.
    pub fn apply(&mut self, operations: &[Operation]) -> Result<(), ApplyError> {
        self.carry_out(operations).map_err(|(index, source)| ApplyError {
            index,
            operation: operations
                .get(index)
                .map(|operation| format!("{operation:?}"))
                .unwrap_or_default(),
            source: Box::new(source),
        })
    }

    fn carry_out(&self, operations: &[Operation]) -> Result<(), Failure> {
        let mut next = 0;
        while next < operations.len() {
            let rest = operations.get(next..).unwrap_or_default();
            let additions = rest.iter().take_while(|operation| adds(operation)).count();
            self.add(next, rest.get(..additions).unwrap_or_default())?;
            next += additions;
            if let Some(operation) = operations.get(next) {
                self.take_away(operation).map_err(|error| (next, error))?;
                next += 1;
            }
        }
        Ok(())
    }

    /// A run of operations that take nothing away; `first` is the index of the first.
    fn add(&self, first: usize, operations: &[Operation]) -> Result<(), Failure> {
        let mut identities = Gathered::<ServiceId, Identity>::new();
        for (index, operation) in (first..).zip(operations) {
            if let Operation::PutIdentity(id, identity) = operation {
                identities.add(index, *id, **identity);
            }
        }
        identities.flush(&self.tables.identity).map_err(failure)?;

        let mut frontends = Frontends {
            four: Gathered::new(),
            six: Gathered::new(),
            vips4: Gathered::new(),
            vips6: Gathered::new(),
        };
        for (index, operation) in (first..).zip(operations) {
            match operation {
                Operation::PutFrontend(frontend, value) => match key(frontend) {
                    Key::V4(key) => frontends.four.add(index, key, *value),
                    Key::V6(key) => frontends.six.add(index, key, *value),
                },
                Operation::PutVip(IpAddr::V4(address), vip) => {
                    frontends.vips4.add(index, (*address).into(), *vip);
                }
                Operation::PutVip(IpAddr::V6(address), vip) => {
                    frontends.vips6.add(index, (*address).into(), *vip);
                }
                // A service port that is in use changes: what was to be seen before comes before.
                Operation::PutService(id, _) if !self.is_unused(*id) => {
                    self.flush(&mut frontends)?;
                    self.store(operation).map_err(|error| (index, error))?;
                }
                _ => self.store(operation).map_err(|error| (index, error))?,
            }
        }
        self.flush(&mut frontends)
    }

    fn is_unused(&self, id: ServiceId) -> bool {
        self.tables
            .services
            .get(id)
            .is_none_or(|service| service == Service::default())
    }

    fn flush(&self, frontends: &mut Frontends) -> Result<(), Failure> {
        frontends.four.flush(&self.tables.frontends4).map_err(failure)?;
        frontends.six.flush(&self.tables.frontends6).map_err(failure)?;
        frontends.vips4.flush(&self.tables.vips4).map_err(failure)?;
        frontends.vips6.flush(&self.tables.vips6).map_err(failure)
    }

    /// Stores into memory.
    fn store(&self, operation: &Operation) -> Result<(), DatapathError> {
        let tables = &self.tables;
        match operation {
            Operation::SetFilter(bit) => self
                .released
                .claim(&tables.prefilter, *bit)
                .map_err(beyond(names::PREFILTER)),
            Operation::PutBackend(id, backend) => {
                if backend.life > 1 {
                    // The id was another's: its connections are not this one's.
                    tables.loads.put(id, &0)?;
                }
                let backend = self.pod_networks.marked(backend);
                tables
                    .backends
                    .put(*id, &backend)
                    .map_err(beyond(names::BACKENDS))
            }
            Operation::PutSlots { first, backends } => {
                tables.slots.put(*first, backends).map_err(beyond(names::SLOTS))
            }
            Operation::PutRange(id, range, tag) => {
                let tag = u32::from(*tag);
                match range_key(*id, range) {
                    RangeKey::V4(key) => tables.source_ranges4.put(&key, &tag)?,
                    RangeKey::V6(key) => tables.source_ranges6.put(&key, &tag)?,
                }
                Ok(())
            }
            Operation::PutService(id, service) => {
                tables.services.put(*id, service).map_err(beyond(names::SERVICES))
            }
            _ => Ok(()),
        }
    }

    fn take_away(&self, operation: &Operation) -> Result<(), DatapathError> {
        let tables = &self.tables;
        match operation {
            Operation::RemoveIdentity(id) => tables.identity.remove(id).map(|_| ())?,
            Operation::ReleaseFilter(bit) => self.released.release(*bit),
            Operation::KillBackend(id) => {
                let backend = tables.backends.kill(*id).map_err(beyond(names::BACKENDS))?;
                self.end_sockets(*id, backend);
            }
            Operation::RemoveRange(id, range) => match range_key(*id, range) {
                RangeKey::V4(key) => tables.source_ranges4.remove(&key).map(|_| ())?,
                RangeKey::V6(key) => tables.source_ranges6.remove(&key).map(|_| ())?,
            },
            Operation::RemoveFrontend(frontend) => match key(frontend) {
                Key::V4(key) => tables.frontends4.remove(&key).map(|_| ())?,
                Key::V6(key) => tables.frontends6.remove(&key).map(|_| ())?,
            },
            Operation::RemoveVip(IpAddr::V4(address)) => {
                tables.vips4.remove(&(*address).into()).map(|_| ())?;
            }
            Operation::RemoveVip(IpAddr::V6(address)) => {
                tables.vips6.remove(&(*address).into()).map(|_| ())?;
            }
            Operation::PutNetworks(networks) => self.put_networks(networks)?,
            _ => {}
        }
        Ok(())
    }

    /// A value of an array is not written at once: as long as it is, it says that nothing is known.
    fn put_networks(&self, new: &Networks) -> Result<(), DatapathError> {
        let networks = &self.tables.networks;
        let before = networks.get(&0)?.unwrap_or_default();
        networks.put(&0, &unknown(&before))?;
        self.grace.wait()?;
        networks.put(&0, &unknown(new))?;
        Ok(networks.put(&0, new)?)
    }

    /// Has the sockets destroyed that were connected to a UDP backend, off the critical path.
    fn end_sockets(&self, id: BackendId, backend: Backend) {
        if backend.protocol == protocol::UDP && backend.is_alive() {
            self.tell_janitor(Errand::Gone(id, backend));
        }
    }
}

impl Tables {
    /// Whether a frontend is in the maps under exactly this address.
    pub(super) fn has_frontend(&self, frontend: &Frontend) -> Result<bool, CallError> {
        match key(frontend) {
            Key::V4(key) => self.frontends4.get(&key).map(|value| value.is_some()),
            Key::V6(key) => self.frontends6.get(&key).map(|value| value.is_some()),
        }
    }
}

/// Whether an operation takes nothing away.
fn adds(operation: &Operation) -> bool {
    match operation {
        Operation::PutIdentity(..)
        | Operation::SetFilter(_)
        | Operation::PutBackend(..)
        | Operation::PutSlots { .. }
        | Operation::PutRange(..)
        | Operation::PutService(..)
        | Operation::PutFrontend(..)
        | Operation::PutVip(..) => true,
        Operation::RemoveIdentity(_)
        | Operation::ReleaseFilter(_)
        | Operation::KillBackend(_)
        | Operation::RemoveRange(..)
        | Operation::RemoveFrontend(_)
        | Operation::RemoveVip(_)
        | Operation::PutNetworks(_) => false,
    }
}

/// The same ranges, none of which counts.
fn unknown(networks: &Networks) -> Networks {
    fn emptied<A: Copy>(list: NetworkList<A>) -> NetworkList<A> {
        NetworkList { count: 0, ..list }
    }
    Networks {
        service4: emptied(networks.service4),
        service6: emptied(networks.service6),
        local4: emptied(networks.local4),
        local6: emptied(networks.local6),
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

enum RangeKey {
    V4(SourceRangeKey<V4>),
    V6(SourceRangeKey<V6>),
}

fn range_key(service: ServiceId, range: &Range) -> RangeKey {
    let prefix_length = SOURCE_RANGE_SERVICE_BITS + u32::from(range.length);
    match range.address {
        IpAddr::V4(address) => RangeKey::V4(SourceRangeKey {
            prefix_length,
            range: SourceRange {
                service,
                address: address.into(),
            },
        }),
        IpAddr::V6(address) => RangeKey::V6(SourceRangeKey {
            prefix_length,
            range: SourceRange {
                service,
                address: address.into(),
            },
        }),
    }
}

fn failure((index, error): (usize, CallError)) -> Failure {
    (index, error.into())
}

pub(super) fn beyond(map: &'static str) -> impl Fn(BeyondEnd) -> DatapathError {
    move |BeyondEnd { index, length }| {
        DatapathError::Refused(format!(
            "{map} has {length} entries and none at {index}: the map is full; give the maps more memory with \
             --map-memory (pinned maps keep their size until `shunt cleanup`)"
        ))
    }
}
