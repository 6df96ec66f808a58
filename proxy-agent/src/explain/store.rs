//! The maps in plain collections: what a plan's operations leave in them, or what was read from them.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use proxy_common::host::HostNode;
use proxy_common::layout::{
    Addr, Affinity, AffinityKey, Backend, BackendId, ChoiceRule, Config, Family, FrontendKey, FrontendValue,
    Identity, ListWord, NamespaceAddress, Network, NetworkList, Networks, Service, ServiceId, Vip,
};

use crate::plan::{Frontend, Operation, Range, Snapshot};

/// What the maps of a node hold of Services.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub(super) identities: BTreeMap<ServiceId, Identity>,
    pub(super) services: BTreeMap<ServiceId, Service>,
    pub(super) slots: BTreeMap<u32, BackendId>,
    pub(super) backends: BTreeMap<BackendId, Backend>,
    pub(super) frontends: BTreeMap<Frontend, FrontendValue>,
    vips: BTreeMap<IpAddr, Vip>,
    pub(super) networks: Networks,
    ranges: BTreeMap<(ServiceId, Range), u32>,
    filter: BTreeMap<u32, u64>,
    /// Records of session affinity, with the clock that they are told by.
    pub(super) affinities: Vec<(AffinityKey, Affinity)>,
    /// Addresses that network namespaces were seen with.
    pub(super) namespaces: Vec<NamespaceAddress>,
    pub(super) clock: u32,
}

impl Store {
    /// Carries operations out.
    pub fn carry_out(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.step(operation);
        }
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::PutIdentity(id, identity) => {
                self.identities.insert(*id, **identity);
            }
            Operation::RemoveIdentity(id) => {
                self.identities.remove(id);
            }
            Operation::SetFilter(bit) => *self.filter.entry(bit.word()).or_default() |= bit.mask(),
            Operation::ReleaseFilter(bit) => *self.filter.entry(bit.word()).or_default() &= !bit.mask(),
            Operation::PutBackend(id, backend) => {
                self.backends.insert(*id, *backend);
            }
            Operation::KillBackend(id) => {
                if let Some(backend) = self.backends.get_mut(id) {
                    backend.last_life = std::mem::take(&mut backend.life);
                }
            }
            Operation::PutSlots { first, backends } => {
                self.slots.extend((*first..).zip(backends.iter().copied()));
            }
            Operation::PutRange(id, range, tag) => {
                self.ranges.insert((*id, *range), u32::from(*tag));
            }
            Operation::RemoveRange(id, range) => {
                self.ranges.remove(&(*id, *range));
            }
            Operation::PutService(id, service) => {
                self.services.insert(*id, *service);
            }
            Operation::PutFrontend(frontend, value) => {
                self.frontends.insert(*frontend, *value);
            }
            Operation::RemoveFrontend(frontend) => {
                self.frontends.remove(frontend);
            }
            Operation::PutVip(address, vip) => {
                self.vips.insert(*address, *vip);
            }
            Operation::RemoveVip(address) => {
                self.vips.remove(address);
            }
            Operation::PutNetworks(networks) => self.networks = **networks,
        }
    }

    /// The ranges that a service port lets in, in order.
    pub(super) fn ranges_of(&self, id: ServiceId) -> Vec<Range> {
        let ranges = self.ranges.keys().filter(|(owner, _)| *owner == id);
        ranges.map(|(_, range)| *range).collect()
    }

    /// The backends in a list.
    pub(super) fn listed(&self, list: ListWord) -> Vec<BackendId> {
        let slots = self.slots.range(list.first()..);
        slots.take(list.count() as usize).map(|(_, id)| *id).collect()
    }

    /// The same as it would be read back.
    pub fn snapshot(&self) -> Snapshot {
        let words = |id: &ServiceId| self.services.get(id).copied().unwrap_or_default();
        let services: Vec<(ServiceId, Service)> = self.identities.keys().map(|id| (*id, words(id))).collect();
        let lists = services
            .iter()
            .flat_map(|(_, service)| [service.internal, service.external, service.shortcut]);
        let run = |list: ListWord| {
            let table = list.table_length_slot().and_then(|slot| self.slots.get(&slot));
            let behind = table.map_or(0, |length| length.0.saturating_add(1));
            let end = (list.first() + list.count()).saturating_add(behind);
            (list.first()..end).map_while(|slot| self.slots.get(&slot).copied())
        };
        let slots: BTreeMap<u32, Vec<BackendId>> = lists
            .filter(|list| list.count() > 0)
            .map(|list| (list.first(), run(list).collect()))
            .collect();
        let ranges = self.ranges.iter();
        Snapshot {
            identities: self
                .identities
                .iter()
                .map(|(id, identity)| (*id, *identity))
                .collect(),
            services,
            slots: slots.into_iter().collect(),
            backends: self
                .backends
                .iter()
                .map(|(id, backend)| (*id, *backend))
                .collect(),
            frontends: self
                .frontends
                .iter()
                .map(|(frontend, value)| (*frontend, *value))
                .collect(),
            ranges: ranges.map(|((id, range), tag)| (*id, *range, *tag)).collect(),
            vips: self.vips.iter().map(|(address, vip)| (*address, *vip)).collect(),
            networks: self.networks,
            filter: self.filter.iter().map(|(word, bits)| (*word, *bits)).collect(),
        }
    }

    /// The tables as the rules see them, in one family.
    pub(super) fn node<A: Addr + Hash>(&self, config: Config) -> HostNode<A> {
        let mut node = HostNode::new(config, 1);
        let address = |address: IpAddr| A::from_mapped(address.into());
        let is_ours = |address: &IpAddr| address.is_ipv4() == (A::FAMILY == Family::V4);
        node.filter = self.filter.iter().map(|(word, bits)| (*word, *bits)).collect();
        node.services = self
            .services
            .iter()
            .map(|(id, service)| (*id, of_any_flow(service)))
            .collect();
        node.backends = self
            .backends
            .iter()
            .map(|(id, backend)| (*id, *backend))
            .collect();
        let end = self
            .slots
            .last_key_value()
            .map_or(0, |(slot, _)| *slot as usize + 1);
        node.slots = vec![BackendId(0); end];
        for (slot, id) in &self.slots {
            if let Some(place) = node.slots.get_mut(*slot as usize) {
                *place = *id;
            }
        }
        for (frontend, value) in self.frontends.iter().filter(|(key, _)| is_ours(&key.address)) {
            let key = FrontendKey::new(address(frontend.address), frontend.port, frontend.protocol);
            node.frontends.insert(key, *value);
        }
        let ranges = self
            .ranges
            .iter()
            .filter(|((_, range), _)| is_ours(&range.address));
        node.source_ranges = ranges
            .filter_map(|((id, range), tag)| {
                let tag = u16::try_from(*tag).ok()?;
                Some((*id, tag, address(range.address), u32::from(range.length)))
            })
            .collect();
        let vips = self.vips.iter().filter(|(address, _)| is_ours(address));
        node.vips = vips.map(|(ip, vip)| (address(*ip), *vip)).collect();
        let Networks {
            service4,
            service6,
            local4,
            local6,
        } = &self.networks;
        let (service, local) = match A::FAMILY {
            Family::V4 => (in_family(service4), in_family(local4)),
            Family::V6 => (in_family(service6), in_family(local6)),
        };
        (node.service_networks, node.local_networks) = (service, local);
        node.clock.set(self.clock);
        node.affinities = HashMap::from_iter(self.affinities.iter().copied()).into();
        node
    }
}

/// What a call's packets will hash to is not asked: any entry of a table may be theirs.
fn of_any_flow(service: &Service) -> Service {
    let any = |list: ListWord| match list.rule() {
        ChoiceRule::Maglev => list.with_rule(ChoiceRule::Weighted),
        _ => list,
    };
    Service {
        internal: any(service.internal),
        external: any(service.external),
        shortcut: any(service.shortcut),
        affinity: service.affinity,
    }
}

/// Ranges of the family that they are of.
fn in_family<A: Addr, B: Addr>(list: &NetworkList<A>) -> NetworkList<B> {
    let address = |address: A| B::from_mapped(address.to_mapped());
    NetworkList::of(list.iter().map(|network| Network {
        address: address(network.address),
        mask: address(network.mask),
    }))
}

impl From<Snapshot> for Store {
    fn from(snapshot: Snapshot) -> Self {
        let runs = snapshot.slots.into_iter();
        Self {
            identities: snapshot.identities.into_iter().collect(),
            services: snapshot.services.into_iter().collect(),
            slots: runs.flat_map(|(first, run)| (first..).zip(run)).collect(),
            backends: snapshot.backends.into_iter().collect(),
            frontends: snapshot.frontends.into_iter().collect(),
            ranges: snapshot
                .ranges
                .into_iter()
                .map(|(id, range, tag)| ((id, range), tag))
                .collect(),
            vips: snapshot.vips.into_iter().collect(),
            networks: snapshot.networks,
            filter: snapshot.filter.into_iter().collect(),
            affinities: Vec::new(),
            namespaces: Vec::new(),
            clock: 0,
        }
    }
}
