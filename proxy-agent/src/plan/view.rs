//! What the maps held at one time, by the keys that others ask with.

use std::collections::BTreeSet;

use foldhash::HashMap;
use proxy_common::layout::{
    Backend, BackendId, FrontendKind, FrontendValue, Identity, ListWord, Service, ServiceId,
};

use super::{Endpoint, Frontend, Range, Snapshot};

/// A snapshot by its keys.
#[derive(Debug)]
pub struct View<'a> {
    services: HashMap<ServiceId, &'a Service>,
    runs: HashMap<u32, &'a [BackendId]>,
    backends: HashMap<BackendId, &'a Backend>,
    /// Of living ones, by their owner.
    endpoints: HashMap<ServiceId, Vec<(Endpoint, BackendId)>>,
    frontends: HashMap<ServiceId, Vec<(Frontend, &'a FrontendValue)>>,
    /// Those that carry their owner's tag.
    ranges: HashMap<ServiceId, BTreeSet<Range>>,
}

impl<'a> View<'a> {
    /// Of these maps.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let identities = snapshot.identities.iter();
        let tags: HashMap<ServiceId, u16> = identities
            .map(|(id, identity)| (*id, identity.service_tag))
            .collect();
        let services = snapshot.services.iter();
        let slots = snapshot.slots.iter();
        let backends = snapshot.backends.iter();
        let mut view = Self {
            services: services.map(|(id, service)| (*id, service)).collect(),
            runs: slots.map(|(first, run)| (*first, &run[..])).collect(),
            backends: backends.map(|(id, backend)| (*id, backend)).collect(),
            endpoints: HashMap::default(),
            frontends: HashMap::default(),
            ranges: HashMap::default(),
        };
        for (id, backend) in snapshot.backends.iter().filter(|(_, backend)| backend.is_alive()) {
            let endpoints = view.endpoints.entry(backend.service).or_default();
            endpoints.push((Endpoint::of(backend), *id));
        }
        for (frontend, value) in &snapshot.frontends {
            let frontends = view.frontends.entry(value.service).or_default();
            frontends.push((*frontend, value));
        }
        for (id, range, tag) in &snapshot.ranges {
            if tags.get(id).copied().map(u32::from) == Some(*tag) {
                view.ranges.entry(*id).or_default().insert(*range);
            }
        }
        view
    }

    /// A service port's words; of one that has none, what an empty entry says.
    pub fn service(&self, id: ServiceId) -> Service {
        self.services.get(&id).copied().copied().unwrap_or_default()
    }

    /// The slots that a list shows; none if they were not read.
    pub fn run(&self, word: ListWord) -> &'a [BackendId] {
        let run = self.runs.get(&word.first()).copied().unwrap_or_default();
        run.get(..word.count() as usize).unwrap_or_default()
    }

    /// The table that a list is chosen from; none if it has none, or if it was not read whole.
    pub fn table(&self, word: ListWord) -> &'a [BackendId] {
        let run = self.runs.get(&word.first()).copied().unwrap_or_default();
        let behind = word.split(run).map_or(&[][..], |(_, behind)| behind);
        behind.get(1..).unwrap_or_default()
    }

    /// What a backend stands for, while it lives.
    pub fn endpoint(&self, id: BackendId) -> Option<Endpoint> {
        let backend = self.backends.get(&id).filter(|backend| backend.is_alive());
        backend.map(|backend| Endpoint::of(backend))
    }

    /// The endpoints that serve for a service port, with their ids, as they were read.
    pub fn endpoints(&self, id: ServiceId) -> &[(Endpoint, BackendId)] {
        self.endpoints.get(&id).map(|all| &all[..]).unwrap_or_default()
    }

    /// The frontends that lead to a service port, whatever tag they carry.
    pub fn frontends(&self, id: ServiceId) -> &[(Frontend, &'a FrontendValue)] {
        self.frontends.get(&id).map(|all| &all[..]).unwrap_or_default()
    }

    /// Those that carry its tag, with their kinds.
    pub fn kinds(&self, id: ServiceId, identity: &Identity) -> Vec<(Frontend, FrontendKind)> {
        let frontends = self.frontends(id).iter();
        let own = frontends.filter(|(_, value)| value.service_tag == identity.service_tag);
        own.filter_map(|(frontend, value)| Some((*frontend, FrontendKind::from_byte(value.kind)?)))
            .collect()
    }

    /// The ranges that a service port lets in.
    pub fn ranges(&self, id: ServiceId) -> BTreeSet<Range> {
        self.ranges.get(&id).cloned().unwrap_or_default()
    }
}
