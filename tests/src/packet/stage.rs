//! One Service on a node, in the kernel's maps and on the host alike.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use proxy_common::host::HostNode;
use proxy_common::layout::{
    AffinityWord, BACKEND_LOCAL, BACKEND_POD, Backend, BackendId, CONFIG_CHECKSUM_IPV6, CONFIG_FAST, Config,
    Direction, Family, Flow, FlowKey, FlowTable, FrontendKey, FrontendKind, INTERFACE_PEER, INTERFACE_PODS,
    INTERFACE_UPLINK, Interface, LAYOUT_VERSION, ListWord, PREFILTER_WORDS, Port, Service, ServiceId,
    UPLINK_SENDS, UPLINK_SENDS_BUFFERS, UPLINK_TAKES, UPLINK_TURNS, Uplink, V4, V6, When, names::program,
    protocol,
};

use super::kernel::Context;
use super::wire::{self, Wire};
use super::{Frame, Kernel, Kin, Output, REDIRECT, Transport, XDP_PASS, XDP_REDIRECT, XDP_TX, ticks};

/// One object for all tests of a program: loading it takes seconds.
static KERNEL: LazyLock<Mutex<Kernel>> = LazyLock::new(|| {
    let kernel = Kernel::load().unwrap_or_else(|error| panic!("{error:?}"));
    Mutex::new(kernel)
});

/// The same of the object for tests.
static TESTING: LazyLock<Mutex<Kernel>> = LazyLock::new(|| {
    let kernel = Kernel::load_testing().unwrap_or_else(|error| panic!("{error:?}"));
    Mutex::new(kernel)
});

/// The link-layer address of the namespace's interfaces, as XDP compares it.
const OWN_LINK: [u16; 3] = [
    u16::from_ne_bytes([2, 0]),
    u16::from_ne_bytes([0, 0]),
    u16::from_ne_bytes([0, 1]),
];
/// The first port for SNAT, and how many there are.
pub const SNAT: (u16, u16) = (45000, 16000);
/// The NodePort.
pub const NODE_PORT: u16 = 30080;
/// The backends' port.
pub const TARGET: u16 = 8080;
/// The lists' tag.
pub const TAG: u16 = 77;
/// What Services are made of.
pub const PROTOCOLS: [u8; 3] = [protocol::TCP, protocol::UDP, protocol::SCTP];

/// The Service's address in the cluster.
pub fn cluster_ip<A: Kin>() -> A {
    A::of(0x60, 1)
}
/// The load balancer's address.
pub fn balancer<A: Kin>() -> A {
    A::of(0x61, 1)
}
/// This node, on its uplink.
pub fn node<A: Kin>() -> A {
    A::of(1, 1)
}
/// A client on the uplink's network.
pub fn client<A: Kin>() -> A {
    A::of(1, 0x20)
}
/// A pod of this node that is no backend.
pub fn pod<A: Kin>() -> A {
    A::of(4, 0x99)
}
/// The nth backend on this node.
pub fn local<A: Kin>(nth: u16) -> A {
    A::of(4, 0x100 + nth)
}
/// The nth backend on another.
pub fn remote<A: Kin>(nth: u16) -> A {
    A::of(5, 0x100 + nth)
}

/// What opens a flow, in each protocol.
pub fn calls<A: Kin>(source: (A, u16), destination: (A, u16)) -> [Frame; 3] {
    [
        Frame::syn(source, destination),
        Frame::udp(source, destination),
        Frame::init(source, destination),
    ]
}

/// The node, its kernel, and the interfaces of this thread's namespace.
pub struct Stage<A: Kin> {
    /// The kernel's side.
    pub kernel: MutexGuard<'static, Kernel>,
    /// The same tables on the host.
    pub host: HostNode<A>,
    /// The interfaces.
    pub wire: Wire,
    /// How long clients keep their backends.
    affinity: AffinityWord,
}

impl<A: Kin> Stage<A> {
    /// Moves this thread into a namespace of its own and installs a Service with these backends.
    pub fn new(backends: &[A]) -> Self {
        Self::on(&KERNEL, backends)
    }

    /// The same with the object for tests.
    pub fn testing(backends: &[A]) -> Self {
        Self::on(&TESTING, backends)
    }

    fn on(kernel: &'static Mutex<Kernel>, backends: &[A]) -> Self {
        let wire = wire::enter().unwrap_or_else(|error| panic!("{error:?}"));
        let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
        kernel.reset();
        let config = Config {
            host_netns_cookie: 1,
            layout_version: LAYOUT_VERSION,
            flags: CONFIG_CHECKSUM_IPV6,
            ticks_per_second: 1000,
            snat_first: SNAT.0,
            snat_count: SNAT.1,
            tcp_embryo: 60_000,
            tcp_established: 86_400_000,
            tcp_half_closed: 3_600_000,
            tcp_closing: 120_000,
            udp_embryo: 30_000,
            udp_established: 180_000,
        };
        let mut host = HostNode::new(config, 1);
        host.primary = Some(node());
        host.came_in_by = wire.uplink;
        host.node_addresses.extend([node(), A::of(6, 1)]);
        let mut stage = Self {
            kernel,
            host,
            wire,
            affinity: AffinityWord::OFF,
        };
        for ip_protocol in PROTOCOLS {
            stage.add_frontends(ip_protocol);
        }
        stage.set_backends(backends);
        stage
    }

    /// The same, and the stack has just sent something to every neighbour: XDP need not leave it a packet.
    pub fn with_neighbours(backends: &[A]) -> Self {
        let mut stage = Self::new(backends);
        stage.kernel.set_neighbours(ticks());
        stage
    }

    /// TCP is service 1, UDP 2, SCTP 3.
    pub fn service(ip_protocol: u8) -> ServiceId {
        ServiceId(match ip_protocol {
            protocol::TCP => 1,
            protocol::UDP => 2,
            _ => 3,
        })
    }

    /// Id of the nth backend, from 1 on.
    pub fn backend(ip_protocol: u8, nth: u32) -> BackendId {
        BackendId(
            nth + match ip_protocol {
                protocol::TCP => 0,
                protocol::UDP => 500,
                _ => 750,
            },
        )
    }

    fn add_frontends(&mut self, ip_protocol: u8) {
        for (address, port, kind) in [
            (cluster_ip(), 80, FrontendKind::ClusterIp),
            (balancer(), 80, FrontendKind::LoadBalancer),
            (A::UNSPECIFIED, NODE_PORT, FrontendKind::NodePort),
        ] {
            let key = FrontendKey::new(address, Port::new(port), ip_protocol);
            self.host.add_frontend(key, kind, Self::service(ip_protocol), TAG);
        }
    }

    /// Makes backends, and lists that hold all of them, and installs everything.
    pub fn set_backends(&mut self, addresses: &[A]) {
        for ip_protocol in PROTOCOLS {
            let mut ids = Vec::new();
            for (nth, address) in (1..).zip(addresses) {
                let is_local = address.to_mapped().octets()[12..14]
                    == local::<A>(0).to_mapped().octets()[12..14]
                    && A::FAMILY == Family::V4
                    || address.to_mapped().octets()[..2] == [0xfd, 4];
                let id = Self::backend(ip_protocol, nth);
                let backend = Backend {
                    address: address.to_mapped(),
                    port: Port::new(TARGET),
                    protocol: ip_protocol,
                    flags: if is_local { BACKEND_LOCAL } else { 0 },
                    service: Self::service(ip_protocol),
                    life: 1,
                    last_life: 0,
                };
                self.host.set_backend(id, backend);
                ids.push(id);
            }
            let list = self.host.add_list(&ids, TAG);
            self.set_lists(ip_protocol, list);
        }
        self.install();
    }

    fn set_lists(&mut self, ip_protocol: u8, list: ListWord) {
        let service = Service {
            internal: list,
            external: list,
            shortcut: list,
            affinity: self.affinity,
        };
        self.host.services.insert(Self::service(ip_protocol), service);
    }

    /// How long clients keep their backends, from now on.
    pub fn set_affinity(&mut self, word: AffinityWord) {
        self.affinity = word;
        for service in self.host.services.values_mut() {
            service.affinity = word;
        }
        self.install();
    }

    /// Forwards by DSR from now on: the shortcut lists hold this node's backends, and there are none but on other nodes if it
    /// has none.
    pub fn hand_on(&mut self) {
        self.affinity = AffinityWord::new(0, 0, TAG).with_hand_on(true);
        for ip_protocol in PROTOCOLS {
            let service = Self::service(ip_protocol);
            let backends = self.host.backends.iter();
            let local = backends.filter(|(_, backend)| {
                backend.service == service && backend.is_alive() && backend.is_local()
            });
            let local: Vec<_> = local.map(|(id, _)| *id).collect();
            let list = match local.is_empty() {
                true => ListWord::empty(When::Drop, TAG),
                false => self.host.add_list(&local, TAG),
            };
            if let Some(service) = self.host.services.get_mut(&service) {
                service.shortcut = list;
                service.affinity = self.affinity;
            }
        }
        self.install();
    }

    /// Lets flows that are made from now on go around the stack: backends are pods, and these interfaces lead to pods and to the
    /// network.
    pub fn go_around(&mut self) {
        self.host.config.flags |= CONFIG_FAST;
        for backend in self.host.backends.values_mut() {
            backend.flags |= BACKEND_POD;
        }
        self.install();
        let Wire { uplink, pod, .. } = self.wire;
        for (index, prefix, flags) in [
            (uplink, 1, INTERFACE_UPLINK),
            (pod, 4, INTERFACE_PODS | INTERFACE_PEER),
        ] {
            self.kernel.set_interface(&Interface {
                v4: V4::of(prefix, 1),
                v6: V6::of(prefix, 1),
                flags,
                mtu: 0,
                index,
            });
        }
    }

    /// No backends, everywhere.
    pub fn empty_lists(&mut self, when: When) {
        for ip_protocol in PROTOCOLS {
            self.set_lists(ip_protocol, ListWord::empty(when, TAG));
        }
        self.install();
    }

    /// Copies the host's tables into the kernel's maps; not the flows.
    pub fn install(&mut self) {
        self.install_without_interfaces();
        for (index, prefix) in [(0, 1), (self.wire.uplink, 1), (self.wire.narrow, 6)] {
            self.kernel.set_interface(&Interface {
                v4: V4::of(prefix, 1),
                v6: V6::of(prefix, 1),
                flags: 0,
                mtu: 0,
                index,
            });
        }
        for index in [self.wire.uplink, self.wire.narrow] {
            let all = UPLINK_TAKES | UPLINK_SENDS | UPLINK_SENDS_BUFFERS | UPLINK_TURNS;
            self.set_uplink(index, all);
        }
    }

    /// What XDP may do at an uplink of the namespace ([`Uplink::flags`]).
    pub fn set_uplink(&mut self, index: u32, flags: u16) {
        self.kernel.set_uplink(&Uplink {
            link: OWN_LINK,
            flags,
            index,
            ..Uplink::default()
        });
    }

    /// Runs XDP of the uplink on bytes.
    pub fn run_xdp(&self, bytes: &[u8]) -> Output {
        let output = self
            .kernel
            .run_xdp(program::XDP_UPLINK_FRAGS, bytes, self.wire.uplink);
        output.unwrap_or_else(|error| panic!("XDP: {error:?}: {bytes:02x?}"))
    }

    /// Runs XDP of the uplink, and TC ingress on what passes. Gives TC's verdict, which a packet that XDP sends on has as
    /// well, and the packet between the node's own link-layer addresses, as TC leaves it.
    #[track_caller]
    pub fn run_both(&self, bytes: &[u8], context: Context) -> Output {
        let sent = self.run_xdp(bytes);
        match sent.verdict {
            XDP_PASS => {
                assert_eq!(sent.packet, bytes, "XDP passes what it wrote to");
                self.run_in(program::FROM_NETWORK, bytes, context)
            }
            XDP_TX | XDP_REDIRECT => {
                let mut packet = sent.packet;
                assert_eq!(
                    packet[..12],
                    [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1],
                    "the neighbour's and ours"
                );
                packet[..12].copy_from_slice(&bytes[..12]);
                Output {
                    verdict: REDIRECT,
                    mark: 0,
                    packet,
                }
            }
            other => panic!("XDP's verdict is {other}"),
        }
    }

    /// The same, with no entry in INTERFACES.
    pub fn install_without_interfaces(&mut self) {
        self.kernel.set_config(&self.host.config);
        self.install_tables();
        let Self { kernel, host, .. } = self;
        for word in 0..PREFILTER_WORDS {
            if let Some(bits) = host.filter.get(&word) {
                kernel.set_filter(word, *bits);
            }
        }
        for (key, value) in &host.frontends {
            kernel.set_frontend(key, value);
        }
        kernel.clear_vips::<A>();
        for (address, vip) in &host.vips {
            kernel.set_vip(address, *vip);
        }
        kernel.set_networks(&A::networks(host.service_networks, host.local_networks));
        kernel.clear_source_ranges::<A>();
        for (service, tag, address, length) in &host.source_ranges {
            kernel.set_source_range(*service, *tag, address, *length);
        }
        for address in &host.node_addresses {
            kernel.set_node_address(address, !host.silent_addresses.contains(address));
        }
    }

    /// Copies services, slots and backends.
    pub fn install_tables(&mut self) {
        let Self { kernel, host, .. } = self;
        for (id, service) in &host.services {
            kernel.set_service(*id, service);
        }
        for (index, id) in (0..).zip(&host.slots) {
            kernel.set_slot(index, *id);
        }
        for (id, backend) in &host.backends {
            kernel.set_backend(*id, backend);
        }
    }

    /// A backend no longer serves.
    pub fn kill(&mut self, nth: u32) {
        for ip_protocol in PROTOCOLS {
            self.host.kill_backend(Self::backend(ip_protocol, nth));
        }
        self.install();
    }

    /// The interface that a program is attached to.
    pub fn interface(&self, program: &str) -> u32 {
        if program.ends_with("pod") {
            self.wire.pod
        } else {
            self.wire.uplink
        }
    }

    /// Runs a program on bytes.
    pub fn run(&self, program: &str, bytes: &[u8]) -> Output {
        let context = Context {
            interface: self.interface(program),
            ..Context::default()
        };
        self.run_in(program, bytes, context)
    }

    /// Runs a program on bytes that come in as said.
    pub fn run_in(&self, program: &str, bytes: &[u8], context: Context) -> Output {
        let output = self.kernel.run(program, bytes, context);
        output.unwrap_or_else(|error| panic!("{program}: {error:?}: {bytes:02x?}"))
    }

    /// Runs a program that must give this verdict and leave a packet whose checksums are right.
    #[track_caller]
    pub fn send(&self, program: &str, frame: &Frame, verdict: i32) -> Frame {
        let output = self.run(program, &frame.bytes());
        assert_eq!(output.verdict, verdict, "{program} of {frame:?}");
        Frame::read(&output.packet)
    }

    /// The flow of a packet as it arrives.
    pub fn flow(&mut self, table: FlowTable, frame: &Frame, direction: Direction) -> Option<Flow<A>> {
        let key = FlowKey {
            source: A::from_mapped(frame.source.ip().into()),
            destination: A::from_mapped(frame.destination.ip().into()),
            source_port: Port::new(frame.source.port()),
            destination_port: Port::new(frame.destination.port()),
            protocol: match frame.transport {
                Transport::Tcp(..) => protocol::TCP,
                Transport::Udp(_) => protocol::UDP,
                Transport::Sctp(..) => protocol::SCTP,
            },
            direction: direction as u8,
            pad: 0,
        };
        self.kernel.flow(table, &key)
    }
}
