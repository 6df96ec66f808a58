//! The node in plain collections: what the rules read and write, without a kernel. For tests, and for tools that
//! explain what would become of a packet.

use core::cell::{Cell, RefCell};
use core::hash::Hash;
use std::collections::{HashMap, HashSet, VecDeque};
use std::vec::Vec;

use crate::layout::{
    Addr, Affinity, AffinityKey, Backend, BackendId, ChoiceRule, Config, Counter, Family, FilterBit, Flow,
    FlowKey, FlowTable, FragmentKey, FragmentPorts, FrontendKey, FrontendKind, FrontendValue, ListWord, Meta,
    NamespaceAddress, NamespaceKey, NetworkList, NodeAddress, Service, ServiceId, Vip, node_address_value,
};
use crate::rules::{Bytes, Directory, FlowStore, Origin};

/// Both flow tables in one.
pub type FlowTables<A> = HashMap<(FlowTable, FlowKey<A>), Flow<A>>;

/// The rules' view of a node, over collections of the standard library. A clone shares nothing with its origin.
#[derive(Clone, Debug)]
pub struct HostNode<A: Addr + Hash> {
    /// The node's configuration.
    pub config: Config,
    /// Words of the prefilter; what is not there is 0.
    pub filter: HashMap<u32, u64>,
    /// FRONTENDS of the family.
    pub frontends: HashMap<FrontendKey<A>, FrontendValue>,
    /// SERVICES.
    pub services: HashMap<ServiceId, Service>,
    /// SLOTS.
    pub slots: Vec<BackendId>,
    /// BACKENDS.
    pub backends: HashMap<BackendId, Backend>,
    /// SOURCE_RANGES of the family: service port, its tag, first address and prefix length.
    pub source_ranges: Vec<(ServiceId, u16, A, u32)>,
    /// NODE_ADDRESSES of the family.
    pub node_addresses: HashSet<A>,
    /// Those of them at which NodePorts do not answer.
    pub silent_addresses: HashSet<A>,
    /// VIPS of the family.
    pub vips: HashMap<A, Vip>,
    /// Ranges of cluster addresses.
    pub service_networks: NetworkList<A>,
    /// Ranges of pods that count as this node's own.
    pub local_networks: NetworkList<A>,
    /// The node's primary address.
    pub primary: Option<A>,
    /// The source address towards a destination, or why there is none.
    pub routes: HashMap<A, Result<A, Counter>>,
    /// The same for all other destinations.
    pub default_route: Result<A, Counter>,
    /// The interface that packets come in by.
    pub came_in_by: u32,
    /// Where addresses are whose way leads out of an interface with our programs.
    pub ways: HashMap<A, Origin>,
    /// The flow tables.
    pub flows: RefCell<FlowTables<A>>,
    /// FRAGMENTS of the family.
    pub fragments: RefCell<HashMap<FragmentKey<A>, FragmentPorts>>,
    /// AFFINITY.
    pub affinities: RefCell<HashMap<AffinityKey, Affinity>>,
    /// NAMESPACES.
    pub namespaces: RefCell<HashMap<NamespaceKey, NamespaceAddress>>,
    /// The clock, in ticks.
    pub clock: Cell<u32>,
    /// How many more new entries the flow tables take; `None`: as many as come.
    pub room: Cell<Option<u32>>,
    /// How often a hash table was asked or written.
    pub accesses: Cell<u64>,
    /// Connections of backends.
    pub loads: RefCell<HashMap<BackendId, i32>>,
    script: RefCell<VecDeque<u32>>,
    seed: Cell<u64>,
    counters: RefCell<[u64; Counter::ALL.len()]>,
}

impl<A: Addr + Hash> HostNode<A> {
    /// A node without Services and without a route, whose random numbers follow from a seed.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            filter: HashMap::new(),
            frontends: HashMap::new(),
            services: HashMap::new(),
            slots: Vec::new(),
            backends: HashMap::new(),
            source_ranges: Vec::new(),
            node_addresses: HashSet::new(),
            silent_addresses: HashSet::new(),
            vips: HashMap::new(),
            service_networks: NetworkList::default(),
            local_networks: NetworkList::default(),
            primary: None,
            routes: HashMap::new(),
            default_route: Err(Counter::NoRoute),
            came_in_by: 0,
            ways: HashMap::new(),
            flows: RefCell::default(),
            fragments: RefCell::default(),
            affinities: RefCell::default(),
            namespaces: RefCell::default(),
            clock: Cell::new(0),
            room: Cell::new(None),
            accesses: Cell::new(0),
            loads: RefCell::default(),
            script: RefCell::default(),
            seed: Cell::new(seed),
            counters: RefCell::new([0; Counter::ALL.len()]),
        }
    }

    /// Lets the clock run.
    pub fn advance(&self, ticks: u32) {
        self.clock.set(self.clock.get().wrapping_add(ticks));
    }

    /// The next random numbers; after them the seed's go on.
    pub fn script(&self, numbers: impl IntoIterator<Item = u32>) {
        *self.script.borrow_mut() = numbers.into_iter().collect();
    }

    /// How often an event was counted.
    pub fn counted(&self, counter: Counter) -> u64 {
        self.counters.borrow()[counter as usize]
    }

    /// How often each event was counted, in the order of [`Counter::ALL`].
    pub fn counts(&self) -> [u64; Counter::ALL.len()] {
        *self.counters.borrow()
    }

    /// Sets a bit of the prefilter.
    pub fn set_filter(&mut self, bit: FilterBit) {
        *self.filter.entry(bit.word()).or_default() |= bit.mask();
    }

    /// Adds a frontend with its bits; the unspecified address is a NodePort's.
    pub fn add_frontend(&mut self, key: FrontendKey<A>, kind: FrontendKind, service: ServiceId, tag: u16) {
        if key.address == A::UNSPECIFIED {
            self.set_filter(FilterBit::node_port(key.port, key.protocol));
        } else {
            self.set_filter(FilterBit::forward(&key.address, key.port, key.protocol));
            self.set_filter(FilterBit::forward_address(&key.address));
        }
        let value = FrontendValue {
            service,
            tag: key.tag(),
            service_tag: tag,
            kind: kind as u8,
            pad: 0,
        };
        self.frontends.insert(key, value);
    }

    /// Adds or replaces the entry of an address that has frontends.
    pub fn set_vip(&mut self, address: A, is_cluster: bool, answers: bool) {
        self.vips.insert(address, Vip::new(&address, is_cluster, answers));
    }

    /// Adds or replaces a backend, with its bits.
    pub fn set_backend(&mut self, id: BackendId, backend: Backend) {
        let address = A::from_mapped(backend.address);
        self.set_filter(FilterBit::reverse(&address, backend.port, backend.protocol));
        self.set_filter(FilterBit::reverse_address(&address));
        self.backends.insert(id, backend);
    }

    /// A backend no longer serves.
    pub fn kill_backend(&mut self, id: BackendId) {
        if let Some(backend) = self.backends.get_mut(&id).filter(|backend| backend.life != 0) {
            backend.last_life = backend.life;
            backend.life = 0;
        }
    }

    /// Puts a run of slots at the end and gives its list word.
    pub fn add_list(&mut self, backends: &[BackendId], tag: u16) -> ListWord {
        let first = self.slots.len() as u32;
        self.slots.extend_from_slice(backends);
        self.slots[first as usize..].sort_unstable();
        ListWord::new(first, backends.len() as u32, tag)
    }

    /// The same for a list that is chosen from by a table.
    pub fn add_table(
        &mut self,
        backends: &[BackendId],
        rule: ChoiceRule,
        table: &[BackendId],
        tag: u16,
    ) -> ListWord {
        let list = self.add_list(backends, tag).with_rule(rule);
        self.slots.push(BackendId(table.len() as u32));
        self.slots.extend_from_slice(table);
        list
    }

    /// An entry of the flow tables as it stands, expired or not.
    pub fn entry(&self, table: FlowTable, key: &FlowKey<A>) -> Option<Flow<A>> {
        self.flows.borrow().get(&(table, *key)).copied()
    }

    fn access(&self) {
        self.accesses.set(self.accesses.get() + 1);
    }

    /// SplitMix64: uniform and without a dependency.
    fn next_random(&self) -> u32 {
        let state = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 32) as u32
    }

    /// Whether one more entry fits.
    fn take_room(&self) -> bool {
        match self.room.get() {
            None => true,
            Some(0) => false,
            Some(room) => {
                self.room.set(Some(room - 1));
                true
            }
        }
    }
}

impl<A: Addr + Hash> Directory<A> for HostNode<A> {
    fn filter_word(&self, word: u32) -> u64 {
        self.filter.get(&word).copied().unwrap_or_default()
    }

    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue> {
        self.access();
        self.frontends
            .get(key)
            .copied()
            .filter(|value| value.tag == key.tag())
    }

    fn service(&self, id: ServiceId) -> Option<Service> {
        self.services.get(&id).copied()
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        self.slots.get(index as usize).copied()
    }

    fn backend(&self, id: BackendId) -> Option<Backend> {
        self.backends.get(&id).copied()
    }

    fn load(&self, id: BackendId) -> i32 {
        self.loads.borrow().get(&id).copied().unwrap_or_default()
    }

    fn allows(&self, service: ServiceId, tag: u16, source: &A) -> bool {
        self.access();
        let bits = |address: &A, length: u32| {
            let length = match A::FAMILY {
                Family::V4 => length + 96,
                Family::V6 => length,
            };
            let number = u128::from_be_bytes(address.to_mapped().octets());
            number.checked_shr(128 - length).unwrap_or_default()
        };
        let mine = self.source_ranges.iter().filter(|(owner, ..)| *owner == service);
        let found = mine.filter(|(_, _, address, length)| bits(address, *length) == bits(source, *length));
        found
            .max_by_key(|(.., length)| *length)
            .is_some_and(|(_, owner_tag, ..)| *owner_tag == tag)
    }

    fn primary_address(&self) -> Option<A> {
        self.primary
    }

    fn node_address(&self, address: &A) -> NodeAddress {
        self.access();
        if !self.node_addresses.contains(address) {
            return NodeAddress::Foreign;
        }
        let value = node_address_value(address, !self.silent_addresses.contains(address));
        NodeAddress::read(address, value)
    }

    fn vip(&self, address: &A) -> Option<Vip> {
        self.access();
        self.vips.get(address).copied().filter(|vip| vip.is_of(address))
    }

    fn service_networks(&self) -> Option<&NetworkList<A>> {
        Some(&self.service_networks)
    }

    fn local_networks(&self) -> Option<&NetworkList<A>> {
        Some(&self.local_networks)
    }

    fn random(&self) -> u32 {
        let scripted = self.script.borrow_mut().pop_front();
        scripted.unwrap_or_else(|| self.next_random())
    }

    fn drawn_by(&self, hash: u32) -> u32 {
        self.script.borrow_mut().pop_front().unwrap_or(hash)
    }

    fn count(&self, counter: Counter) {
        self.counters.borrow_mut()[counter as usize] += 1;
    }

    fn now(&self) -> u32 {
        self.clock.get()
    }

    fn ticks_per_second(&self) -> u32 {
        self.config.ticks_per_second
    }

    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        self.access();
        self.affinities.borrow().get(key).copied()
    }

    fn insert_affinity(&self, key: &AffinityKey, record: &Affinity) -> bool {
        self.access();
        if self.affinities.borrow().contains_key(key) || !self.take_room() {
            return false;
        }
        self.put_affinity(key, record);
        true
    }

    fn put_affinity(&self, key: &AffinityKey, record: &Affinity) {
        self.access();
        self.affinities.borrow_mut().insert(*key, *record);
    }

    fn renew_affinity(&self, key: &AffinityKey, old: u64, new: u64) {
        self.access();
        let mut affinities = self.affinities.borrow_mut();
        if let Some(record) = affinities.get_mut(key).filter(|record| record.meta == old) {
            record.meta = new;
        }
    }

    fn namespace(&self, key: &NamespaceKey) -> Option<NamespaceAddress> {
        self.access();
        self.namespaces.borrow().get(key).copied()
    }

    fn put_namespace(&self, key: &NamespaceKey, address: &NamespaceAddress) {
        self.access();
        self.namespaces.borrow_mut().insert(*key, *address);
    }
}

impl<A: Addr + Hash> FlowStore<A> for HostNode<A> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn flow(&self, table: FlowTable, key: &FlowKey<A>, into: &mut Flow<A>) -> bool {
        self.access();
        let Some(flow) = self.entry(table, key) else {
            return false;
        };
        *into = flow;
        flow.meta.tag() == key.tag()
    }

    fn insert_flow(&self, table: FlowTable, key: &FlowKey<A>, flow: &Flow<A>) -> bool {
        self.access();
        if self.entry(table, key).is_some() || !self.take_room() {
            return false;
        }
        self.flows.borrow_mut().insert((table, *key), *flow);
        true
    }

    fn put_flow(&self, table: FlowTable, key: &FlowKey<A>, flow: &Flow<A>) -> bool {
        self.access();
        if self.entry(table, key).is_none() && !self.take_room() {
            return false;
        }
        self.flows.borrow_mut().insert((table, *key), *flow);
        true
    }

    fn exchange_meta(&self, table: FlowTable, key: &FlowKey<A>, old: Meta, new: Meta) -> bool {
        self.access();
        match self.flows.borrow_mut().get_mut(&(table, *key)) {
            Some(flow) if flow.meta == old => {
                flow.meta = new;
                true
            }
            _ => false,
        }
    }

    fn add_load(&self, id: BackendId, connections: i32) {
        *self.loads.borrow_mut().entry(id).or_default() += connections;
    }

    fn remove_flow(&self, table: FlowTable, key: &FlowKey<A>) {
        self.access();
        self.flows.borrow_mut().remove(&(table, *key));
    }

    fn source_towards(&self, destination: &A) -> Result<A, Counter> {
        self.routes
            .get(destination)
            .copied()
            .unwrap_or(self.default_route)
    }

    fn came_in_by(&self) -> u32 {
        self.came_in_by
    }

    fn leads_to(&self, destination: &A, place: Origin) -> bool {
        self.ways.get(destination) == Some(&place)
    }

    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts> {
        self.access();
        let ports = self.fragments.borrow().get(key).copied();
        ports.filter(|ports| ports.is_of(key.tag()))
    }

    fn put_fragment(&self, key: &FragmentKey<A>, ports: &FragmentPorts) {
        self.access();
        self.fragments.borrow_mut().insert(*key, *ports);
    }
}

/// A packet in memory, from its network header on.
impl Bytes for &[u8] {
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        let start = offset as usize;
        let bytes = self.get(start..start.checked_add(N * 4)?)?;
        let mut words = [0; N];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Some(words)
    }

    fn length(&self) -> u32 {
        self.len() as u32
    }
}
