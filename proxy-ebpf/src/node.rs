//! The rules' view of the node: BPF maps and helpers.

use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg},
    ptr::{addr_of, addr_of_mut, read_volatile},
    sync::atomic::{Ordering, compiler_fence},
};

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_get_prandom_u32, bpf_jiffies64},
};
use proxy_common::{
    layout::{
        Backend, BackendId, Config, Counter, Flow, FlowKey, FlowTable, FragmentKey, FragmentPorts,
        FrontendKey, FrontendValue, ListWord, Meta, Service, ServiceId,
    },
    rules::{Directory, FlowStore},
};

use crate::{
    maps::{BACKENDS, CONFIG, COUNTERS, INTERFACES, Maps, PREFILTER, SERVICES, SLOTS},
    redirect,
};

/// Insert only if the key is not there (linux/bpf.h).
const BPF_NOEXIST: u64 = 1;
/// Insert or replace.
const BPF_ANY: u64 = 0;

/// The tables alone: what socket hooks have.
pub(crate) struct Tables;

/// The node as a TC hook sees it.
pub(crate) struct Node {
    config: &'static Config,
    skb: *mut __sk_buff,
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
    if let Some(value) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: the slot is this CPU's own, and map values live as long as the program.
        unsafe { *value += 1 }
    }
}

impl Node {
    #[inline(always)]
    pub(crate) fn new(skb: *mut __sk_buff, config: &'static Config) -> Self {
        // SAFETY: the helper has no preconditions.
        let ticks = unsafe { bpf_jiffies64() } as u32;
        Self { config, skb, ticks }
    }
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
                reserved: 0,
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
    fn is_node_address(&self, address: &A) -> bool {
        match A::node_addresses().get_ptr(address) {
            // SAFETY: map values stay readable while the program runs; the tag tells whether it is still the key's.
            Some(tag) => (unsafe { read_volatile(tag) }) == address.last_word(),
            None => false,
        }
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
}

impl<A: Maps> Directory<A> for Node {
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
    fn is_node_address(&self, address: &A) -> bool {
        Tables.is_node_address(address)
    }
    #[inline(always)]
    fn random(&self) -> u32 {
        Directory::<A>::random(&Tables)
    }
    #[inline(always)]
    fn count(&self, counter: Counter) {
        count(counter as u32);
    }
}

impl<A: Maps> FlowStore<A> for Node {
    #[inline(always)]
    fn config(&self) -> &Config {
        self.config
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        self.ticks
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
        A::flows(table, key.protocol)
            .insert(key, flow, BPF_NOEXIST)
            .is_ok()
    }

    #[inline(always)]
    fn put_flow(&self, table: FlowTable, key: &FlowKey<A>, flow: &Flow<A>) -> bool {
        A::flows(table, key.protocol).insert(key, flow, BPF_ANY).is_ok()
    }

    #[inline(always)]
    fn exchange_meta(&self, table: FlowTable, key: &FlowKey<A>, old: Meta, new: Meta) -> bool {
        let Some(flow) = A::flows(table, key.protocol).get_ptr_mut(key) else {
            return false;
        };
        // SAFETY: `meta` is an aligned u64 at the start of a map value, and every writer of a published entry is
        // atomic; an element that became another key's carries another tag and fails the comparison.
        unsafe {
            // The target's AtomicU64 has no compare_exchange, though its instruction set has (Linux 5.12).
            let meta = addr_of_mut!((*flow).meta.0);
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(meta, old.0, new.0).1
        }
    }

    #[inline(always)]
    fn remove_flow(&self, table: FlowTable, key: &FlowKey<A>) {
        // Not being there is what is wanted.
        let _gone = A::flows(table, key.protocol).remove(key);
    }

    #[inline(always)]
    fn source_towards(&self, destination: &A) -> Result<A, Counter> {
        let index = redirect::egress_towards(self.skb, destination)?;
        match interface_address::<A>(index).or_else(|| interface_address::<A>(0)) {
            Some(address) => Ok(address),
            None => Err(Counter::NoSourceAddress),
        }
    }

    #[inline(always)]
    fn primary_address(&self) -> Option<A> {
        interface_address(0)
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts> {
        let ports = A::fragments().get_ptr(key)?;
        // SAFETY: map values stay readable while the program runs; the tag tells whether it is still the key's.
        let ports = unsafe { read_volatile(ports) };
        (ports.tag == key.tag()).then_some(ports)
    }

    #[inline(always)]
    fn put_fragment(&self, key: &FragmentKey<A>, ports: &FragmentPorts) {
        // An LRU makes room; if it can't, the later fragments are dropped and counted.
        let _inserted = A::fragments().insert(key, ports, BPF_ANY);
    }
}

/// The address of an interface's entry; `None` if it has none of the family.
#[inline(always)]
fn interface_address<A: Maps>(index: u32) -> Option<A> {
    let interface = INTERFACES.get_ptr(index)?;
    // SAFETY: map values stay readable while the program runs; the index tells whether it is still the key's.
    let interface = unsafe { read_volatile(interface) };
    let address = A::of_interface(&interface);
    (interface.index == index && address != A::UNSPECIFIED).then_some(address)
}
