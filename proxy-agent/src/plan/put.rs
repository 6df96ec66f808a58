//! Puts what a Service needs, in the order that is safe for readers: identity, filter bits, backends, slots, service
//! words, frontends.

use proxy_common::layout::{AffinityWord, BACKEND_LOCAL, Backend, ListWord, Service, ServiceId, When};

use super::draft::{Draft, Origin};
use super::filter::{backend_bits, frontend_bits};
use super::installed::{InstalledPort, PortIdentity, frontend_value, service_of};
use super::takeaway::Leftover;
use super::{Endpoint, Operation, Planner, Range, ServicePort};
use crate::name::ObjectName;

impl Planner {
    /// Puts all that is new, and notes what is no longer needed.
    pub(super) fn put(
        &mut self,
        name: &ObjectName,
        ports: &[ServicePort],
        drafts: Vec<Draft>,
        operations: &mut Vec<Operation>,
    ) {
        let ids: Vec<ServiceId> = drafts.iter().map(|draft| draft.id).collect();
        let before = match ids.is_empty() {
            true => self.by_service.remove(name),
            false => self.by_service.insert(name.clone(), ids.clone()),
        };
        for (port, draft) in ports.iter().zip(drafts) {
            let leftover = self.put_port(port, draft, operations);
            self.leftovers.extend(leftover.filter(Leftover::is_something));
        }
        let gone = before.into_iter().flatten().filter(|id| !ids.contains(id));
        self.leftovers.extend(gone.map(Leftover::whole));
    }

    fn put_port(
        &mut self,
        port: &ServicePort,
        draft: Draft,
        operations: &mut Vec<Operation>,
    ) -> Option<Leftover> {
        let Draft {
            id,
            mut identity,
            origin,
            backends,
            new_backends,
            lists,
            new_runs,
            words,
        } = draft;
        let is_told = origin != Origin::Fresh && identity.hints == port.hints;
        identity.hints = port.hints;
        if !is_told {
            operations.push(Operation::PutIdentity(id, Box::new(identity.value(&port.key))));
        }
        self.take_identity(id, identity, origin);
        let protocol = port.key.protocol;
        for (frontend, _) in &port.frontends {
            if !self.owners.has(frontend) && !self.stray_frontends.contains(frontend) {
                self.filter.acquire(frontend_bits(frontend), operations);
            }
        }
        for (endpoint, _) in &new_backends {
            self.filter.acquire(
                backend_bits(endpoint.address, endpoint.port, protocol),
                operations,
            );
        }
        for (endpoint, backend) in new_backends {
            let life = self.backends.next_life(backend);
            operations.push(Operation::PutBackend(
                backend,
                backend_value(&endpoint, protocol, id, life),
            ));
        }
        for (run, backends) in new_runs {
            operations.push(Operation::PutSlots {
                first: run.first,
                backends,
            });
        }
        self.put_ranges(port, id, identity.tag, operations);
        self.put_frontends(port, id, identity.tag, words, operations);
        let mut frontends: Vec<_> = port
            .frontends
            .iter()
            .map(|(frontend, kind)| (*frontend, *kind as u8))
            .collect();
        frontends.sort_unstable();
        let new = InstalledPort {
            identity,
            claimed: true,
            protocol,
            words,
            lists,
            backends,
            frontends,
            ranges: port.source_ranges.clone(),
        };
        let installed = self.installed.get_mut(&id)?;
        let leftover = Leftover::between(id, installed, &new);
        **installed = new;
        Some(leftover)
    }

    fn take_identity(&mut self, id: ServiceId, identity: PortIdentity, origin: Origin) {
        if origin == Origin::Installed {
            return;
        }
        let mut words = Service::default();
        if origin == Origin::Resting {
            self.retired.wake(id);
            words = closed(identity.tag);
        }
        self.by_identity.insert(identity.key, id);
        self.installed
            .insert(id, Box::new(InstalledPort::new(identity, words)));
    }

    fn put_ranges(
        &mut self,
        port: &ServicePort,
        id: ServiceId,
        service_tag: u16,
        operations: &mut Vec<Operation>,
    ) {
        let installed = self.installed.get(&id);
        let is_new = |range: &&Range| installed.is_none_or(|installed| !installed.ranges.contains(range));
        for range in port.source_ranges.iter().filter(is_new) {
            *self.range_counts.of_address(&range.address) += 1;
            operations.push(Operation::PutRange(id, *range, service_tag));
        }
    }

    fn put_frontends(
        &mut self,
        port: &ServicePort,
        id: ServiceId,
        service_tag: u16,
        words: Service,
        operations: &mut Vec<Operation>,
    ) {
        let installed = self.installed.get(&id);
        if installed.is_none_or(|installed| installed.words != words) {
            operations.push(Operation::PutService(id, words));
            self.touch_vips(&port.frontends);
        }
        for (frontend, kind) in &port.frontends {
            let kind = *kind as u8;
            let before = self.owners.insert(*frontend, id);
            let unchanged = before == Some(id)
                && self
                    .installed
                    .get(&id)
                    .is_some_and(|installed| installed.kind_of(frontend) == Some(kind));
            if unchanged {
                continue;
            }
            if let Some(other) = before
                .filter(|other| *other != id)
                .and_then(|other| self.installed.get_mut(&other))
            {
                other.remove_frontend(frontend);
            }
            if before.is_none() && !self.stray_frontends.remove(frontend) {
                *self.frontend_counts.of(frontend) += 1;
            }
            self.vips.touch(frontend.address);
            let value = frontend_value(frontend, id, service_tag, kind);
            operations.push(Operation::PutFrontend(*frontend, value));
        }
    }
}

/// The words of a service port that is gone: whoever still holds its id is refused.
pub(super) fn closed(tag: u16) -> Service {
    service_of([ListWord::empty(When::Reject, tag); 3], AffinityWord::OFF)
}

fn backend_value(endpoint: &Endpoint, protocol: u8, service: ServiceId, life: u32) -> Backend {
    Backend {
        address: endpoint.address.into(),
        port: endpoint.port,
        protocol,
        flags: if endpoint.local { BACKEND_LOCAL } else { 0 },
        service,
        life,
        last_life: 0,
    }
}
