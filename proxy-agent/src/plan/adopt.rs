//! Going on from what the maps hold: the same ids, slots and flows.

use std::collections::BTreeSet;

use foldhash::HashMap;
use proxy_common::layout::{
    Backend, BackendId, FrontendValue, ListWord, NEVER_HANDED_ON, NEVER_HANDED_ON_TAG, ServiceId,
};

use super::backends::Backends;
use super::filter::{Filter, backend_bits, frontend_bits};
use super::ids::Ids;
use super::installed::{InstalledPort, Listed, PortIdentity, fingerprint, frontend_value, words};
use super::owners::Owners;
use super::planner::FrontendCounts;
use super::retire::Retired;
use super::slots::{Run, Slots};
use super::vips::Vips;
use super::{Capacity, Endpoint, Frontend, Operation, Planner, Range, Snapshot};

impl Planner {
    /// Takes over what the maps hold; empty maps are an empty snapshot. The operations repair what must not wait:
    /// filter bits that are missing, tags of frontends that are not theirs. No program may hold slots or ids from before (wait for a grace period first).
    pub fn adopt(snapshot: &Snapshot, capacity: Capacity) -> (Self, Vec<Operation>) {
        let mut used: Vec<u32> = snapshot.identities.iter().map(|(id, _)| id.0).collect();
        used.sort_unstable();
        let mut planner = Self {
            capacity,
            ids: Ids::new(capacity.services, &used),
            backends: Backends::adopt(capacity.backends, &snapshot.backends),
            slots: Slots::new(capacity.slots),
            filter: Filter::adopt(&snapshot.filter),
            owners: Owners::default(),
            vips: Vips::adopt(&snapshot.vips),
            networks: snapshot.networks,
            installed: HashMap::default(),
            by_identity: HashMap::default(),
            by_service: HashMap::default(),
            retired: Retired::default(),
            leftovers: Vec::new(),
            frontend_counts: FrontendCounts::default(),
            range_counts: FrontendCounts::default(),
            exempt: BTreeSet::new(),
            stray_frontends: BTreeSet::new(),
            stray_backends: Vec::new(),
        };
        let mut repairs = Vec::new();
        planner.adopt_services(snapshot);
        for (id, backend) in snapshot.backends.iter().filter(|(_, backend)| backend.is_alive()) {
            planner.adopt_backend(*id, backend, &mut repairs);
        }
        for (id, range, tag) in &snapshot.ranges {
            planner.adopt_range(*id, *range, *tag, &mut repairs);
        }
        for (frontend, value) in &snapshot.frontends {
            planner.adopt_frontend(*frontend, value, &mut repairs);
        }
        (planner, repairs)
    }

    /// Takes over what the maps hold now, in place of what they were thought to hold; tokens stay in order.
    pub fn adopt_again(&mut self, snapshot: &Snapshot) -> Vec<Operation> {
        let (mut planner, repairs) = Self::adopt(snapshot, self.capacity);
        planner.retired.go_on_from(&self.retired);
        *self = planner;
        repairs
    }

    fn adopt_services(&mut self, snapshot: &Snapshot) {
        let services: HashMap<ServiceId, _> = snapshot.services.iter().copied().collect();
        let slots: HashMap<u32, &[BackendId]> = snapshot
            .slots
            .iter()
            .map(|(first, members)| (*first, &members[..]))
            .collect();
        for (id, identity) in &snapshot.identities {
            let service = services.get(id).copied().unwrap_or_default();
            let mut port = InstalledPort::new(PortIdentity::from(identity), service);
            for (index, word) in words(&service).into_iter().enumerate() {
                if word.tag() == identity.service_tag {
                    port.lists[index] = self.adopt_list(word, &port, &slots);
                }
            }
            self.by_identity.insert(port.identity.key, *id);
            self.installed.insert(*id, Box::new(port));
        }
    }

    /// A list without a run of its own is taken for none, so that it is written anew.
    fn adopt_list(
        &mut self,
        word: ListWord,
        port: &InstalledPort,
        slots: &HashMap<u32, &[BackendId]>,
    ) -> Listed {
        let found = slots.get(&word.first()).and_then(|slots| word.split(slots));
        let Some((members, table)) = found.filter(|(members, _)| !members.is_empty()) else {
            return Listed::default();
        };
        let run = Run {
            first: word.first(),
            length: (members.len() + table.len()) as u32,
        };
        let is_shared = port.runs().contains(&run);
        if !is_shared && !self.slots.claim(run) {
            return Listed::default();
        }
        Listed {
            run: Some(run),
            rule: word.rule(),
            members: members.into(),
            table: fingerprint(table),
        }
    }

    fn adopt_backend(&mut self, id: BackendId, backend: &Backend, repairs: &mut Vec<Operation>) {
        let Backend {
            address,
            port: number,
            protocol,
            service,
            ..
        } = *backend;
        let endpoint = Endpoint {
            address: address.into(),
            port: number,
            local: backend.is_local(),
        };
        self.filter
            .adopt_user(backend_bits(endpoint.address, number, protocol), repairs);
        let port = self.installed.get_mut(&service);
        let Some(port) = port.filter(|port| port.backend(&endpoint).is_none()) else {
            self.stray_backends.push((id, *backend));
            return;
        };
        port.protocol = protocol;
        let place = port.backends.partition_point(|(other, _)| *other < endpoint);
        port.backends.insert(place, (endpoint, id));
    }

    /// A range of nobody's must not wait: the next owner of the id would let its sources in.
    fn adopt_range(&mut self, id: ServiceId, range: Range, tag: u32, repairs: &mut Vec<Operation>) {
        if id == NEVER_HANDED_ON && tag == u32::from(NEVER_HANDED_ON_TAG) {
            *self.range_counts.of_address(&range.address) += 1;
            self.exempt.insert(range);
            return;
        }
        let port = self.installed.get_mut(&id);
        let Some(port) = port.filter(|port| u32::from(port.identity.tag) == tag) else {
            repairs.push(Operation::RemoveRange(id, range));
            return;
        };
        *self.range_counts.of_address(&range.address) += 1;
        let place = port.ranges.partition_point(|other| *other < range);
        port.ranges.insert(place, range);
    }

    fn adopt_frontend(&mut self, frontend: Frontend, value: &FrontendValue, repairs: &mut Vec<Operation>) {
        self.filter.adopt_user(frontend_bits(&frontend), repairs);
        *self.frontend_counts.of(&frontend) += 1;
        let port = self.installed.get_mut(&value.service);
        let Some(port) = port.filter(|port| port.identity.tag == value.service_tag) else {
            self.stray_frontends.insert(frontend);
            return;
        };
        let whole = frontend_value(&frontend, value.service, value.service_tag, value.kind);
        if *value != whole {
            // No program would take it for this frontend's.
            repairs.push(Operation::PutFrontend(frontend, whole));
        }
        let place = port.frontends.partition_point(|(other, _)| *other < frontend);
        port.frontends.insert(place, (frontend, value.kind));
        self.vips.adopt_frontend(&frontend);
        self.owners.insert(frontend, value.service);
    }
}
