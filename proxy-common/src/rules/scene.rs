//! A small node for tests of the rules, and packets to send through its hooks.

use core::hash::Hash;
use std::vec::Vec;

use crate::host::HostNode;
use crate::layout::{
    AffinityWord, BACKEND_LOCAL, Backend, BackendId, Config, Counter, Direction, Family, Flow, FlowKey,
    FlowTable, FrontendKey, FrontendKind, ListWord, Port, Service, ServiceId, V4, V6, When, protocol,
};
use crate::rules::headers::{Readable, tcp};
use crate::rules::{Decision, Directory, Origin, Verdict, Work, hook, sctp, settled};

/// Ticks of a second in the scene.
pub(crate) const SECOND: u32 = 250;
pub(crate) const CONFIG: Config = Config {
    host_netns_cookie: 1,
    layout_version: 1,
    flags: 0,
    ticks_per_second: SECOND,
    snat_first: 45000,
    snat_count: 16000,
    tcp_embryo: 60 * SECOND,
    tcp_established: 86_400 * SECOND,
    tcp_half_closed: 3600 * SECOND,
    tcp_closing: 120 * SECOND,
    udp_embryo: 30 * SECOND,
    udp_established: 180 * SECOND,
};

/// Addresses, by number.
pub(crate) const NODE: u16 = 1;
pub(crate) const EGRESS: u16 = 2;
pub(crate) const CLUSTER_IP: u16 = 0x1001;
pub(crate) const OTHER_IP: u16 = 0x1002;
pub(crate) const LOAD_BALANCER: u16 = 0x1101;
pub(crate) const CLIENT: u16 = 0x2001;
pub(crate) const POD: u16 = 0x3001;
/// Backends: `LOCAL + n` on this node, `REMOTE + n` on others.
pub(crate) const LOCAL: u16 = 0x4000;
pub(crate) const REMOTE: u16 = 0x5000;
pub(crate) const NODE_PORT: u16 = 30080;
pub(crate) const TARGET_PORT: u16 = 8080;
pub(crate) const TAG: u16 = 77;
/// What Services are made of.
pub(crate) const PROTOCOLS: [u8; 3] = [protocol::TCP, protocol::UDP, protocol::SCTP];

/// Families that the tests speak.
pub(crate) trait Spoken: Readable + Hash {
    fn of(number: u16) -> Self;
    /// A network header in front of `rest`; `fragment` is (identification, offset in bytes, more follow).
    fn wrap(packet: &Packet<Self>, rest: &[u8]) -> Vec<u8>;
}

/// One TCP, UDP or SCTP packet. Of SCTP the flags say in TCP's words what its first chunk is, and the numbers are the tags:
/// the one that an INIT ACK asks for, and the packet's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet<A> {
    pub(crate) source: (A, u16),
    pub(crate) destination: (A, u16),
    pub(crate) protocol: u8,
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) payload: usize,
    pub(crate) fragment: Option<(u16, u16, bool)>,
}

impl<A: Spoken> Packet<A> {
    pub(crate) fn udp(source: (u16, u16), destination: (u16, u16)) -> Self {
        Self {
            source: (A::of(source.0), source.1),
            destination: (A::of(destination.0), destination.1),
            protocol: protocol::UDP,
            flags: 0,
            sequence: 0,
            acknowledgement: 0,
            payload: 4,
            fragment: None,
        }
    }

    pub(crate) fn tcp(source: (u16, u16), destination: (u16, u16), flags: u8) -> Self {
        Self {
            protocol: protocol::TCP,
            flags,
            sequence: 1000,
            payload: 0,
            ..Self::udp(source, destination)
        }
    }

    pub(crate) fn init(source: (u16, u16), destination: (u16, u16)) -> Self {
        Self {
            protocol: protocol::SCTP,
            ..Self::syn(source, destination)
        }
    }

    pub(crate) fn syn(source: (u16, u16), destination: (u16, u16)) -> Self {
        Self::tcp(source, destination, tcp::SYN)
    }

    pub(crate) fn numbers(self, sequence: u32, acknowledgement: u32) -> Self {
        Self {
            sequence,
            acknowledgement,
            ..self
        }
    }

    pub(crate) fn with_flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    pub(crate) fn with_payload(self, payload: usize) -> Self {
        Self { payload, ..self }
    }

    /// The same from the other end.
    pub(crate) fn turned(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }

    pub(crate) fn key(&self, direction: Direction) -> FlowKey<A> {
        FlowKey {
            source: self.source.0,
            destination: self.destination.0,
            source_port: Port::new(self.source.1),
            destination_port: Port::new(self.destination.1),
            protocol: self.protocol,
            direction: direction as u8,
            pad: 0,
        }
    }

    fn chunk(&self) -> u8 {
        const DATA: u8 = 0;
        const SYN_ACK: u8 = tcp::SYN | tcp::ACK;
        match self.flags & !tcp::FIN {
            tcp::SYN => sctp::INIT,
            SYN_ACK => sctp::INIT_ACK,
            tcp::RST => sctp::ABORT,
            _ if self.flags & tcp::FIN != 0 => sctp::SHUTDOWN,
            _ if self.payload > 0 => DATA,
            _ => sctp::ERROR,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        if self.fragment.is_some_and(|(_, offset, _)| offset != 0) {
            return A::wrap(self, &[0xab; 16]);
        }
        let mut rest = [self.source.1.to_be_bytes(), self.destination.1.to_be_bytes()].concat();
        if self.protocol == protocol::TCP {
            rest.extend(self.sequence.to_be_bytes());
            rest.extend(self.acknowledgement.to_be_bytes());
            rest.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        } else if self.protocol == protocol::SCTP {
            rest.extend(self.acknowledgement.to_be_bytes());
            rest.extend([0xab; 4]);
            rest.extend([self.chunk(), 0, 0, 20]);
            rest.extend(self.sequence.to_be_bytes());
            rest.extend([0; 12]);
        } else {
            rest.extend((8 + self.payload as u16).to_be_bytes());
            rest.extend([0, 0]);
        }
        rest.extend(std::iter::repeat_n(0xab, self.payload));
        A::wrap(self, &rest)
    }
}

impl Spoken for V4 {
    fn of(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        V4::new([10, 0, high, low])
    }

    fn wrap(packet: &Packet<Self>, rest: &[u8]) -> Vec<u8> {
        let (id, offset, more) = packet.fragment.unwrap_or_default();
        let mut bytes = [0x45, 0].to_vec();
        bytes.extend((20 + rest.len() as u16).to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend(((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        bytes.extend([64, packet.protocol, 0, 0]);
        bytes.extend(packet.source.0.octets());
        bytes.extend(packet.destination.0.octets());
        bytes.extend(rest);
        bytes
    }
}

impl Spoken for V6 {
    fn of(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        V6::new([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low])
    }

    fn wrap(packet: &Packet<Self>, rest: &[u8]) -> Vec<u8> {
        let mut extension = Vec::new();
        if let Some((id, offset, more)) = packet.fragment {
            extension.extend([packet.protocol, 0]);
            extension.extend((offset & !7 | u16::from(more)).to_be_bytes());
            extension.extend([0, 0]);
            extension.extend(id.to_be_bytes());
        }
        let mut bytes = [0x60, 0, 0, 0].to_vec();
        bytes.extend(((extension.len() + rest.len()) as u16).to_be_bytes());
        bytes.extend([if extension.is_empty() { packet.protocol } else { 44 }, 64]);
        bytes.extend(packet.source.0.octets());
        bytes.extend(packet.destination.0.octets());
        bytes.extend(extension);
        bytes.extend(rest);
        bytes
    }
}

/// Where a packet is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    FromPod,
    ToPod,
    FromNetwork,
    ToNetwork,
    /// The same, for a packet that came in by that very interface.
    BackToNetwork,
}

/// A node with one Service on two frontends and a NodePort, for all protocols alike.
pub(crate) struct Scene<A: Spoken> {
    pub(crate) node: HostNode<A>,
    pub(crate) work: Work<A>,
}

/// The flow of a packet that the rules of [`settled`] decide on, after the filter has said what it says.
pub(crate) fn settled<A: Spoken>(node: &HostNode<A>, at: Hook, bytes: &[u8]) -> Option<Flow<A>> {
    let (packet, seen) = (A::plain(&bytes)?, A::glance(&bytes)?);
    let is_ingress = matches!(at, Hook::FromPod | Hook::FromNetwork);
    if !is_ingress && !hook::may_be_reply(node, &seen) {
        return None;
    }
    let mut flow = Flow::default();
    let is_settled = match at {
        Hook::FromPod | Hook::FromNetwork => {
            settled::ingress(node, &packet, hook::may_be_frontend(node, &seen), &mut flow).is_some()
        }
        Hook::ToPod => settled::egress_pod(node, &packet, &mut flow),
        Hook::ToNetwork => settled::egress_uplink(node, &packet, false, &mut flow),
        Hook::BackToNetwork => settled::egress_uplink(node, &packet, true, &mut flow),
    };
    is_settled.then_some(flow)
}

impl<A: Spoken> Scene<A> {
    /// Backends by the numbers of their addresses: id n is the nth, from 1 on.
    pub(crate) fn new(backends: &[u16]) -> Self {
        let mut node = HostNode::new(CONFIG, 7);
        node.clock.set(u32::MAX - 100);
        node.primary = Some(A::of(NODE));
        node.default_route = Ok(A::of(EGRESS));
        node.node_addresses.extend([A::of(NODE), A::of(EGRESS)]);
        let mut scene = Self {
            node,
            work: Work::default(),
        };
        for ip_protocol in PROTOCOLS {
            scene.add_service(ip_protocol);
        }
        scene.set_backends(backends);
        scene
    }

    /// TCP is service 1, UDP 2 and SCTP 3.
    fn service_of(ip_protocol: u8) -> ServiceId {
        ServiceId(Self::place(ip_protocol) + 1)
    }

    fn place(ip_protocol: u8) -> u32 {
        match ip_protocol {
            protocol::TCP => 0,
            protocol::UDP => 1,
            _ => 2,
        }
    }

    fn add_service(&mut self, ip_protocol: u8) {
        let service = Self::service_of(ip_protocol);
        for (address, port, kind) in [
            (A::of(CLUSTER_IP), 80, FrontendKind::ClusterIp),
            (A::of(OTHER_IP), 80, FrontendKind::ClusterIp),
            (A::of(LOAD_BALANCER), 80, FrontendKind::LoadBalancer),
            (A::UNSPECIFIED, NODE_PORT, FrontendKind::NodePort),
        ] {
            let key = FrontendKey::new(address, Port::new(port), ip_protocol);
            self.node.add_frontend(key, kind, service, TAG);
        }
    }

    /// The id of the nth backend of a protocol.
    pub(crate) fn id(ip_protocol: u8, nth: u32) -> BackendId {
        BackendId(nth + Self::place(ip_protocol) * 1000)
    }

    /// Makes backends, and lists that hold all of them everywhere.
    pub(crate) fn set_backends(&mut self, numbers: &[u16]) {
        for ip_protocol in PROTOCOLS {
            let ids: Vec<_> = (1..=numbers.len() as u32)
                .map(|nth| Self::id(ip_protocol, nth))
                .collect();
            for (id, number) in ids.iter().zip(numbers) {
                let backend = Backend {
                    address: A::of(*number).to_mapped(),
                    port: Port::new(TARGET_PORT),
                    protocol: ip_protocol,
                    flags: if *number < REMOTE { BACKEND_LOCAL } else { 0 },
                    service: Self::service_of(ip_protocol),
                    life: 1,
                    last_life: 0,
                };
                self.node.set_backend(*id, backend);
            }
            let list = self.node.add_list(&ids, TAG);
            self.set_lists(ip_protocol, list, list, list);
        }
    }

    /// Guards the load balancer's address: it is for these numbers of addresses alone.
    pub(crate) fn guard(&mut self, numbers: &[u16]) {
        let length = if A::FAMILY == Family::V4 { 32 } else { 128 };
        for ip_protocol in PROTOCOLS {
            let service = Self::service_of(ip_protocol);
            let key = FrontendKey::new(A::of(LOAD_BALANCER), Port::new(80), ip_protocol);
            self.node
                .add_frontend(key, FrontendKind::GuardedLoadBalancer, service, TAG);
            self.node.source_ranges.retain(|(owner, ..)| *owner != service);
            let ranges = numbers
                .iter()
                .map(|number| (service, TAG, A::of(*number), length));
            self.node.source_ranges.extend(ranges);
        }
    }

    pub(crate) fn set_lists(
        &mut self,
        ip_protocol: u8,
        internal: ListWord,
        external: ListWord,
        shortcut: ListWord,
    ) {
        let service = Service {
            internal,
            external,
            shortcut,
            affinity: AffinityWord::OFF,
        };
        self.node.services.insert(Self::service_of(ip_protocol), service);
    }

    /// No backends, everywhere.
    pub(crate) fn empty_lists(&mut self, when: When) {
        for ip_protocol in PROTOCOLS {
            let list = ListWord::empty(when, TAG);
            self.set_lists(ip_protocol, list, list, list);
        }
    }

    pub(crate) fn verdict(&mut self, at: Hook, bytes: &[u8]) -> Verdict {
        let Self { node, work } = self;
        let config = &node.config;
        let is_ignored = match at {
            Hook::FromPod | Hook::FromNetwork => hook::ingress_ignores(node, config, &bytes),
            Hook::ToPod => hook::egress_pod_ignores(node, &bytes),
            Hook::ToNetwork => hook::egress_uplink_ignores(node, config, &bytes, false),
            Hook::BackToNetwork => hook::egress_uplink_ignores(node, config, &bytes, true),
        };
        let settled = settled(node, at, bytes);
        let before = (is_ignored || settled.is_some()).then(|| (node.flows.borrow().clone(), node.counts()));
        let verdict = match at {
            Hook::FromPod => hook::ingress(node, Origin::Pod, &bytes, work),
            Hook::FromNetwork => hook::ingress(node, Origin::Network, &bytes, work),
            Hook::ToPod => hook::egress_pod(node, &bytes, work),
            Hook::ToNetwork => hook::egress_uplink(node, &bytes, work, false),
            Hook::BackToNetwork => hook::egress_uplink(node, &bytes, work, true),
        };
        if let (Some(flow), Some((flows, counts))) = (&settled, &before) {
            // What is decided in short is what is decided at length, and nothing is noted.
            assert!(!is_ignored);
            assert_eq!(verdict, Verdict::of_action(flow.action), "settled at {at:?}");
            assert_eq!((&work.flow, &*node.flows.borrow()), (flow, flows));
            assert_eq!(node.counts(), *counts);
        }
        if is_ignored && let Some((before, _)) = before {
            // A glance may only spare the work whose outcome is to pass.
            let is_malformed = verdict == Verdict::drop(Counter::Malformed);
            assert!(
                verdict == Verdict::PASS || is_malformed,
                "{verdict:?}, but ignored at a glance"
            );
            assert_eq!(*node.flows.borrow(), before);
            return Verdict::PASS;
        }
        verdict
    }

    /// Sends a packet through a hook. A drop is counted, as programs count it.
    pub(crate) fn send(&mut self, at: Hook, packet: Packet<A>) -> Decision {
        let decision = self.verdict(at, &packet.bytes()).decision();
        if let Decision::Drop(counter) = decision {
            self.node.count(counter);
        }
        decision
    }

    /// Sends a packet through a hook that must translate it; gives what leaves.
    #[track_caller]
    pub(crate) fn translated(&mut self, at: Hook, packet: Packet<A>) -> Packet<A> {
        let decision = self.send(at, packet);
        assert!(
            matches!(decision, Decision::Translate(_)),
            "{decision:?}: {packet:?}"
        );
        let Flow {
            source,
            destination,
            source_port,
            destination_port,
            ..
        } = self.work.flow;
        Packet {
            source: (source, source_port.number()),
            destination: (destination, destination_port.number()),
            ..packet
        }
    }

    pub(crate) fn counted(&self, counter: Counter) -> u64 {
        self.node.counted(counter)
    }

    /// In which tables a packet's flow stands, expired or not.
    pub(crate) fn tables(&self, packet: &Packet<A>, direction: Direction) -> (bool, bool) {
        let key = packet.key(direction);
        (
            self.node.entry(FlowTable::Embryos, &key).is_some(),
            self.node.entry(FlowTable::Flows, &key).is_some(),
        )
    }

    /// A whole handshake; gives the client's SYN or INIT and what the backend sees of it.
    #[track_caller]
    pub(crate) fn establish(&mut self, at: Hook, syn: Packet<A>) -> (Packet<A>, Packet<A>) {
        let seen = self.translated(at, syn);
        let back = if at == Hook::FromPod {
            Hook::ToPod
        } else {
            Hook::ToNetwork
        };
        let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
        self.translated(back, answer);
        let proof = if syn.protocol == protocol::TCP { 5001 } else { 5000 };
        self.translated(at, syn.with_flags(tcp::ACK).numbers(1001, proof));
        (syn, seen)
    }
}

/// Makes one test of each family out of a generic function.
macro_rules! in_both_families {
    ($($name:ident),+ $(,)?) => {
        mod v4 {
            $(#[test] fn $name() { super::$name::<crate::layout::V4>(); })+
        }
        mod v6 {
            $(#[test] fn $name() { super::$name::<crate::layout::V6>(); })+
        }
    };
}
pub(crate) use in_both_families;
