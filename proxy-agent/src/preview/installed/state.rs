//! Service ports as maps hold them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proxy_common::layout::{
    Backend, BackendId, Config, FrontendKind, FrontendValue, HintFallback, Identity, ListWord, Service,
    ServiceId, When, uid_words,
};

use super::super::PortRange;
use crate::datapath::{DatapathError, dump};
use crate::name::ObjectName;
use crate::plan::{Capacity, Endpoint, Frontend, List, Planner, PortKey, Range, ServicePort, Snapshot};

/// All Services that the maps of a node hold.
#[derive(Debug)]
pub struct InstalledServices {
    /// In the order of names.
    pub(super) services: Vec<(ObjectName, Vec<ServicePort>)>,
    pub(super) planner: Planner,
    pub(super) snat: PortRange,
    owners: BTreeMap<Frontend, ObjectName>,
    uids: BTreeMap<ObjectName, Uid>,
}

/// A Service's UID: the maps hold its hash, and a text of ours stands for it.
#[derive(Clone, Debug)]
pub(super) struct Uid {
    words: [u64; 2],
    pub(super) text: Arc<str>,
}

impl Uid {
    fn of(words: [u64; 2]) -> Self {
        let text = format!("{:016x}{:016x}", words[0], words[1]).into();
        Self { words, text }
    }

    /// Whether it is the hash of this one.
    pub(super) fn is(&self, uid: &str) -> bool {
        uid_words(uid) == self.words
    }
}

impl InstalledServices {
    /// Reads the maps of an instance as they are.
    ///
    /// # Errors
    /// No agent runs or ran there, or the maps can't be read.
    pub fn read(instance: &Path) -> Result<Self, DatapathError> {
        let (snapshot, capacity, config) = dump::installed(instance)?;
        Ok(Self::of(snapshot, capacity, &config))
    }

    /// From what was read.
    pub fn of(mut snapshot: Snapshot, capacity: Capacity, config: &Config) -> Self {
        let mut uids = BTreeMap::new();
        for (_, identity) in &mut snapshot.identities {
            let uid = Uid::of(identity.uid);
            identity.uid = uid_words(&uid.text);
            if let Some(key) = PortKey::of(identity) {
                uids.insert(key.service, uid);
            }
        }
        let services = services(&snapshot, &uids);
        let ports = services.iter().flat_map(|(_, ports)| ports);
        let owners = ports.flat_map(|port| {
            let frontends = port.frontends.iter();
            frontends.map(|(frontend, _)| (*frontend, port.key.service.clone()))
        });
        let (mut planner, _) = Planner::adopt(&snapshot, capacity);
        // What is there is asked for, so that it can be taken away.
        planner.keep(&services);
        Self {
            owners: owners.collect(),
            planner,
            snat: PortRange::new(config.snat_first, config.snat_count),
            services,
            uids,
        }
    }

    pub(super) fn ports_of(&self, name: &ObjectName) -> &[ServicePort] {
        let found = self.services.binary_search_by(|(other, _)| other.cmp(name));
        found
            .ok()
            .and_then(|index| self.services.get(index))
            .map(|(_, ports)| &**ports)
            .unwrap_or_default()
    }

    pub(super) fn owner_of(&self, frontend: &Frontend) -> Option<&ObjectName> {
        self.owners.get(frontend)
    }

    pub(super) fn uid_of(&self, name: &ObjectName) -> Option<&Uid> {
        self.uids.get(name)
    }
}

fn services(snapshot: &Snapshot, uids: &BTreeMap<ObjectName, Uid>) -> Vec<(ObjectName, Vec<ServicePort>)> {
    let tables = Tables::of(snapshot);
    let mut services: BTreeMap<ObjectName, Vec<ServicePort>> = BTreeMap::new();
    for (id, identity) in &snapshot.identities {
        // The id of a port that is gone rests, without a frontend to its name.
        let Some(frontends) = tables.frontends.get(id) else {
            continue;
        };
        let Some(key) = PortKey::of(identity) else {
            continue;
        };
        let uid = uids.get(&key.service).map(|uid| uid.text.clone());
        let port = tables.port(*id, identity, key, uid.unwrap_or_default(), frontends);
        services.entry(port.key.service.clone()).or_default().push(port);
    }
    services.into_iter().collect()
}

/// A snapshot by service id.
struct Tables<'a> {
    services: BTreeMap<ServiceId, &'a Service>,
    slots: BTreeMap<u32, &'a [BackendId]>,
    backends: BTreeMap<ServiceId, Vec<(BackendId, &'a Backend)>>,
    frontends: BTreeMap<ServiceId, Vec<(Frontend, &'a FrontendValue)>>,
    ranges: BTreeMap<ServiceId, Vec<(Range, u32)>>,
}

impl<'a> Tables<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let mut tables = Self {
            services: snapshot
                .services
                .iter()
                .map(|(id, service)| (*id, service))
                .collect(),
            slots: snapshot
                .slots
                .iter()
                .map(|(first, run)| (*first, &**run))
                .collect(),
            backends: BTreeMap::new(),
            frontends: BTreeMap::new(),
            ranges: BTreeMap::new(),
        };
        for (id, backend) in snapshot.backends.iter().filter(|(_, backend)| backend.is_alive()) {
            tables
                .backends
                .entry(backend.service)
                .or_default()
                .push((*id, backend));
        }
        for (frontend, value) in &snapshot.frontends {
            tables
                .frontends
                .entry(value.service)
                .or_default()
                .push((*frontend, value));
        }
        for (id, range, tag) in &snapshot.ranges {
            tables.ranges.entry(*id).or_default().push((*range, *tag));
        }
        tables
    }

    fn port(
        &self,
        id: ServiceId,
        identity: &Identity,
        key: PortKey,
        uid: Arc<str>,
        frontends: &[(Frontend, &FrontendValue)],
    ) -> ServicePort {
        let service = self.services.get(&id).copied().copied().unwrap_or_default();
        let mut backends: Vec<(Endpoint, BackendId)> = self
            .backends
            .get(&id)
            .into_iter()
            .flatten()
            .map(|(id, backend)| (Endpoint::of(backend), *id))
            .collect();
        backends.sort_unstable_by_key(|(endpoint, _)| (endpoint.address, endpoint.port.number()));
        let tag = identity.service_tag;
        let kind =
            |value: &FrontendValue| FrontendKind::from_byte(value.kind).filter(|_| value.service_tag == tag);
        let ranges = self.ranges.get(&id).into_iter().flatten();
        ServicePort {
            key,
            uid,
            frontends: frontends
                .iter()
                .filter_map(|(frontend, value)| Some((*frontend, kind(value)?)))
                .collect(),
            internal: self.list(service.internal, &backends),
            external: self.list(service.external, &backends),
            shortcut: self.list(service.shortcut, &backends),
            endpoints: backends.into_iter().map(|(endpoint, _)| endpoint).collect(),
            affinity: service.affinity.seconds(),
            hints: HintFallback::from_fields(identity.hint_fallback, identity.without_hints),
            source_ranges: ranges
                .filter(|(_, owner)| *owner == u32::from(tag))
                .map(|(range, _)| *range)
                .collect(),
        }
    }

    fn list(&self, word: ListWord, backends: &[(Endpoint, BackendId)]) -> List {
        let run = self.slots.get(&word.first()).copied().unwrap_or_default();
        let run = run.get(..word.count() as usize).unwrap_or_default();
        let members = (0..).zip(backends);
        let members: Vec<u32> = members
            .filter(|(_, (_, id))| run.contains(id))
            .map(|(index, _)| index)
            .collect();
        List {
            when_empty: if members.is_empty() {
                word.when_empty()
            } else {
                When::Drop
            },
            members,
        }
    }
}
