//! The rules' view of the node: BPF maps and helpers.

use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd},
    ptr::{addr_of, addr_of_mut, read_volatile},
    sync::atomic::{Ordering, compiler_fence},
};

use aya_ebpf::{
    helpers::generated::{bpf_get_prandom_u32, bpf_jiffies64},
    maps::lpm_trie::Key,
};
use proxy_common::{
    layout::{
        Affinity, AffinityKey, AffinityWord, Backend, BackendId, Config, Counter, Flow, FlowKey, FlowTable,
        FragmentKey, FragmentPorts, FrontendKey, FrontendValue, INTERFACE_PODS, INTERFACE_UPLINK, ListWord,
        Meta, NamespaceAddress, NamespaceKey, NetworkList, NodeAddress, SOURCE_RANGE_SERVICE_BITS, Service,
        ServiceId, SourceRange, Vip,
    },
    rules::{Directory, FlowStore, Origin, Work, step::Step},
};

use crate::{
    global, lru,
    maps::{
        AFFINITY, BACKENDS, CONFIG, COUNTERS, INTERFACES, LOADS, Maps, NAMESPACES, NETWORKS, PREFILTER,
        SERVICES, SLOTS,
    },
    redirect::{self, Arrival},
};

/// Insert only if the key is not there (linux/bpf.h).
const BPF_NOEXIST: u64 = 1;
/// Insert or replace.
const BPF_ANY: u64 = 0;

/// The tables alone: what socket hooks have.
pub(crate) struct Tables;

/// The node as a hook on an interface sees it.
pub(crate) struct Node<P> {
    config: &'static Config,
    pub(crate) arrival: P,
    ticks: u32,
}

/// The configuration, once the agent has written it.
#[inline(always)]
pub(crate) fn config() -> Option<&'static Config> {
    CONFIG.get(0).filter(|config| config.layout_version != 0)
}

/// Counts an event, by the index of its [`Counter`].
#[inline(always)]
pub(crate) fn count(counter: u32) {
    count_times(counter, 1);
}

/// Counts an event that came about so many times.
#[inline(always)]
pub(crate) fn count_times(counter: u32, times: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: the slot is this CPU's own, and map values live as long as the program.
        unsafe { *value += times as u64 }
    }
}

impl<P: Arrival> Node<P> {
    #[inline(always)]
    pub(crate) fn new(arrival: P, config: &'static Config) -> Self {
        Self {
            config,
            arrival,
            ticks: ticks(),
        }
    }
}

#[inline(always)]
fn ticks() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_jiffies64() as u32 }
}

/// Replaces a published word of a map value if it is still as it was.
///
/// # Safety
/// `word` is an aligned u64 in a map value, and all its writers are atomic.
#[inline(always)]
unsafe fn exchange(word: *mut u64, old: u64, new: u64) -> bool {
    // The target's AtomicU64 has no compare_exchange, though its instruction set has (Linux 5.12).
    // SAFETY: as the caller promises; map values stay writable while the program runs.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new).1 }
}

/// Adds to a word.
///
/// # Safety
/// `word` is an aligned i32 in a map value, and all its writers are atomic.
#[inline(always)]
unsafe fn add(word: *mut i32, number: i32) {
    // The result is not used: before Linux 5.12 there is no addition that gives one.
    // SAFETY: as the caller promises; map values stay writable while the program runs.
    let _before = unsafe { atomic_xadd::<i32, i32, { AtomicOrdering::Relaxed }>(word, number) };
}

impl<A: Maps> Directory<A> for Tables {
    #[inline(always)]
    fn filter_word(&self, word: u32) -> u64 {
        PREFILTER.get(word).map_or(u64::MAX, |bits| *bits)
    }

    #[inline(always)]
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue> {
        let value = A::frontends().get_ptr(key)?;
        // SAFETY: map values stay readable while the program runs; the tag tells whether it is still the key's.
        let value = unsafe { read_volatile(value) };
        (value.tag == key.tag()).then_some(value)
    }

    #[inline(always)]
    fn service(&self, id: ServiceId) -> Option<Service> {
        let service = SERVICES.get_ptr(id.0)?;
        // SAFETY: map values stay readable while the program runs; each word is read once, whole.
        unsafe {
            Some(Service {
                internal: ListWord(read_volatile(addr_of!((*service).internal.0))),
                external: ListWord(read_volatile(addr_of!((*service).external.0))),
                shortcut: ListWord(read_volatile(addr_of!((*service).shortcut.0))),
                affinity: AffinityWord(read_volatile(addr_of!((*service).affinity.0))),
            })
        }
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<BackendId> {
        SLOTS.get(index).map(|id| BackendId(*id))
    }

    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<Backend> {
        BACKENDS.get(id.0).copied()
    }

    #[inline(always)]
    fn load(&self, id: BackendId) -> i32 {
        // SAFETY: map values stay readable while the program runs.
        LOADS
            .get_ptr(id.0)
            .map_or(0, |load| unsafe { read_volatile(load) })
    }

    #[inline(always)]
    fn allows(&self, service: ServiceId, tag: u16, source: &A) -> bool {
        let range = SourceRange {
            service,
            address: *source,
        };
        let key = Key::new(SOURCE_RANGE_SERVICE_BITS + A::BITS, range);
        A::source_ranges()
            .get(&key)
            .is_some_and(|owner| *owner == tag as u32)
    }

    #[inline(always)]
    fn primary_address(&self) -> Option<A> {
        interface_address(0)
    }

    #[inline(always)]
    fn node_address(&self, address: &A) -> NodeAddress {
        match A::node_addresses().get_ptr(address) {
            // SAFETY: map values stay readable while the program runs; the value tells whether it is still the key's.
            Some(value) => NodeAddress::read(address, unsafe { read_volatile(value) }),
            None => NodeAddress::Foreign,
        }
    }

    #[inline(always)]
    fn vip(&self, address: &A) -> Option<Vip> {
        let value = A::vips().get_ptr(address)?;
        // SAFETY: map values stay readable while the program runs; the tag tells whether it is still the key's.
        let value = unsafe { read_volatile(value) };
        value.is_of(address).then_some(value)
    }

    #[inline(always)]
    fn service_networks(&self) -> Option<&NetworkList<A>> {
        NETWORKS.get(0).map(A::service_networks)
    }

    #[inline(always)]
    fn local_networks(&self) -> Option<&NetworkList<A>> {
        NETWORKS.get(0).map(A::local_networks)
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        count(counter as u32);
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        ticks()
    }

    #[inline(always)]
    fn ticks_per_second(&self) -> u32 {
        config().map_or(0, |config| config.ticks_per_second)
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        let record = AFFINITY.get_ptr(key)?;
        // SAFETY: map values stay readable while the program runs; each word is read once, whole, the one with the tag
        // last: it tells whether the element is still the key's.
        unsafe {
            let target = read_volatile(addr_of!((*record).target));
            compiler_fence(Ordering::SeqCst);
            let meta = read_volatile(addr_of!((*record).meta));
            Some(Affinity { meta, target })
        }
    }

    #[inline(always)]
    fn insert_affinity(&self, key: &AffinityKey, record: &Affinity) -> bool {
        lru::insert(&AFFINITY, key, record, BPF_NOEXIST)
    }

    #[inline(always)]
    fn put_affinity(&self, key: &AffinityKey, record: &Affinity) {
        // An LRU makes room; if it can't, the client's next flow is balanced on its own.
        let _inserted = lru::insert(&AFFINITY, key, record, BPF_ANY);
    }

    #[inline(always)]
    fn renew_affinity(&self, key: &AffinityKey, old: u64, new: u64) {
        if let Some(record) = AFFINITY.get_ptr_mut(key) {
            // SAFETY: `meta` is an aligned u64 of a map value, written by this and as part of new elements only; an
            // element that became another key's carries another tag and fails the comparison.
            let _renewed = unsafe { exchange(addr_of_mut!((*record).meta), old, new) };
        }
    }

    #[inline(always)]
    fn namespace(&self, key: &NamespaceKey) -> Option<NamespaceAddress> {
        let address = NAMESPACES.get_ptr(key)?;
        // SAFETY: map values stay readable while the program runs; the tag, which is read last, tells whether the element
        // is still the key's.
        unsafe {
            let mut copy = read_volatile(address);
            compiler_fence(Ordering::SeqCst);
            copy.tag = read_volatile(addr_of!((*address).tag));
            Some(copy)
        }
    }

    #[inline(always)]
    fn offers(&self, list: ListWord, id: BackendId) -> bool {
        global::offers(list.0, id.0) != 0
    }

    #[inline(always)]
    fn draw(&self, list: ListWord, number: u32) -> u32 {
        global::draw(list.0, number)
    }

    #[inline(always)]
    fn put_namespace(&self, key: &NamespaceKey, address: &NamespaceAddress) {
        // An LRU makes room; if it can't, the namespace's next call goes by packets as well.
        let _inserted = lru::insert(&NAMESPACES, key, address, BPF_ANY);
    }
}

impl<A: Maps, P: Arrival> Directory<A> for Node<P> {
    #[inline(always)]
    fn filter_word(&self, word: u32) -> u64 {
        Directory::<A>::filter_word(&Tables, word)
    }
    #[inline(always)]
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue> {
        Tables.frontend(key)
    }
    #[inline(always)]
    fn service(&self, id: ServiceId) -> Option<Service> {
        Directory::<A>::service(&Tables, id)
    }
    #[inline(always)]
    fn slot(&self, index: u32) -> Option<BackendId> {
        Directory::<A>::slot(&Tables, index)
    }
    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<Backend> {
        Directory::<A>::backend(&Tables, id)
    }
    #[inline(always)]
    fn load(&self, id: BackendId) -> i32 {
        Directory::<A>::load(&Tables, id)
    }
    #[inline(always)]
    fn allows(&self, service: ServiceId, tag: u16, source: &A) -> bool {
        Tables.allows(service, tag, source)
    }
    #[inline(always)]
    fn primary_address(&self) -> Option<A> {
        Tables.primary_address()
    }
    #[inline(always)]
    fn node_address(&self, address: &A) -> NodeAddress {
        Tables.node_address(address)
    }
    #[inline(always)]
    fn vip(&self, address: &A) -> Option<Vip> {
        Tables.vip(address)
    }
    #[inline(always)]
    fn service_networks(&self) -> Option<&NetworkList<A>> {
        Tables.service_networks()
    }
    #[inline(always)]
    fn local_networks(&self) -> Option<&NetworkList<A>> {
        Tables.local_networks()
    }
    #[inline(always)]
    fn random(&self) -> u32 {
        Directory::<A>::random(&Tables)
    }
    #[inline(always)]
    fn count(&self, counter: Counter) {
        self.arrival.count(counter);
    }
    #[inline(always)]
    fn now(&self) -> u32 {
        self.ticks
    }
    #[inline(always)]
    fn ticks_per_second(&self) -> u32 {
        self.config.ticks_per_second
    }
    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        Directory::<A>::affinity(&Tables, key)
    }
    #[inline(always)]
    fn insert_affinity(&self, key: &AffinityKey, record: &Affinity) -> bool {
        Directory::<A>::insert_affinity(&Tables, key, record)
    }
    #[inline(always)]
    fn put_affinity(&self, key: &AffinityKey, record: &Affinity) {
        Directory::<A>::put_affinity(&Tables, key, record);
    }
    #[inline(always)]
    fn renew_affinity(&self, key: &AffinityKey, old: u64, new: u64) {
        Directory::<A>::renew_affinity(&Tables, key, old, new);
    }
    #[inline(always)]
    fn namespace(&self, key: &NamespaceKey) -> Option<NamespaceAddress> {
        Directory::<A>::namespace(&Tables, key)
    }
    #[inline(always)]
    fn offers(&self, list: ListWord, id: BackendId) -> bool {
        Directory::<A>::offers(&Tables, list, id)
    }
    #[inline(always)]
    fn draw(&self, list: ListWord, number: u32) -> u32 {
        Directory::<A>::draw(&Tables, list, number)
    }
    #[inline(always)]
    fn put_namespace(&self, key: &NamespaceKey, address: &NamespaceAddress) {
        Directory::<A>::put_namespace(&Tables, key, address);
    }
}

impl<A: Maps, P: Arrival> FlowStore<A> for Node<P> {
    #[inline(always)]
    fn step<S: Step>(&self, step: S, work: &mut Work<A>) -> u32 {
        global::lend(work);
        self.arrival.step::<A, S>(step)
    }

    #[inline(always)]
    fn config(&self) -> &Config {
        self.config
    }

    #[inline(always)]
    fn flow(&self, table: FlowTable, key: &FlowKey<A>, into: &mut Flow<A>) -> bool {
        let Some(flow) = A::flows(table, key.protocol).get_ptr(key) else {
            return false;
        };
        // SAFETY: map values stay readable while the program runs. The element may become another key's while it is
        // copied: `meta` stands first in it and is read last, so its tag tells.
        unsafe {
            core::ptr::copy_nonoverlapping(flow, into, 1);
            compiler_fence(Ordering::SeqCst);
            into.meta = Meta(read_volatile(addr_of!((*flow).meta.0)));
        }
        into.meta.tag() == key.tag()
    }

    #[inline(always)]
    fn insert_flow(&self, table: FlowTable, key: &FlowKey<A>, flow: &Flow<A>) -> bool {
        lru::insert(A::flows(table, key.protocol), key, flow, BPF_NOEXIST)
    }

    #[inline(always)]
    fn put_flow(&self, table: FlowTable, key: &FlowKey<A>, flow: &Flow<A>) -> bool {
        lru::insert(A::flows(table, key.protocol), key, flow, BPF_ANY)
    }

    #[inline(always)]
    fn exchange_meta(&self, table: FlowTable, key: &FlowKey<A>, old: Meta, new: Meta) -> bool {
        let Some(flow) = A::flows(table, key.protocol).get_ptr_mut(key) else {
            return false;
        };
        // SAFETY: `meta` is an aligned u64 at the start of a map value, and every writer of a published entry is
        // atomic; an element that became another key's carries another tag and fails the comparison.
        unsafe { exchange(addr_of_mut!((*flow).meta.0), old.0, new.0) }
    }

    #[inline(always)]
    fn add_load(&self, id: BackendId, connections: i32) {
        if let Some(load) = LOADS.get_ptr_mut(id.0) {
            // SAFETY: an aligned i32 of a map value, which programs change by this alone.
            unsafe { add(load, connections) };
        }
    }

    #[inline(always)]
    fn remove_flow(&self, table: FlowTable, key: &FlowKey<A>) {
        // Not being there is what is wanted.
        let _gone = A::flows(table, key.protocol).remove(key);
    }

    #[inline(always)]
    fn source_towards(&self, destination: &A) -> Result<A, Counter> {
        let index = redirect::egress_towards(&self.arrival, destination)?;
        match interface_address::<A>(index).or_else(|| interface_address::<A>(0)) {
            Some(address) => Ok(address),
            None => Err(Counter::NoSourceAddress),
        }
    }

    #[inline(always)]
    fn came_in_by(&self) -> u32 {
        self.arrival.interface()
    }

    #[inline(always)]
    fn leads_to(&self, destination: &A, place: Origin) -> bool {
        let wanted = match place {
            Origin::Pod => INTERFACE_PODS,
            Origin::Network => INTERFACE_UPLINK,
        };
        match redirect::egress_towards(&self.arrival, destination) {
            Ok(index) => interface_flags(index) & wanted != 0,
            Err(_) => false,
        }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts> {
        let ports = A::fragments().get_ptr(key)?;
        // SAFETY: map values stay readable while the program runs; the tag tells whether it is still the key's.
        let ports = unsafe { read_volatile(ports) };
        ports.is_of(key.tag()).then_some(ports)
    }

    #[inline(always)]
    fn put_fragment(&self, key: &FragmentKey<A>, ports: &FragmentPorts) {
        // An LRU makes room; if it can't, the later fragments are dropped and counted.
        let _inserted = lru::insert(A::fragments(), key, ports, BPF_ANY);
    }
}

/// The flags of an interface's entry; none if it is not known.
#[inline(always)]
pub(crate) fn interface_flags(index: u32) -> u32 {
    match INTERFACES.get_ptr(index) {
        // SAFETY: map values stay readable while the program runs; the index tells whether it is still the key's.
        Some(interface) => match unsafe { read_volatile(interface) } {
            interface if interface.index == index => interface.flags,
            _ => 0,
        },
        None => 0,
    }
}

/// The MTU of an interface's entry; 0 if it is not known.
#[inline(always)]
pub(crate) fn interface_mtu(index: u32) -> u32 {
    match INTERFACES.get_ptr(index) {
        // SAFETY: map values stay readable while the program runs; the index tells whether it is still the key's.
        Some(interface) => match unsafe { read_volatile(interface) } {
            interface if interface.index == index => interface.mtu,
            _ => 0,
        },
        None => 0,
    }
}

/// The address of an interface's entry; `None` if it has none of the family.
#[inline(always)]
pub(crate) fn interface_address<A: Maps>(index: u32) -> Option<A> {
    let interface = INTERFACES.get_ptr(index)?;
    // SAFETY: map values stay readable while the program runs; the index tells whether it is still the key's.
    let interface = unsafe { read_volatile(interface) };
    let address = A::of_interface(&interface);
    (interface.index == index && address != A::UNSPECIFIED).then_some(address)
}
