//! All maps. Sizes are the smallest useful ones: the agent sets the real ones at load.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
};
use proxy_common::layout::{
    Addr, Affinity, AffinityKey, Backend, Config, Flow, FlowKey, FlowTable, FragmentKey, FragmentPorts,
    FrontendKey, FrontendValue, Identity, Interface, NamespaceAddress, NamespaceKey, NetworkList, Networks,
    PREFILTER_WORDS, ProbeKey, Service, SocketKey, SocketValue, SourceRange, UPLINKS as UPLINKS_LENGTH,
    Uplink, V4, V6, Vip, protocol,
};
use proxy_common::rules::Work;

/// The agent writes these as memory.
const BPF_F_MMAPABLE: u32 = 1 << 10;
const SMALL: u32 = 1024;

#[map]
pub(crate) static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static FRONTENDS4: HashMap<FrontendKey<V4>, FrontendValue> = HashMap::with_max_entries(SMALL, 0);
#[map]
static FRONTENDS6: HashMap<FrontendKey<V6>, FrontendValue> = HashMap::with_max_entries(SMALL, 0);
#[map]
pub(crate) static SERVICES: Array<Service> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
pub(crate) static SLOTS: Array<u32> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
pub(crate) static BACKENDS: Array<Backend> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
pub(crate) static LOADS: Array<i32> = Array::with_max_entries(SMALL, 0);
#[map]
pub(crate) static PREFILTER: Array<u64> = Array::with_max_entries(PREFILTER_WORDS, BPF_F_MMAPABLE);
#[map]
static NODE_ADDRESSES4: HashMap<V4, u32> = HashMap::with_max_entries(SMALL, 0);
#[map]
static NODE_ADDRESSES6: HashMap<V6, u32> = HashMap::with_max_entries(SMALL, 0);
#[map]
static VIPS4: HashMap<V4, Vip> = HashMap::with_max_entries(SMALL, 0);
#[map]
static VIPS6: HashMap<V6, Vip> = HashMap::with_max_entries(SMALL, 0);
#[map]
pub(crate) static NETWORKS: Array<Networks> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static INTERFACES: HashMap<u32, Interface> = HashMap::with_max_entries(SMALL, 0);
/// Read and written by the agent only; made here so that all maps are made and pinned in one way.
#[map]
pub(crate) static IDENTITY: HashMap<u32, Identity> = HashMap::with_max_entries(SMALL, 0);
#[map]
static TCP_EMBRYOS4: LruHashMap<FlowKey<V4>, Flow<V4>> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static TCP_EMBRYOS6: LruHashMap<FlowKey<V6>, Flow<V6>> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static TCP_FLOWS4: LruHashMap<FlowKey<V4>, Flow<V4>> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static TCP_FLOWS6: LruHashMap<FlowKey<V6>, Flow<V6>> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static UDP_EMBRYOS4: LruHashMap<FlowKey<V4>, Flow<V4>> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static UDP_EMBRYOS6: LruHashMap<FlowKey<V6>, Flow<V6>> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static UDP_FLOWS4: LruHashMap<FlowKey<V4>, Flow<V4>> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static UDP_FLOWS6: LruHashMap<FlowKey<V6>, Flow<V6>> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static FRAGMENTS4: LruHashMap<FragmentKey<V4>, FragmentPorts> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static FRAGMENTS6: LruHashMap<FragmentKey<V6>, FragmentPorts> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static SOURCE_RANGES4: LpmTrie<SourceRange<V4>, u32> = LpmTrie::with_max_entries(SMALL, 0);
#[map]
static SOURCE_RANGES6: LpmTrie<SourceRange<V6>, u32> = LpmTrie::with_max_entries(SMALL, 0);
#[map]
pub(crate) static AFFINITY: LruHashMap<AffinityKey, Affinity> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
pub(crate) static NAMESPACES: LruHashMap<NamespaceKey, NamespaceAddress> =
    LruHashMap::with_max_entries(SMALL, 0);
#[map]
pub(crate) static SOCKETS: LruHashMap<SocketKey, SocketValue> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(64, 0);

#[map]
pub(crate) static UPLINKS: Array<Uplink> = Array::with_max_entries(UPLINKS_LENGTH, 0);

/// The way that XDP sends packets by, as the routing table had it a moment ago.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Hop<A> {
    /// The packets' addresses, and ports where the way can depend on them.
    pub(crate) source: A,
    pub(crate) destination: A,
    pub(crate) ports: u32,
    /// The interface that they came in by.
    pub(crate) came_in_by: u32,
    /// The interface that they leave by.
    pub(crate) interface: u32,
    pub(crate) mtu: u32,
    /// When the routing table was asked, in ticks.
    pub(crate) asked: u32,
    /// Destination and source of the frame, in memory order.
    pub(crate) link: [u16; 6],
}

/// What led to a flow that XDP has not counted yet.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Tries {
    /// Counter::ReverseCollision.
    pub(crate) collisions: u32,
    /// Counter::AffinityKept.
    pub(crate) kept: u32,
}
#[map]
pub(crate) static WORK_TRIES: PerCpuArray<Tries> = PerCpuArray::with_max_entries(1, 0);

/// Elements of HOPS and of NEIGHBOURS.
pub(crate) const HOPS: u32 = 256;
#[map]
static HOPS4: PerCpuArray<Hop<V4>> = PerCpuArray::with_max_entries(HOPS, 0);
#[map]
static HOPS6: PerCpuArray<Hop<V6>> = PerCpuArray::with_max_entries(HOPS, 0);
#[map]
pub(crate) static NEIGHBOURS: PerCpuArray<u32> = PerCpuArray::with_max_entries(HOPS, 0);

/// The rules' workspace: TC and XDP programs run with softirqs off, so that a CPU is in one of them at a time.
#[map]
static WORK4: PerCpuArray<Work<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static WORK6: PerCpuArray<Work<V6>> = PerCpuArray::with_max_entries(1, 0);
/// Where an ICMP error is put together.
#[map]
pub(crate) static WORK_ERROR: PerCpuArray<[u32; 400]> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static ERROR_LIMIT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static AHEAD_LIMIT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub(crate) static PROBES: HashMap<ProbeKey, u32> = HashMap::with_max_entries(SMALL, 0);

const _: () = assert!(proxy_common::layout::Counter::ALL.len() <= 64);

/// The maps of an address family.
pub(crate) trait Maps: Addr {
    fn frontends() -> &'static HashMap<FrontendKey<Self>, FrontendValue>;
    fn node_addresses() -> &'static HashMap<Self, u32>;
    fn source_ranges() -> &'static LpmTrie<SourceRange<Self>, u32>;
    fn vips() -> &'static HashMap<Self, Vip>;
    /// Its ranges of cluster addresses.
    fn service_networks(networks: &Networks) -> &NetworkList<Self>;
    /// Its ranges of pods that count as this node's own.
    fn local_networks(networks: &Networks) -> &NetworkList<Self>;
    /// Bits of an address.
    const BITS: u32;
    fn fragments() -> &'static LruHashMap<FragmentKey<Self>, FragmentPorts>;
    fn work() -> &'static PerCpuArray<Work<Self>>;
    fn hops() -> &'static PerCpuArray<Hop<Self>>;
    fn flows(table: FlowTable, ip_protocol: u8) -> &'static LruHashMap<FlowKey<Self>, Flow<Self>>;
    /// Its address in an entry of INTERFACES.
    fn of_interface(interface: &Interface) -> Self;
}

macro_rules! maps {
    ($family:ty, $bits:literal, $frontends:ident, $addresses:ident, $ranges:ident, $fragments:ident, $work:ident, $hops:ident,
     $tcp_embryos:ident, $tcp_flows:ident, $udp_embryos:ident, $udp_flows:ident,
     $field:ident, $vips:ident, $service:ident, $local:ident) => {
        impl Maps for $family {
            #[inline(always)]
            fn frontends() -> &'static HashMap<FrontendKey<Self>, FrontendValue> {
                &$frontends
            }
            #[inline(always)]
            fn node_addresses() -> &'static HashMap<Self, u32> {
                &$addresses
            }
            #[inline(always)]
            fn source_ranges() -> &'static LpmTrie<SourceRange<Self>, u32> {
                &$ranges
            }
            #[inline(always)]
            fn vips() -> &'static HashMap<Self, Vip> {
                &$vips
            }
            #[inline(always)]
            fn service_networks(networks: &Networks) -> &NetworkList<Self> {
                &networks.$service
            }
            #[inline(always)]
            fn local_networks(networks: &Networks) -> &NetworkList<Self> {
                &networks.$local
            }
            const BITS: u32 = $bits;
            #[inline(always)]
            fn fragments() -> &'static LruHashMap<FragmentKey<Self>, FragmentPorts> {
                &$fragments
            }
            #[inline(always)]
            fn work() -> &'static PerCpuArray<Work<Self>> {
                &$work
            }
            #[inline(always)]
            fn hops() -> &'static PerCpuArray<Hop<Self>> {
                &$hops
            }
            #[inline(always)]
            fn flows(table: FlowTable, ip_protocol: u8) -> &'static LruHashMap<FlowKey<Self>, Flow<Self>> {
                match (table, ip_protocol != protocol::UDP) {
                    (FlowTable::Embryos, true) => &$tcp_embryos,
                    (FlowTable::Flows, true) => &$tcp_flows,
                    (FlowTable::Embryos, false) => &$udp_embryos,
                    (FlowTable::Flows, false) => &$udp_flows,
                }
            }
            #[inline(always)]
            fn of_interface(interface: &Interface) -> Self {
                interface.$field
            }
        }
    };
}

maps!(
    V4,
    32,
    FRONTENDS4,
    NODE_ADDRESSES4,
    SOURCE_RANGES4,
    FRAGMENTS4,
    WORK4,
    HOPS4,
    TCP_EMBRYOS4,
    TCP_FLOWS4,
    UDP_EMBRYOS4,
    UDP_FLOWS4,
    v4,
    VIPS4,
    service4,
    local4
);
maps!(
    V6,
    128,
    FRONTENDS6,
    NODE_ADDRESSES6,
    SOURCE_RANGES6,
    FRAGMENTS6,
    WORK6,
    HOPS6,
    TCP_EMBRYOS6,
    TCP_FLOWS6,
    UDP_EMBRYOS6,
    UDP_FLOWS6,
    v6,
    VIPS6,
    service6,
    local6
);
