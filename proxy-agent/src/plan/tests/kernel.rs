//! Maps as plain collections, which refuse whatever a reader could notice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proxy_common::layout::{
    Backend, BackendId, ChoiceRule, FilterBit, FrontendKind, FrontendValue, Identity, ListWord, Networks,
    Service, ServiceId, Vip, When,
};

use super::super::filter::{backend_bits, frontend_bits};
use super::super::installed::words;
use super::super::rule::in_any_order;
use super::super::{Capacity, Endpoint, Frontend, List, Operation, Range, ServicePort, Snapshot};

/// Where a frontend leads: its kind and its three lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    kind: u8,
    lists: [ListMeaning; 3],
    /// Seconds.
    affinity: u32,
    /// Who is let in, if not everyone.
    guard: Option<BTreeSet<Range>>,
}

/// Endpoints, the rule and the table by which one of them is chosen, or what happens without.
type ListMeaning = Result<(BTreeSet<Endpoint>, ChoiceRule, Vec<Endpoint>), u8>;

fn is_guarded(kind: u8) -> bool {
    kind == FrontendKind::GuardedLoadBalancer as u8
}

fn list_meaning(
    endpoints: BTreeSet<Endpoint>,
    when: When,
    rule: ChoiceRule,
    table: Vec<Endpoint>,
) -> ListMeaning {
    if endpoints.is_empty() {
        Err(when as u8)
    } else {
        Ok((endpoints, rule, table))
    }
}

/// What a list of a service port should mean.
fn meaning_of(port: &ServicePort, list: &List) -> ListMeaning {
    let (rule, table) = port.table(list);
    list_meaning(
        port.members(list).copied().collect(),
        list.when_empty,
        rule,
        table,
    )
}

impl Meaning {
    /// What the frontends of a service port should mean.
    pub(super) fn of_port(port: &ServicePort) -> Vec<(Frontend, Self)> {
        let list = |list: &List| meaning_of(port, list);
        let lists = [list(&port.internal), list(&port.external), list(&port.shortcut)];
        let meaning = |kind: FrontendKind| Self {
            kind: kind as u8,
            lists: lists.clone(),
            affinity: port.affinity,
            guard: is_guarded(kind as u8).then(|| port.source_ranges.iter().copied().collect()),
        };
        port.frontends
            .iter()
            .map(|(frontend, kind)| (*frontend, meaning(*kind)))
            .collect()
    }

    /// Each part is one of theirs.
    pub(super) fn is_made_of(&self, others: &[&Self]) -> bool {
        // While ranges change, the Service's old ones are let in as well; a guarded frontend is never closed to those who
        // may use it before and after.
        let is_guarded_well = self.guard.as_ref().is_none_or(|guard| {
            let mut guards = others.iter().filter_map(|other| other.guard.as_ref());
            guards.any(|other| other.is_subset(guard))
        });
        is_guarded_well
            && others.iter().any(|other| other.kind == self.kind)
            && others.iter().any(|other| other.affinity == self.affinity)
            && (0..3).all(|index| others.iter().any(|other| other.lists[index] == self.lists[index]))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    capacity: Capacity,
    pub(crate) identities: BTreeMap<ServiceId, Identity>,
    pub(super) services: BTreeMap<ServiceId, Service>,
    slots: Vec<BackendId>,
    pub(crate) backends: BTreeMap<BackendId, Backend>,
    pub(crate) frontends: BTreeMap<Frontend, FrontendValue>,
    vips: BTreeMap<IpAddr, Vip>,
    networks: Networks,
    ranges: BTreeMap<(ServiceId, Range), u16>,
    filter: BTreeSet<FilterBit>,
    /// Slots and backends that a reader may still hold.
    held_slots: BTreeSet<u32>,
    held_backends: BTreeSet<BackendId>,
}

impl Kernel {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            identities: BTreeMap::new(),
            services: BTreeMap::new(),
            slots: vec![BackendId(0); capacity.slots as usize],
            backends: BTreeMap::new(),
            frontends: BTreeMap::new(),
            ranges: BTreeMap::new(),
            vips: BTreeMap::new(),
            networks: Networks::default(),
            filter: BTreeSet::new(),
            held_slots: BTreeSet::new(),
            held_backends: BTreeSet::new(),
        }
    }

    pub(crate) fn grace(&mut self) {
        self.held_slots.clear();
        self.held_backends.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        let dead = self.backends.values().all(|backend| !backend.is_alive());
        dead && self.identities.is_empty()
            && self.ranges.is_empty()
            && self.frontends.is_empty()
            && self.vips.is_empty()
            && self.filter.is_empty()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let services: Vec<_> = self
            .identities
            .keys()
            .map(|id| (*id, self.services.get(id).copied().unwrap_or_default()))
            .collect();
        let mut slots = BTreeMap::new();
        for word in services
            .iter()
            .flat_map(|(_, service)| words(service))
            .filter(|word| word.count() > 0)
        {
            let (backends, table) = self.run(word);
            slots.insert(word.first(), [backends, table].concat());
        }
        let mut filter: BTreeMap<u32, u64> = BTreeMap::new();
        for bit in &self.filter {
            *filter.entry(bit.word()).or_default() |= bit.mask();
        }
        Snapshot {
            identities: self.identities.clone().into_iter().collect(),
            services,
            slots: slots.into_iter().collect(),
            backends: self.backends.clone().into_iter().collect(),
            frontends: self.frontends.clone().into_iter().collect(),
            ranges: self
                .ranges
                .iter()
                .map(|((id, range), tag)| (*id, *range, u32::from(*tag)))
                .collect(),
            vips: self.vips.clone().into_iter().collect(),
            networks: self.networks,
            filter: filter.into_iter().collect(),
        }
    }

    fn ranges_of(&self, service: ServiceId, service_tag: u16) -> BTreeSet<Range> {
        self.ranges
            .iter()
            .filter(|((id, _), tag)| *id == service && **tag == service_tag)
            .map(|((_, range), _)| *range)
            .collect()
    }

    /// What every frontend means to a reader now.
    pub(crate) fn meanings(&self) -> BTreeMap<Frontend, Meaning> {
        let meaning = |value: &FrontendValue| Meaning {
            kind: value.kind,
            lists: words(&self.services[&value.service]).map(|word| self.list(word)),
            affinity: self.services[&value.service].affinity.seconds(),
            guard: is_guarded(value.kind).then(|| self.ranges_of(value.service, value.service_tag)),
        };
        self.frontends
            .iter()
            .map(|(frontend, value)| (*frontend, meaning(value)))
            .collect()
    }

    fn list(&self, word: ListWord) -> ListMeaning {
        let endpoint = |id: &BackendId| {
            let backend = &self.backends[id];
            assert!(backend.is_alive(), "{word:?} names a dead backend");
            Endpoint {
                address: backend.address.into(),
                port: backend.port,
                local: backend.is_local(),
            }
        };
        let (ids, table) = self.run(word);
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?} can't be searched");
        let entries = table.get(1..).unwrap_or_default();
        assert!(
            entries.iter().all(|id| ids.contains(id)),
            "{entries:?} of {ids:?}"
        );
        let table = in_any_order(word.rule(), entries.iter().map(endpoint).collect());
        list_meaning(
            ids.iter().map(endpoint).collect(),
            word.when_empty(),
            word.rule(),
            table,
        )
    }

    /// A list's backends, and what stands behind them.
    fn run(&self, word: ListWord) -> (&[BackendId], &[BackendId]) {
        if word.count() == 0 {
            return Default::default();
        }
        word.split(&self.slots[word.first() as usize..]).unwrap()
    }

    fn slots_of(&self, word: ListWord) -> std::ops::Range<u32> {
        let (backends, table) = self.run(word);
        word.first()..word.first() + (backends.len() + table.len()) as u32
    }

    fn shown_lists(&self) -> impl Iterator<Item = ListWord> {
        let shown = self.identities.keys().filter_map(|id| self.services.get(id));
        shown.flat_map(words).filter(|word| word.count() > 0)
    }

    fn shown_slots(&self) -> BTreeSet<u32> {
        self.shown_lists().flat_map(|word| self.slots_of(word)).collect()
    }

    pub(crate) fn carry_out(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.step(operation);
            self.check();
        }
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::PutIdentity(id, identity) => {
                assert!(id.0 > 0 && id.0 < self.capacity.services);
                let owner = |identity: &Identity| (identity.uid, identity.name_hash, identity.service_tag);
                match self.identities.insert(*id, **identity) {
                    Some(before) => {
                        assert_eq!(owner(&before), owner(identity), "an id has one owner");
                        assert_ne!(before, **identity, "a write that changes nothing");
                    }
                    None => _ = self.services.remove(id),
                }
            }
            Operation::RemoveIdentity(id) => {
                assert!(self.identities.remove(id).is_some());
                assert!(self.frontends.values().all(|value| value.service != *id));
            }
            Operation::SetFilter(bit) => {
                self.filter.insert(*bit);
            }
            Operation::ReleaseFilter(bit) => assert!(self.filter.remove(bit)),
            Operation::PutBackend(id, backend) => self.put_backend(*id, backend),
            Operation::KillBackend(id) => self.kill(*id),
            Operation::PutSlots { first, backends } => self.put_slots(*first, backends),
            Operation::PutRange(id, range, tag) => {
                assert!(self.identities.contains_key(id));
                assert_eq!(self.ranges.insert((*id, *range), *tag), None);
            }
            Operation::RemoveRange(id, range) => assert!(self.ranges.remove(&(*id, *range)).is_some()),
            Operation::PutService(id, service) => self.put_service(*id, *service),
            Operation::PutFrontend(frontend, value) => {
                assert!(
                    self.identities.contains_key(&value.service)
                        && self.services.contains_key(&value.service)
                );
                self.frontends.insert(*frontend, *value);
            }
            Operation::RemoveFrontend(frontend) => assert!(self.frontends.remove(frontend).is_some()),
            Operation::PutVip(address, vip) => {
                let has_frontend = self.frontends.keys().any(|frontend| frontend.address == *address);
                assert!(has_frontend, "nothing is served at {address}");
                assert_ne!(
                    self.vips.insert(*address, *vip),
                    Some(*vip),
                    "a write that changes nothing"
                );
            }
            Operation::RemoveVip(address) => assert!(self.vips.remove(address).is_some()),
            Operation::PutNetworks(networks) => self.networks = **networks,
        }
    }

    fn put_backend(&mut self, id: BackendId, backend: &Backend) {
        assert!(id.0 > 0 && id.0 < self.capacity.backends && !self.held_backends.contains(&id));
        let before = self.backends.insert(id, *backend).unwrap_or_default();
        assert!(!before.is_alive(), "a live backend never changes in place");
        assert!(backend.life > before.last_life && backend.last_life == 0);
        assert!(self.identities.contains_key(&backend.service));
    }

    fn kill(&mut self, id: BackendId) {
        let shows = |word: &ListWord| self.run(*word).0.contains(&id);
        let shown: Vec<ListWord> = self.shown_lists().filter(shows).collect();
        assert!(shown.is_empty(), "{shown:?} still show {id:?}");
        let backend = self.backends.get_mut(&id).unwrap();
        assert!(backend.is_alive());
        backend.last_life = std::mem::take(&mut backend.life);
        self.held_backends.insert(id);
    }

    fn put_slots(&mut self, first: u32, backends: &[BackendId]) {
        let shown = self.shown_slots();
        for (slot, id) in (first..).zip(backends) {
            assert!(!shown.contains(&slot), "slot {slot} is shown");
            assert!(!self.held_slots.contains(&slot), "slot {slot} may still be read");
            self.slots[slot as usize] = *id;
        }
    }

    fn put_service(&mut self, id: ServiceId, service: Service) {
        let identity = self.identities[&id];
        assert!(
            words(&service)
                .iter()
                .all(|word| word.tag() == identity.service_tag && word.tag() != 0)
        );
        let before = self.services.insert(id, service).unwrap_or_default();
        assert_ne!(before, service, "a write that changes nothing");
        let held = words(&before).into_iter().flat_map(|word| self.slots_of(word));
        let held: Vec<u32> = held.collect();
        self.held_slots.extend(held);
        let shown = self.shown_slots();
        self.held_slots.retain(|slot| !shown.contains(slot));
        let mut owners = BTreeMap::new();
        for (id, service) in &self.services {
            for slot in words(service).into_iter().flat_map(|word| self.slots_of(word)) {
                assert_eq!(
                    *owners.entry(slot).or_insert(*id),
                    *id,
                    "slot {slot} has two owners"
                );
            }
        }
    }

    /// What must hold after every operation.
    fn check(&self) {
        let entries = |v4: bool| {
            self.frontends
                .keys()
                .filter(|key| key.address.is_ipv4() == v4)
                .count() as u32
        };
        let ranges = |v4: bool| {
            let keys = self.ranges.keys();
            keys.filter(|(_, range)| range.address.is_ipv4() == v4).count() as u32
        };
        assert!(ranges(true) <= self.capacity.ranges4 && ranges(false) <= self.capacity.ranges6);
        assert!(entries(true) <= self.capacity.frontends4 && entries(false) <= self.capacity.frontends6);
        for (frontend, value) in &self.frontends {
            let mut bits = frontend_bits(frontend);
            assert!(
                bits.all(|bit| self.filter.contains(&bit)),
                "the filter says no to {frontend:?}"
            );
            let tags = words(&self.services[&value.service]).map(ListWord::tag);
            assert_eq!(tags, [value.service_tag; 3]);
        }
        for backend in self.backends.values().filter(|backend| backend.is_alive()) {
            let bits = backend_bits(backend.address.into(), backend.port, backend.protocol);
            assert!(
                bits.iter().all(|bit| self.filter.contains(bit)),
                "the filter says no to {backend:?}"
            );
        }
        self.meanings();
    }
}
