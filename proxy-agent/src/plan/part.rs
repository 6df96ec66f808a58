//! What of the maps belongs to some service ports, so that they can be looked at without the rest.

use std::collections::BTreeSet;

use proxy_common::layout::{
    Backend, BackendId, FilterBit, ListWord, NEVER_HANDED_ON, NEVER_HANDED_ON_TAG, ServiceId,
};

use super::filter::{backend_bits, frontend_bits};
use super::installed::{PortIdentity, words};
use super::{Endpoint, Frontend, Planner, Range, ServicePort, Snapshot};

/// A part of the maps, by the keys of what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Of IDENTITY and SERVICES, with the runs of SLOTS that these show and the backends in them.
    pub services: BTreeSet<ServiceId>,
    /// More of BACKENDS.
    pub backends: BTreeSet<BackendId>,
    /// Of FRONTENDS4 and FRONTENDS6.
    pub frontends: BTreeSet<Frontend>,
    /// Words of PREFILTER.
    pub words: BTreeSet<u32>,
}

impl Part {
    /// The lists of a service port that name slots.
    pub fn lists(service: &proxy_common::layout::Service) -> impl Iterator<Item = ListWord> + use<> {
        words(service).into_iter().filter(|word| word.count() > 0)
    }

    /// This part of what was read as a whole, without ranges.
    pub fn of(&self, mut whole: Snapshot) -> Snapshot {
        whole.identities.retain(|(id, _)| self.services.contains(id));
        whole.services.retain(|(id, _)| self.services.contains(id));
        let services = whole.services.iter();
        let runs: BTreeSet<u32> = services
            .flat_map(|(_, service)| Self::lists(service))
            .map(ListWord::first)
            .collect();
        whole.slots.retain(|(first, _)| runs.contains(first));
        let mut backends = self.backends.clone();
        backends.extend(whole.slots.iter().flat_map(|(_, run)| run));
        whole.backends.retain(|(id, _)| backends.contains(id));
        whole
            .frontends
            .retain(|(frontend, _)| self.frontends.contains(frontend));
        whole.filter.retain(|(word, _)| self.words.contains(word));
        whole.ranges.clear();
        whole
    }
}

impl Planner {
    /// What these service ports have in the maps, or should have.
    pub fn part_of(&self, ports: &[ServicePort]) -> Part {
        let mut part = Part::default();
        let word = |bit: FilterBit| bit.word();
        for port in ports {
            let id = self.by_identity.get(&PortIdentity::of(port).key);
            part.services.extend(id);
            let installed = id.and_then(|id| self.installed.get(id));
            let backends = installed.into_iter().flat_map(|installed| &installed.backends);
            part.backends.extend(backends.map(|(_, id)| *id));
            for (frontend, _) in &port.frontends {
                part.frontends.insert(*frontend);
                part.words.extend(frontend_bits(frontend).map(word));
            }
            for endpoint in &port.endpoints {
                let bits = backend_bits(endpoint.address, endpoint.port, port.key.protocol);
                part.words.extend(bits.map(word));
            }
        }
        part
    }

    /// The ranges that it has put for these services, with the tags that they carry.
    pub fn ranges_of(&self, services: &BTreeSet<ServiceId>) -> Vec<(ServiceId, Range, u32)> {
        let installed = services
            .iter()
            .filter_map(|id| Some((*id, self.installed.get(id)?)));
        let ranges = installed.flat_map(|(id, port)| {
            let tag = u32::from(port.identity.tag);
            port.ranges.iter().map(move |range| (id, *range, tag))
        });
        ranges.collect()
    }

    /// All ranges that it has put.
    pub fn all_ranges(&self) -> BTreeSet<(ServiceId, Range, u32)> {
        let services = self.installed.iter().filter(|(_, port)| !port.ranges.is_empty());
        let services: BTreeSet<ServiceId> = services.map(|(id, _)| *id).collect();
        let tag = u32::from(NEVER_HANDED_ON_TAG);
        let exempt = self.exempt.iter().map(|range| (NEVER_HANDED_ON, *range, tag));
        self.ranges_of(&services).into_iter().chain(exempt).collect()
    }

    /// Whether it has put this backend, and not ended its life.
    pub fn has_backend(&self, id: BackendId, backend: &Backend) -> bool {
        let installed = self.installed.get(&backend.service);
        installed.and_then(|port| port.backend(&Endpoint::of(backend))) == Some(id)
    }

    /// Whether it has put this frontend.
    pub fn has_frontend(&self, frontend: &Frontend) -> bool {
        self.owners.has(frontend)
    }
}
