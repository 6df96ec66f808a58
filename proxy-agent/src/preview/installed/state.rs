//! Service ports as maps hold them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proxy_common::layout::{
    BackendId, ChoiceRule, Config, HintFallback, Identity, ListWord, Service, ServiceId, When, uid_words,
};

use super::super::PortRange;
use crate::datapath::{DatapathError, dump};
use crate::name::ObjectName;
use crate::plan::{
    Capacity, Endpoint, Forwarding, Frontend, List, Planner, PortKey, Rule, ServicePort, Snapshot, TableSize,
    View,
};

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
    let view = View::of(snapshot);
    let mut services: BTreeMap<ObjectName, Vec<ServicePort>> = BTreeMap::new();
    for (id, identity) in &snapshot.identities {
        // The id of a port that is gone rests, without a frontend to its name.
        if view.frontends(*id).is_empty() {
            continue;
        }
        let Some(key) = PortKey::of(identity) else {
            continue;
        };
        let uid = uids.get(&key.service).map(|uid| uid.text.clone());
        let port = port(&view, *id, identity, key, uid.unwrap_or_default());
        services.entry(port.key.service.clone()).or_default().push(port);
    }
    services.into_iter().collect()
}

fn port(view: &View<'_>, id: ServiceId, identity: &Identity, key: PortKey, uid: Arc<str>) -> ServicePort {
    let service = view.service(id);
    let mut backends = view.endpoints(id).to_vec();
    backends.sort_unstable_by_key(|(endpoint, _)| (endpoint.address, endpoint.port.number()));
    ServicePort {
        key,
        uid,
        frontends: view.kinds(id, identity),
        internal: list(view, service.internal, &backends),
        external: list(view, service.external, &backends),
        shortcut: list(view, service.shortcut, &backends),
        endpoints: backends.into_iter().map(|(endpoint, _)| endpoint).collect(),
        rule: rule(view, &service),
        weights: Vec::new(),
        slow_start: 0,
        forwarding: match service.affinity.hands_on() {
            true => Forwarding::Dsr,
            false => Forwarding::Snat,
        },
        affinity: service.affinity.seconds(),
        hints: HintFallback::from_fields(identity.hint_fallback, identity.without_hints),
        source_ranges: view.ranges(id).into_iter().collect(),
    }
}

/// The rule of its lists; what they were weighed with is not told.
fn rule(view: &View<'_>, service: &Service) -> Rule {
    let lists = [service.internal, service.external, service.shortcut];
    let Some(word) = lists.into_iter().find(|word| word.count() > 0) else {
        return Rule::Random;
    };
    match word.rule() {
        ChoiceRule::Random | ChoiceRule::Weighted => Rule::Random,
        ChoiceRule::LeastConnections => Rule::LeastConnections,
        ChoiceRule::Maglev => {
            let size = TableSize::new(view.table(word).len() as u32);
            Rule::Maglev(size.unwrap_or_default())
        }
    }
}

fn list(view: &View<'_>, word: ListWord, backends: &[(Endpoint, BackendId)]) -> List {
    let run = view.run(word);
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
