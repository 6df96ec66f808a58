//! The object, loaded: its maps to write and read, its programs to run.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::programs::{Program, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use proxy_common::layout::{
    Affinity, AffinityKey, Backend, BackendId, Config, Counter, Flow, FlowKey, FlowTable, FragmentKey,
    FragmentPorts, FrontendKey, FrontendValue, Interface, NamespaceAddress, NamespaceKey, Networks,
    PREFILTER_WORDS, SOURCE_RANGE_SERVICE_BITS, Service, ServiceId, SourceRange, UPLINKS, Uplink, V4, V6,
    Vip, names, node_address_value, protocol,
};

use super::Kin;
use super::bits::{pack, unpack};
use super::family::Packed;

/// TC_ACT_UNSPEC: on to other programs and the stack.
pub const PASS: i32 = -1;
/// TC_ACT_SHOT.
pub const SHOT: i32 = 2;
/// TC_ACT_REDIRECT. Where to is not to be seen in a test run.
pub const REDIRECT: i32 = 7;

/// XDP_PASS.
pub const XDP_PASS: i32 = 2;
/// XDP_TX.
pub const XDP_TX: i32 = 3;
/// XDP_REDIRECT. Where to is not to be seen in a test run.
pub const XDP_REDIRECT: i32 = 4;

/// The XDP programs.
const XDP: [&str; 2] = [names::program::XDP_UPLINK, names::program::XDP_UPLINK_FRAGS];
/// Elements of a per-CPU array of XDP's own.
const HOPS: u32 = 256;

/// The TC programs.
const PROGRAMS: [&str; 6] = [
    names::program::FROM_POD,
    names::program::TO_POD,
    names::program::FROM_NETWORK,
    names::program::TO_NETWORK,
    names::program::FROM_NETWORK_L3,
    names::program::TO_NETWORK_L3,
];
/// Offsets in `struct __sk_buff`, and its size.
const INGRESS_IFINDEX: usize = 36;
const SKB_MARK: usize = 8;
const IFINDEX: usize = 40;
const GSO_SIZE: usize = 176;
const CONTEXT: usize = 192;
/// The longest packet that a test run takes fits.
const LONGEST: usize = 16_384;

/// What a program made of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The program's return value.
    pub verdict: i32,
    /// The packet behind it.
    pub packet: Vec<u8>,
    /// `skb->mark` behind it; 0 where that is not told.
    pub mark: u32,
}

/// How a packet comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The interface whose hook sees it; 0: the loopback.
    pub interface: u32,
    /// The interface that it came in by, for egress.
    pub came_in_by: u32,
    /// `gso_size`.
    pub segment: u32,
    /// CHECKSUM_COMPLETE, as of a NIC that sums up what it receives; the sum must still be right behind the program.
    pub is_summed: bool,
}

/// The part of `union bpf_attr` that a test run reads (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct TestRunAttributes {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// A test run under CHECKSUM_COMPLETE, which aya has no way to ask for: verdict and length. The kernel takes the sum over
/// the packet again behind the program and says EBADMSG if the program left a wrong one.
fn run_summed(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &[u8],
    packet: &mut [u8],
) -> Result<(i32, usize)> {
    const BPF_PROG_TEST_RUN: libc::c_long = 10;
    const BPF_F_TEST_SKB_CHECKSUM_COMPLETE: u32 = 1 << 2;
    let mut attributes = TestRunAttributes {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_size_out: packet.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: packet.as_mut_ptr() as u64,
        ctx_size_in: context.len() as u32,
        ctx_in: context.as_ptr() as u64,
        flags: BPF_F_TEST_SKB_CHECKSUM_COMPLETE,
        ..TestRunAttributes::default()
    };
    // SAFETY: the attributes and all buffers that they point to live through the call, each as long as said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut attributes,
            size_of::<TestRunAttributes>(),
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).context("a test run under CHECKSUM_COMPLETE");
    }
    Ok((attributes.retval as i32, attributes.data_size_out as usize))
}

/// This moment, as the programs' clock has it.
pub fn ticks() -> u32 {
    let text =
        std::fs::read_to_string("/proc/timer_list").unwrap_or_else(|error| panic!("timer_list: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix("jiffies: "));
    let ticks = line.and_then(|ticks| ticks.trim().parse::<u64>().ok());
    ticks.unwrap_or_else(|| panic!("no jiffies in /proc/timer_list")) as u32
}

/// The loaded object.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
}

impl Kernel {
    /// Loads the object and its programs on interfaces; nothing is pinned or attached.
    pub fn load() -> Result<Self> {
        let mut kernel = Self::load_object("shunt.o", &PROGRAMS)?;
        for name in XDP {
            let program = kernel.ebpf.program_mut(name);
            let program: &mut Xdp = program
                .with_context(|| format!("the object has no program {name}"))?
                .try_into()?;
            program.load().with_context(|| format!("verifying {name}"))?;
        }
        Ok(kernel)
    }

    /// Loads the object for tests, which has the rule of socket LB behind a TC hook.
    pub fn load_testing() -> Result<Self> {
        Self::load_object(
            "testing.o",
            &["socket_choice4", "socket_choice6", "namespace4", "namespace6"],
        )
    }

    fn load_object(name: &str, programs: &[&str]) -> Result<Self> {
        // Where `cargo xtask build-ebpf` leaves it.
        let object = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target/bpf")
            .join(name);
        let bytes = std::fs::read(&object)
            .with_context(|| format!("reading {}: run `cargo xtask build-ebpf`", object.display()))?;
        let mut ebpf = EbpfLoader::new().load(&bytes).context("loading the object")?;
        for name in programs {
            let program: &mut SchedClassifier = ebpf
                .program_mut(name)
                .with_context(|| format!("the object has no program {name}"))?
                .try_into()?;
            program.load().with_context(|| format!("verifying {name}"))?;
        }
        Ok(Self { ebpf })
    }

    /// How many instructions the verifier went through, for each program.
    pub fn verified(&self) -> Vec<(&'static str, u32)> {
        let count = |name| -> Result<u32> {
            let info = match self.ebpf.program(name).context("it is not in the object")? {
                Program::SchedClassifier(program) => program.info()?,
                Program::Xdp(program) => program.info()?,
                _ => bail!("it is of another type"),
            };
            let count = info.verified_instruction_count();
            count.context("the kernel tells no number of verified instructions: it is older than 5.16")
        };
        PROGRAMS
            .into_iter()
            .chain(XDP)
            .map(|name| {
                (
                    name,
                    count(name).unwrap_or_else(|error| panic!("{name}: {error:?}")),
                )
            })
            .collect()
    }

    /// Runs a program on a frame.
    pub fn run(&self, program: &str, frame: &[u8], context: Context) -> Result<Output> {
        let program: &SchedClassifier = self
            .ebpf
            .program(program)
            .with_context(|| format!("the object has no program {program}"))?
            .try_into()?;
        let mut skb = [0; CONTEXT];
        for (offset, value) in [
            (IFINDEX, context.interface),
            (INGRESS_IFINDEX, context.came_in_by),
            (GSO_SIZE, context.segment),
        ] {
            skb[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let mut packet = vec![0; LONGEST];
        if context.is_summed {
            let (verdict, length) = run_summed(program.fd()?.as_fd(), frame, &skb, &mut packet)?;
            packet.truncate(length);
            let mark = 0;
            return Ok(Output {
                verdict,
                packet,
                mark,
            });
        }
        let mut left = [0; CONTEXT];
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut packet),
            ctx_in: Some(&skb),
            ctx_out: Some(&mut left),
            ..TestRunOptions::default()
        })?;
        packet.truncate(result.data_size_out as usize);
        let [a, b, c, d] = [0, 1, 2, 3].map(|byte| left[SKB_MARK + byte]);
        Ok(Output {
            verdict: result.return_value as i32,
            packet,
            mark: u32::from_ne_bytes([a, b, c, d]),
        })
    }

    /// Runs an XDP program on a frame that comes in by an interface.
    pub fn run_xdp(&self, program: &str, frame: &[u8], interface: u32) -> Result<Output> {
        let program: &Xdp = self
            .ebpf
            .program(program)
            .with_context(|| format!("the object has no program {program}"))?
            .try_into()?;
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let words = [0, frame.len() as u32, 0, interface, 0, 0];
        let md: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut packet = vec![0; LONGEST];
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut packet),
            ctx_in: Some(&md),
            ..TestRunOptions::default()
        })?;
        packet.truncate(result.data_size_out as usize);
        Ok(Output {
            verdict: result.return_value as i32,
            packet,
            mark: 0,
        })
    }

    /// Writes an element of UPLINKS.
    pub fn set_uplink(&mut self, uplink: &Uplink) {
        self.set::<[u8; 32]>(names::UPLINKS, Uplink::slot(uplink.index), pack(uplink));
    }

    /// XDP has asked the routing table nothing yet, and this tick is when the stack last sent something to each neighbour.
    pub fn set_neighbours(&mut self, seen: u32) {
        self.fill_cpus::<[u8; 40]>("HOPS4", [0; 40]);
        self.fill_cpus::<[u8; 64]>("HOPS6", [0; 64]);
        self.fill_cpus::<u32>(names::NEIGHBOURS, seen);
    }

    fn fill_cpus<V: aya::Pod>(&mut self, name: &str, value: V) {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        let mut map = PerCpuArray::<_, V>::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"));
        let cpus = aya::util::nr_cpus().unwrap_or_else(|error| panic!("how many CPUs there are: {error:?}"));
        for index in 0..HOPS {
            let values = PerCpuValues::try_from(vec![value; cpus]).unwrap_or_else(|error| panic!("{error}"));
            map.set(index, values, 0)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    fn hash<K: Packed, V: Packed>(&mut self, name: &str) -> HashMap<&mut MapData, K, V> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        HashMap::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn array<V: Packed>(&mut self, name: &str) -> Array<&mut MapData, V> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        Array::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn put<K: Packed, V: Packed>(&mut self, name: &str, key: K, value: V) {
        let result = self.hash::<K, V>(name).insert(key, value, 0);
        result.unwrap_or_else(|error| panic!("writing to {name}: {error}"));
    }

    fn get<K: Packed, V: Packed>(&mut self, name: &str, key: K) -> Option<V> {
        match self.hash::<K, V>(name).get(&key, 0) {
            Ok(value) => Some(value),
            Err(MapError::KeyNotFound) => None,
            Err(error) => panic!("reading {name}: {error}"),
        }
    }

    fn clear<K: Packed, V: Packed>(&mut self, name: &str) {
        let mut map = self.hash::<K, V>(name);
        let keys: Vec<_> = map.keys().filter_map(Result::ok).collect();
        for key in keys {
            match map.remove(&key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => panic!("clearing {name}: {error}"),
            }
        }
    }

    fn set<V: Packed>(&mut self, name: &str, index: u32, value: V) {
        let result = self.array::<V>(name).set(index, value, 0);
        result.unwrap_or_else(|error| panic!("writing to {name}: {error}"));
    }

    /// Writes CONFIG.
    pub fn set_config(&mut self, config: &Config) {
        self.set::<[u8; 48]>(names::CONFIG, 0, pack(config));
    }

    /// Writes an entry of INTERFACES.
    pub fn set_interface(&mut self, interface: &Interface) {
        let key: [u8; 4] = pack(&interface.index);
        self.put::<_, [u8; 32]>(names::INTERFACES, key, pack(interface));
    }

    /// Writes a word of PREFILTER.
    pub fn set_filter(&mut self, word: u32, value: u64) {
        self.set::<[u8; 8]>(names::PREFILTER, word, pack(&value));
    }

    /// Writes a service port's lists.
    pub fn set_service(&mut self, id: ServiceId, service: &Service) {
        self.set::<[u8; 32]>(names::SERVICES, id.0, pack(service));
    }

    /// Writes a slot.
    pub fn set_slot(&mut self, index: u32, backend: BackendId) {
        self.set::<[u8; 4]>(names::SLOTS, index, pack(&backend));
    }

    /// Writes a backend.
    pub fn set_backend(&mut self, id: BackendId, backend: &Backend) {
        self.set::<[u8; 32]>(names::BACKENDS, id.0, pack(backend));
    }

    /// How many connections a backend has.
    pub fn connections(&mut self, id: BackendId) -> i32 {
        let load = self.array::<[u8; 4]>(names::LOADS).get(&id.0, 0);
        i32::from_ne_bytes(load.unwrap_or_else(|error| panic!("reading {}: {error}", names::LOADS)))
    }

    /// Writes how many connections a backend has.
    pub fn set_connections(&mut self, id: BackendId, connections: i32) {
        self.set::<[u8; 4]>(names::LOADS, id.0, connections.to_ne_bytes());
    }

    /// All records of session affinity.
    pub fn affinities(&mut self) -> Vec<(AffinityKey, Affinity)> {
        let map = self.hash::<[u8; 20], [u8; 16]>(names::AFFINITY);
        let entries = map.iter().filter_map(Result::ok);
        entries
            .map(|(key, record)| (unpack(&key), unpack(&record)))
            .collect()
    }

    /// Writes a record of session affinity.
    pub fn set_affinity(&mut self, key: &AffinityKey, record: &Affinity) {
        self.put::<[u8; 20], [u8; 16]>(names::AFFINITY, pack(key), pack(record));
    }

    /// All that is known of network namespaces.
    pub fn namespaces(&mut self) -> Vec<(NamespaceKey, NamespaceAddress)> {
        let map = self.hash::<[u8; 16], [u8; 24]>(names::NAMESPACES);
        let entries = map.iter().filter_map(Result::ok);
        entries
            .map(|(key, address)| (unpack(&key), unpack(&address)))
            .collect()
    }

    /// Writes what is known of a network namespace.
    pub fn set_namespace(&mut self, key: &NamespaceKey, address: &NamespaceAddress) {
        self.put::<[u8; 16], [u8; 24]>(names::NAMESPACES, pack(key), pack(address));
    }

    /// Writes a range of sources that may use a service port's guarded frontends.
    pub fn set_source_range<A: Kin>(&mut self, service: ServiceId, tag: u16, address: &A, length: u32) {
        let range = SourceRange {
            service,
            address: *address,
        };
        let key = Key::new(
            SOURCE_RANGE_SERVICE_BITS + length,
            pack::<_, A::SourceRange>(&range),
        );
        let result = self
            .trie::<A::SourceRange>(A::SOURCE_RANGES)
            .insert(&key, u32::from(tag), 0);
        result.unwrap_or_else(|error| panic!("writing to {}: {error}", A::SOURCE_RANGES));
    }

    /// Forgets all of a family.
    pub fn clear_source_ranges<A: Kin>(&mut self) {
        let mut trie = self.trie::<A::SourceRange>(A::SOURCE_RANGES);
        let keys: Vec<_> = trie.keys().filter_map(Result::ok).collect();
        for key in keys {
            if let Err(error) = trie.remove(&key) {
                panic!("clearing {}: {error}", A::SOURCE_RANGES);
            }
        }
    }

    fn trie<K: Packed>(&mut self, name: &str) -> LpmTrie<&mut MapData, K, u32> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        LpmTrie::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Writes a frontend.
    pub fn set_frontend<A: Kin>(&mut self, key: &FrontendKey<A>, value: &FrontendValue) {
        self.put::<A::Frontend, [u8; 12]>(A::FRONTENDS, pack(key), pack(value));
    }

    /// Enters an address at which Services are reached.
    pub fn set_vip<A: Kin>(&mut self, address: &A, vip: Vip) {
        self.put::<A::Address, [u8; 4]>(A::VIPS, pack(address), pack(&vip));
    }

    /// Forgets those of a family.
    pub fn clear_vips<A: Kin>(&mut self) {
        self.clear::<A::Address, [u8; 4]>(A::VIPS);
    }

    /// Writes NETWORKS.
    pub fn set_networks(&mut self, networks: &Networks) {
        self.set::<[u8; size_of::<Networks>()]>(names::NETWORKS, 0, pack(networks));
    }

    /// Enters a node address, at which NodePorts answer or do not.
    pub fn set_node_address<A: Kin>(&mut self, address: &A, has_node_ports: bool) {
        let value = node_address_value(address, has_node_ports);
        self.put::<A::Address, [u8; 4]>(A::NODE_ADDRESSES, pack(address), pack(&value));
    }

    /// A flow as it stands.
    pub fn flow<A: Kin>(&mut self, table: FlowTable, key: &FlowKey<A>) -> Option<Flow<A>> {
        let name = A::table(table, key.protocol);
        let bytes = self.get::<A::Key, A::Flow>(name, pack(key))?;
        Some(unpack(bytes.as_ref()))
    }

    /// Writes a flow.
    pub fn set_flow<A: Kin>(&mut self, table: FlowTable, key: &FlowKey<A>, flow: &Flow<A>) {
        self.put::<A::Key, A::Flow>(A::table(table, key.protocol), pack(key), pack(flow));
    }

    /// Removes a flow.
    pub fn remove_flow<A: Kin>(&mut self, table: FlowTable, key: &FlowKey<A>) {
        let mut map = self.hash::<A::Key, A::Flow>(A::table(table, key.protocol));
        match map.remove(&pack(key)) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => panic!("removing a flow: {error}"),
        }
    }

    /// All flows of a family.
    pub fn flows<A: Kin>(&mut self) -> Vec<(FlowTable, FlowKey<A>, Flow<A>)> {
        let mut all = Vec::new();
        for ip_protocol in [protocol::TCP, protocol::UDP] {
            for table in [FlowTable::Embryos, FlowTable::Flows] {
                let map = self.hash::<A::Key, A::Flow>(A::table(table, ip_protocol));
                let entries = map
                    .iter()
                    .map(|entry| entry.unwrap_or_else(|error| panic!("reading flows: {error}")));
                all.extend(entries.map(|(key, flow)| (table, unpack(key.as_ref()), unpack(flow.as_ref()))));
            }
        }
        all
    }

    /// The remembered fragments of a family.
    pub fn fragments<A: Kin>(&mut self) -> Vec<(FragmentKey<A>, FragmentPorts)> {
        let map = self.hash::<A::Fragment, [u8; 8]>(A::FRAGMENTS);
        let entries = map
            .iter()
            .map(|entry| entry.unwrap_or_else(|error| panic!("reading fragments: {error}")));
        entries
            .map(|(key, ports)| (unpack(key.as_ref()), unpack(ports.as_ref())))
            .collect()
    }

    /// How often an event was counted, on all CPUs.
    pub fn counted(&self, counter: Counter) -> u64 {
        let map = self
            .ebpf
            .map(names::COUNTERS)
            .unwrap_or_else(|| panic!("no counters"));
        let map = PerCpuArray::<_, u64>::try_from(map).unwrap_or_else(|error| panic!("COUNTERS: {error}"));
        let values = map
            .get(&(counter as u32), 0)
            .unwrap_or_else(|error| panic!("COUNTERS: {error}"));
        values.iter().sum()
    }

    /// All counters, in their order.
    pub fn counters(&self) -> Vec<u64> {
        Counter::ALL
            .iter()
            .map(|counter| self.counted(*counter))
            .collect()
    }

    /// When the bucket of ICMP errors will be full, on every CPU: nanoseconds of the monotonic clock.
    pub fn set_error_limit(&mut self, full: u64) {
        self.set_limit(names::ERROR_LIMIT, full);
    }

    /// Whether fragments ahead of their first come in again, of which a test run sees no more than the first time.
    pub fn let_fragments_come_again(&mut self, they_do: bool) {
        self.set_limit(names::AHEAD_LIMIT, if they_do { 0 } else { u64::MAX / 2 });
    }

    fn set_limit(&mut self, name: &str, full: u64) {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no {name}"));
        let mut map = PerCpuArray::<_, u64>::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"));
        let cpus = aya::util::nr_cpus().unwrap_or_else(|error| panic!("how many CPUs there are: {error:?}"));
        let values = PerCpuValues::try_from(vec![full; cpus]).unwrap_or_else(|error| panic!("{error}"));
        map.set(0, values, 0)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Empties the tables of flows, fragments, session affinity and network namespaces.
    pub fn forget_flows(&mut self) {
        self.clear::<[u8; 16], [u8; 24]>(names::NAMESPACES);
        self.clear::<[u8; 20], [u8; 16]>(names::AFFINITY);
        self.forget_family::<V4>();
        self.forget_family::<V6>();
    }

    fn forget_family<A: Kin>(&mut self) {
        for ip_protocol in [protocol::TCP, protocol::UDP] {
            for table in [FlowTable::Embryos, FlowTable::Flows] {
                self.clear::<A::Key, A::Flow>(A::table(table, ip_protocol));
            }
        }
        self.clear::<A::Fragment, [u8; 8]>(A::FRAGMENTS);
    }

    /// Empties everything but the arrays of services, slots and backends, which nothing points to any more.
    pub fn reset(&mut self) {
        self.forget_flows();
        self.clear_source_ranges::<V4>();
        self.clear_source_ranges::<V6>();
        self.clear::<[u8; 8], [u8; 12]>(names::FRONTENDS4);
        self.clear::<[u8; 20], [u8; 12]>(names::FRONTENDS6);
        self.clear::<[u8; 4], [u8; 4]>(names::NODE_ADDRESSES4);
        self.clear::<[u8; 16], [u8; 4]>(names::NODE_ADDRESSES6);
        self.clear_vips::<V4>();
        self.clear_vips::<V6>();
        self.set_networks(&Networks::default());
        self.clear::<[u8; 4], [u8; 32]>(names::INTERFACES);
        self.set_error_limit(0);
        self.let_fragments_come_again(false);
        for index in 0..UPLINKS {
            self.set_uplink(&Uplink {
                index,
                ..Uplink::default()
            });
        }
        for word in 0..PREFILTER_WORDS {
            self.set_filter(word, 0);
        }
    }
}
