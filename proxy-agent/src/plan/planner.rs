//! What is installed, and the way from there to what is desired.

use std::collections::BTreeSet;

use foldhash::HashMap;
use proxy_common::layout::{Backend, BackendId, Networks, ServiceId};

use super::backends::Backends;
use super::filter::Filter;
use super::ids::Ids;
use super::installed::{IdentityKey, InstalledPort};
use super::owners::Owners;
use super::retire::Retired;
use super::slots::{Run, Slots};
use super::takeaway::Leftover;
use super::vips::Vips;
use super::{Capacity, Frontend, Operation, PlanError, Range, ServicePort, Token};
use crate::name::ObjectName;

/// What most Services come to at most; more makes the list grow.
const OPERATIONS_OF_ONE: usize = 16;

/// Owner of all ids, slots, filter bits and frontends. It holds what the maps hold once its plans are carried out.
#[derive(Debug)]
pub struct Planner {
    pub(super) capacity: Capacity,
    pub(super) ids: Ids,
    pub(super) backends: Backends,
    pub(super) slots: Slots,
    pub(super) filter: Filter,
    pub(super) owners: Owners,
    pub(super) vips: Vips,
    /// As NETWORKS holds them.
    pub(super) networks: Networks,
    /// In boxes: a table of what is this large is half empty most of the time.
    pub(super) installed: HashMap<ServiceId, Box<InstalledPort>>,
    pub(super) by_identity: HashMap<IdentityKey, ServiceId>,
    pub(super) by_service: HashMap<ObjectName, Vec<ServiceId>>,
    pub(super) retired: Retired,
    /// What the plan that is being made no longer needs.
    pub(super) leftovers: Vec<Leftover>,
    /// Entries of FRONTENDS4 and FRONTENDS6.
    pub(super) frontend_counts: FrontendCounts,
    /// Entries of SOURCE_RANGES4 and SOURCE_RANGES6.
    pub(super) range_counts: FrontendCounts,
    /// Clients whose packets are never handed on whole.
    pub(super) exempt: BTreeSet<Range>,
    /// What a restart found and no service port owns.
    pub(super) stray_frontends: BTreeSet<Frontend>,
    pub(super) stray_backends: Vec<(BackendId, Backend)>,
}

/// How many frontends or ranges there are of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FrontendCounts {
    pub(super) v4: u32,
    pub(super) v6: u32,
}

impl FrontendCounts {
    pub(super) fn of(&mut self, frontend: &Frontend) -> &mut u32 {
        self.of_address(&frontend.address)
    }

    pub(super) fn of_address(&mut self, address: &std::net::IpAddr) -> &mut u32 {
        if address.is_ipv4() {
            &mut self.v4
        } else {
            &mut self.v6
        }
    }
}

/// Writes to carry out in their order.
#[derive(Debug, Default)]
#[must_use]
pub struct Plan {
    /// The writes; none if all is as it should be.
    pub operations: Vec<Operation>,
    /// If something was taken away: give it to [`Planner::grace_passed`] and to [`Planner::swept`].
    pub token: Option<Token>,
    /// Services that stay as they were.
    pub failed: Vec<PlanError>,
}

impl Planner {
    /// From what is installed to these ports of these Services; no ports: the Service is gone. Each Service is taken
    /// over as a whole or not at all. Everything is put before anything is taken away, so that a frontend that moves
    /// from one Service to another does so in one update.
    pub fn apply(&mut self, batch: &[(ObjectName, Vec<ServicePort>)]) -> Plan {
        let mut plan = self.put_all(batch);
        let rest = self.take_rest_away();
        plan.operations.extend(rest.operations);
        plan.token = rest.token;
        plan
    }

    /// The maps hold more from now on, and all that they held where it was.
    pub fn grow(&mut self, capacity: Capacity) {
        self.ids.grow(capacity.services);
        self.backends.grow(capacity.backends);
        let (before, after) = (self.capacity.slots, capacity.slots);
        if after > before {
            self.slots.give_back(Run {
                first: before,
                length: after - before,
            });
        }
        self.capacity = capacity;
    }

    /// At the start, when nothing is installed: makes room for this many Services, so that no table grows step by step.
    pub fn make_room(&mut self, services: usize) {
        if self.installed.is_empty() {
            self.installed.reserve(services);
            self.by_identity.reserve(services);
            self.by_service.reserve(services);
            self.owners.reserve(services);
            self.vips.make_room(services);
        }
    }

    /// The first half of [`Self::apply`], of a part of a large batch: what is new is put.
    pub fn put_all(&mut self, batch: &[(ObjectName, Vec<ServicePort>)]) -> Plan {
        let mut plan = Plan::default();
        plan.operations.reserve(batch.len() * OPERATIONS_OF_ONE);
        for (name, ports) in batch {
            match self.reserve(name, ports) {
                Ok(drafts) => self.put(name, ports, drafts, &mut plan.operations),
                Err(error) => plan.failed.push(error),
            }
        }
        self.settle_vips(&mut plan.operations);
        plan
    }

    /// The second half, after all parts: what is no longer needed is taken away.
    pub fn take_rest_away(&mut self) -> Plan {
        let mut plan = Plan::default();
        for leftover in std::mem::take(&mut self.leftovers) {
            self.take_away(leftover, &mut plan.operations);
        }
        self.settle_vips(&mut plan.operations);
        plan.token = self.retired.end_plan();
        plan
    }
}
