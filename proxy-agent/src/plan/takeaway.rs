//! What is no longer needed, taken away in the reverse order: frontends, service words, backends, filter bits. Slots
//! and ids rest until no reader can hold them.

use proxy_common::layout::{BackendId, ServiceId};

use super::filter::{backend_bits, frontend_bits};
use super::installed::InstalledPort;
use super::put::closed;
use super::slots::Run;
use super::{Endpoint, Frontend, Operation, Plan, Planner, Range};

/// What a service port no longer needs.
#[derive(Debug)]
pub(super) struct Leftover {
    id: ServiceId,
    /// The service port itself is gone.
    whole: bool,
    frontends: Vec<Frontend>,
    backends: Vec<(Endpoint, BackendId)>,
    runs: Vec<Run>,
    ranges: Vec<Range>,
}

impl Leftover {
    fn nothing(id: ServiceId) -> Self {
        Self {
            id,
            whole: false,
            frontends: Vec::new(),
            backends: Vec::new(),
            runs: Vec::new(),
            ranges: Vec::new(),
        }
    }

    pub(super) fn whole(id: ServiceId) -> Self {
        Self {
            whole: true,
            ..Self::nothing(id)
        }
    }

    pub(super) fn is_something(&self) -> bool {
        self.whole
            || !self.frontends.is_empty()
            || !self.backends.is_empty()
            || !self.runs.is_empty()
            || !self.ranges.is_empty()
    }

    /// What the old state has and the new one lacks.
    pub(super) fn between(id: ServiceId, old: &InstalledPort, new: &InstalledPort) -> Self {
        let frontends = old.frontends.iter().map(|(frontend, _)| *frontend);
        let backends = old.backends.iter().copied();
        Self {
            id,
            whole: false,
            frontends: frontends
                .filter(|frontend| new.kind_of(frontend).is_none())
                .collect(),
            backends: backends
                .filter(|(endpoint, id)| new.backend(endpoint) != Some(*id))
                .collect(),
            runs: old.runs().into_iter().filter(|run| !new.has_run(*run)).collect(),
            ranges: old
                .ranges
                .iter()
                .filter(|range| !new.ranges.contains(range))
                .copied()
                .collect(),
        }
    }
}

impl Planner {
    pub(super) fn take_away(&mut self, mut leftover: Leftover, operations: &mut Vec<Operation>) {
        let Some(port) = self.installed.get(&leftover.id) else {
            return;
        };
        if leftover.whole {
            leftover.frontends = port.frontends.iter().map(|(frontend, _)| *frontend).collect();
            leftover.backends = port.backends.clone();
            leftover.runs = port.runs();
            leftover.ranges = port.ranges.clone();
        }
        let protocol = port.protocol;
        // What another service port has taken over meanwhile is no longer ours to take away.
        leftover
            .frontends
            .retain(|frontend| self.owners.get(frontend) == Some(leftover.id));
        for frontend in &leftover.frontends {
            self.remove_frontend(frontend, operations);
        }
        if leftover.whole {
            self.close(leftover.id, operations);
        }
        for range in leftover.ranges {
            *self.range_counts.of_address(&range.address) -= 1;
            operations.push(Operation::RemoveRange(leftover.id, range));
        }
        operations.extend(
            leftover
                .backends
                .iter()
                .map(|(_, id)| Operation::KillBackend(*id)),
        );
        for frontend in &leftover.frontends {
            self.filter.release(frontend_bits(frontend), operations);
        }
        for (endpoint, id) in leftover.backends {
            self.filter.release(
                backend_bits(endpoint.address, endpoint.port, protocol),
                operations,
            );
            self.retired.backend(id);
        }
        for run in leftover.runs {
            self.retired.run(run);
        }
    }

    fn remove_frontend(&mut self, frontend: &Frontend, operations: &mut Vec<Operation>) {
        self.owners.remove(frontend);
        self.vips.touch(frontend.address);
        *self.frontend_counts.of(frontend) -= 1;
        operations.push(Operation::RemoveFrontend(*frontend));
    }

    /// Ends a service port; its id rests.
    fn close(&mut self, id: ServiceId, operations: &mut Vec<Operation>) {
        let Some(port) = self.installed.remove(&id) else {
            return;
        };
        let words = closed(port.identity.tag);
        if port.words != words {
            operations.push(Operation::PutService(id, words));
        }
        self.by_identity.remove(&port.identity.key);
        self.retired.service(id, port.identity);
    }

    /// Takes away what a restart found and nobody has asked for. To be called once after a restart, when every
    /// Service that exists has been applied.
    pub fn prune(&mut self) -> Plan {
        let mut plan = Plan::default();
        let operations = &mut plan.operations;
        let unclaimed = self.installed.iter().filter(|(_, port)| !port.claimed);
        let mut unclaimed: Vec<ServiceId> = unclaimed.map(|(id, _)| *id).collect();
        unclaimed.sort_unstable();
        for id in unclaimed {
            self.take_away(Leftover::whole(id), operations);
        }
        for frontend in std::mem::take(&mut self.stray_frontends) {
            *self.frontend_counts.of(&frontend) -= 1;
            operations.push(Operation::RemoveFrontend(frontend));
            self.filter.release(frontend_bits(&frontend), operations);
        }
        for (id, backend) in std::mem::take(&mut self.stray_backends) {
            operations.push(Operation::KillBackend(id));
            self.filter.release(
                backend_bits(backend.address.into(), backend.port, backend.protocol),
                operations,
            );
            self.retired.backend(id);
        }
        self.vips.touch_found();
        self.settle_vips(operations);
        self.filter.release_leftover(operations);
        plan.token = self.retired.end_plan();
        plan
    }
}
