//! The same decision on the host and in the kernel, for random tables and random packets in sequence.
//!
//! Both sides start from the same tables. The kernel sees a packet first; then the rules run on the host once for each
//! outcome that the dice could have had, until one gives the kernel's verdict, the kernel's bytes and the kernel's flows
//! (times apart, which differ by the ticks between). Then the host goes on from what the kernel did.
//!
//! A random number is used as `number % backends` and as `number % ports`. With one number for all draws of a packet,
//! and all numbers up to the least common multiple, every pair of a backend and a port comes up, whatever was tried and
//! found taken before.
//!
//! The same with XDP in front of the uplink's TC: together they must do what the rules say once.

use std::collections::{HashMap, HashSet};

use lab::packet::dice::Dice;
use lab::packet::pieces::{fix_checksum, split};
use lab::packet::stage::*;
use lab::packet::{Context, Error, Frame, Kin, Output, PASS, REDIRECT, SHOT, Transport, ticks};
use proxy_common::host::FlowTables;
use proxy_common::layout::{
    Action, Affinity, AffinityKey, AffinityWord, BACKEND_LOCAL, Backend, CONFIG_NO_PING, Counter, Flow,
    FlowKey, FragmentKey, FragmentPorts, FrontendKey, FrontendKind, ListWord, Meta, Network, NetworkList,
    Port, Service, ServiceId, V4, V6, When, names::program, protocol,
};
use proxy_common::rules::headers::{Fragment, Parsed, echo, tcp};
use proxy_common::rules::quote::Said;
use proxy_common::rules::{Decision, Headers, Origin, Work, hook};

/// Ticks that stand for a second: so many that the test's own time does not count.
const SECOND: u32 = 1_000_000;
const SEQUENCES: u64 = 300;
/// The kernel's own dice decide what comes up: what is rare may take longer to.
const MOST_SEQUENCES: u64 = 10 * SEQUENCES;
const PACKETS: usize = 40;

const PROGRAMS: [&str; 4] = [
    program::FROM_POD,
    program::TO_POD,
    program::FROM_NETWORK,
    program::TO_NETWORK,
];

/// Backends' addresses: two here, two elsewhere, one that no route leads to, and this node itself.
fn endpoints<A: Kin>() -> [A; 6] {
    [local(1), local(2), remote(1), remote(2), A::of(9, 1), node()]
}

/// Where Services are reached; the last is one of the node's own addresses.
fn frontends<A: Kin>() -> [(A, u16); 6] {
    [
        (cluster_ip(), 80),
        (A::of(0x60, 2), 443),
        (balancer(), 80),
        (A::of(0x61, 2), 50_000),
        (node(), NODE_PORT),
        (A::of(6, 1), NODE_PORT + 1),
    ]
}

/// A packet and the place where it is seen.
#[derive(Clone, Debug)]
struct Sent {
    name: &'static str,
    frame: Frame,
    /// Of a datagram in pieces: its identification, and which piece it is.
    piece: Option<(u16, usize)>,
    /// Of an ICMP error: the error, which quotes the frame.
    error: Option<Error>,
    turns_back: bool,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        if let Some(error) = &self.error {
            return error.bytes();
        }
        match self.piece {
            None => self.frame.bytes(),
            Some((id, index)) => split(&self.frame, 24, id)[index].clone(),
        }
    }
}

/// Source, destination, and their ports.
type Tuple<A> = (A, A, Port, Port);

/// What is compared of a packet's fate.
#[derive(Clone, Debug, PartialEq)]
struct Fate<A: Kin> {
    verdict: i32,
    /// What leaves: whole packets as frames; pieces, refusals and malformed packets by their tuple, or not at all.
    frame: Option<Frame>,
    tuple: Option<Tuple<A>>,
    error: Option<Error>,
    flows: FlowTables<A>,
    fragments: HashMap<FragmentKey<A>, FragmentPorts>,
    affinities: HashMap<AffinityKey, Affinity>,
    counters: Vec<u64>,
}

struct Difference<A: Kin> {
    stage: Stage<A>,
    /// What comes from the network goes through XDP first.
    has_xdp: bool,
    dice: Dice,
    /// The kernel's counters are never reset.
    counted: Vec<u64>,
    seen: HashSet<&'static str>,
}

/// A tag of 0 in place of the time.
fn timeless<A: Kin>(flow: Flow<A>) -> Flow<A> {
    Flow {
        meta: flow.meta.with(flow.meta.state(), 0),
        ..flow
    }
}

impl<A: Kin> Difference<A> {
    fn new(seed: u64, has_xdp: bool) -> Self {
        let mut difference = Self {
            stage: Stage::new(&[]),
            has_xdp,
            dice: Dice(seed),
            counted: Vec::new(),
            seen: HashSet::new(),
        };
        difference.stage.kernel.reset();
        difference.stage.kernel.set_neighbours(ticks());
        difference.prepare();
        difference
    }

    /// Other tables, and no flows.
    fn prepare(&mut self) {
        let Self { stage, dice, .. } = self;
        let fresh = proxy_common::host::HostNode::new(stage.host.config, 1);
        let old = std::mem::replace(&mut stage.host, fresh);
        let host = &mut stage.host;
        host.primary = old.primary;
        host.node_addresses = old.node_addresses;
        for address in [node(), A::of(6, 1)] {
            if dice.one_in(4) {
                host.silent_addresses.insert(address);
            }
        }
        host.default_route = Ok(node());
        host.routes.insert(A::of(9, 1), Err(Counter::NoRoute));
        host.config.snat_count = dice.pick(&[0, 1, 5, 7, 13]);
        host.config.ticks_per_second = SECOND / 2;
        let half = |seconds: u32| seconds * SECOND + SECOND / 2;
        host.config.tcp_embryo = half(60);
        host.config.tcp_established = half(600);
        host.config.tcp_half_closed = half(300);
        host.config.tcp_closing = half(120);
        host.config.udp_embryo = half(30);
        host.config.udp_established = half(180);
        for ip_protocol in PROTOCOLS {
            for (nth, address) in (1..).zip(endpoints::<A>()) {
                let is_local = nth <= 2 || address == node();
                let backend = Backend {
                    address: address.to_mapped(),
                    port: Port::new(TARGET),
                    protocol: ip_protocol,
                    flags: if is_local { BACKEND_LOCAL } else { 0 },
                    service: ServiceId(1),
                    life: 1,
                    last_life: 0,
                };
                host.set_backend(Stage::<A>::backend(ip_protocol, nth), backend);
            }
            for (nth, (address, port)) in (1..).zip(frontends::<A>()) {
                let service = ServiceId(nth * 10 + u32::from(ip_protocol));
                let kind = match nth {
                    1 | 2 => FrontendKind::ClusterIp,
                    3 => dice.pick(&[
                        FrontendKind::LoadBalancer,
                        FrontendKind::LoadBalancer,
                        FrontendKind::GuardedLoadBalancer,
                    ]),
                    4 => FrontendKind::ExternalIp,
                    _ => FrontendKind::NodePort,
                };
                let address = if kind == FrontendKind::NodePort {
                    A::UNSPECIFIED
                } else {
                    address
                };
                let key = FrontendKey::new(address, Port::new(port), ip_protocol);
                host.add_frontend(key, kind, service, nth as u16);
                host.services.insert(service, Service::default());
                if kind == FrontendKind::GuardedLoadBalancer {
                    for _ in 0..=dice.below(3) {
                        let tag = if dice.one_in(5) { 99 } else { nth as u16 };
                        let (address, length) = dice.pick(&[
                            (client(), A::BITS),
                            (pod(), A::BITS - 1),
                            (A::of(1, 0), 16),
                            (A::of(4, 0), 16),
                            (A::UNSPECIFIED, 0),
                        ]);
                        let is_same = |range: &(ServiceId, u16, A, u32)| {
                            (range.0, range.2, range.3) == (service, address, length)
                        };
                        if !host.source_ranges.iter().any(is_same) {
                            host.source_ranges.push((service, tag, address, length));
                        }
                    }
                }
            }
        }
        for (address, is_cluster) in [(cluster_ip(), true), (balancer(), false), (node(), false)] {
            if !dice.one_in(4) {
                host.set_vip(address, is_cluster, !dice.one_in(3));
            }
        }
        host.config.flags &= !CONFIG_NO_PING;
        if dice.one_in(8) {
            host.config.flags |= CONFIG_NO_PING;
        }
        let networks = [Network::new(A::of(0x60, 0), 16), Network::new(A::of(0x62, 0), 16)];
        let known = dice.below(3);
        host.service_networks = NetworkList::of(networks.into_iter().take(known));
        let pods = [
            Network::new(A::of(4, 0), 16),
            Network::new(A::of(1, 0x20), A::BITS as u8),
        ];
        let known = dice.pick(&[0, 0, 1, 2]);
        host.local_networks = NetworkList::of(pods.into_iter().take(known));
        for _ in 0..12 {
            self.change_a_service();
        }
        self.learn_the_time();
        self.stage.install();
        self.stage.kernel.forget_flows();
        self.counted = self.stage.kernel.counters();
    }

    /// The kernel's tick, out of a flow that it makes.
    fn learn_the_time(&mut self) {
        let host = &mut self.stage.host;
        let (address, port) = frontends::<A>()[0];
        let service = ServiceId(10 + u32::from(protocol::UDP));
        let lists = host.services.insert(service, Service::default());
        let list = host.add_list(&[Stage::<A>::backend(protocol::UDP, 1)], 1);
        let all = Service {
            internal: list,
            external: list,
            shortcut: list,
            affinity: AffinityWord::OFF,
        };
        host.services.insert(service, all);
        self.stage.install();
        self.stage.kernel.forget_flows();
        self.stage.send(
            program::FROM_POD,
            &Frame::udp((pod::<A>(), 1), (address, port)),
            PASS,
        );
        let (_, _, flow) = self.stage.kernel.flows::<A>()[0];
        self.stage.host.clock.set(flow.meta.seen());
        self.stage
            .host
            .services
            .insert(service, lists.unwrap_or_default());
    }

    /// Gives a service port other lists: some backends, or none for either reason, or those of another owner.
    fn change_a_service(&mut self) {
        let Self { stage, dice, .. } = self;
        let nth = dice.below(frontends::<A>().len()) as u32 + 1;
        let ip_protocol = dice.pick(&PROTOCOLS);
        let mut list = || {
            let tag = if dice.one_in(20) { 99 } else { nth as u16 };
            if dice.one_in(8) {
                return ListWord::empty(dice.pick(&[When::Reject, When::Drop]), tag);
            }
            let count = dice.below(4) + 1;
            let backends: Vec<_> = (0..count)
                .map(|_| Stage::<A>::backend(ip_protocol, dice.below(6) as u32 + 1))
                .collect();
            stage.host.add_list(&backends, tag)
        };
        // Odd times end between the waits: a second of the rules is half a second of the waits.
        let service = Service {
            internal: list(),
            external: list(),
            shortcut: list(),
            affinity: AffinityWord::new(dice.pick(&[0, 0, 61, 301]), dice.pick(&[1, 1, 2]), nth as u16),
        };
        let id = ServiceId(nth * 10 + u32::from(ip_protocol));
        stage.host.services.insert(id, service);
    }

    fn toggle_a_backend(&mut self) {
        let nth = self.dice.below(6) as u32 + 1;
        let id = Stage::<A>::backend(self.dice.pick(&PROTOCOLS), nth);
        let host = &mut self.stage.host;
        let Some(backend) = host.backends.get_mut(&id) else {
            return;
        };
        if backend.is_alive() {
            host.kill_backend(id);
        } else {
            backend.life = backend.last_life + 1;
            backend.last_life = 0;
        }
    }

    /// Lets time pass: all entries were seen so much earlier.
    fn wait(&mut self) {
        let seconds = self
            .dice
            .pick(&[1, 1, 1, 29, 30, 60, 61, 119, 121, 179, 300, 601]);
        let Self { stage, .. } = self;
        let entries = stage.kernel.flows::<A>();
        for (table, key, flow) in entries {
            let seen = flow.meta.seen().wrapping_sub(seconds * SECOND);
            let meta = flow.meta.with(flow.meta.state(), seen);
            stage.kernel.set_flow(table, &key, &Flow { meta, ..flow });
        }
        for (key, record) in stage.kernel.affinities() {
            let meta = record.renewed(record.seen().wrapping_sub(seconds * SECOND));
            stage.kernel.set_affinity(&key, &Affinity { meta, ..record });
        }
        self.adopt();
    }

    fn evict(&mut self) {
        let entries = self.stage.kernel.flows::<A>();
        if !entries.is_empty() {
            let (table, key, _) = self.dice.pick(&entries);
            self.stage.kernel.remove_flow(table, &key);
            self.adopt();
        }
    }

    /// The host goes on from what the kernel holds.
    fn adopt(&mut self) {
        let flows = self.stage.kernel.flows::<A>();
        let fragments = self.stage.kernel.fragments::<A>();
        let affinities = self.stage.kernel.affinities();
        let host = &mut self.stage.host;
        *host.flows.borrow_mut() = flows
            .into_iter()
            .map(|(table, key, flow)| ((table, key), flow))
            .collect();
        *host.fragments.borrow_mut() = fragments.into_iter().collect();
        *host.affinities.borrow_mut() = affinities.into_iter().collect();
    }

    /// A call from somewhere, or a packet of a flow that there is, in either direction.
    fn packet(&mut self) -> Sent {
        let entries: Vec<_> = self
            .stage
            .host
            .flows
            .borrow()
            .iter()
            .map(|(key, flow)| (key.1, *flow))
            .collect();
        let dice = &mut self.dice;
        let (source, destination, ip_protocol, expected) = if !entries.is_empty() && !dice.one_in(3) {
            let mut sorted = entries;
            sorted.sort_by_key(|(key, flow)| (key.tag(), flow.meta.0));
            let (key, flow): (FlowKey<A>, Flow<A>) = dice.pick(&sorted);
            let source = (key.source, key.source_port.number());
            let destination = (key.destination, key.destination_port.number());
            (source, destination, key.protocol, flow.expected_acknowledgement)
        } else {
            let sources = [pod(), local(1), client(), A::of(1, 0x21), remote(1), node()];
            let source = (
                dice.pick(&sources),
                dice.pick(&[40_000, SNAT.0, SNAT.0 + 1, TARGET]),
            );
            let strangers = [
                (client(), 80),
                (remote(1), TARGET),
                (cluster_ip(), 81),
                (balancer(), 81),
                (A::of(0x60, 9), 80),
                (client(), NODE_PORT),
            ];
            let destination = if dice.one_in(6) {
                dice.pick(&strangers)
            } else {
                dice.pick(&frontends())
            };
            (source, destination, dice.pick(&PROTOCOLS), 0)
        };
        let mut frame = if ip_protocol != protocol::UDP {
            let flags = [
                tcp::SYN,
                tcp::SYN,
                tcp::SYN | tcp::ACK,
                tcp::ACK,
                tcp::ACK,
                tcp::ACK | tcp::FIN,
                tcp::RST,
            ];
            let acknowledgement =
                expected.wrapping_add(dice.pick(&[0, 0, 1, 0_u32.wrapping_sub(1), 1 << 20]));
            let flags = dice.pick(&flags);
            let frame = if ip_protocol == protocol::TCP {
                Frame::tcp(source, destination, flags)
            } else {
                Frame::init(source, destination)
            };
            Frame {
                payload: vec![7; dice.pick(&[0, 0, 1, 100])],
                ..frame.numbered(flags, 7000, acknowledgement)
            }
        } else {
            Frame {
                transport: Transport::Udp(source.0.mapped().is_ipv6() || !dice.one_in(8)),
                payload: vec![7; dice.pick(&[0, 1, 100])],
                ..Frame::udp(source, destination)
            }
        };
        frame.hop_limit = dice.pick(&[64, 64, 64, 2, 1]);
        let piece = dice.one_in(8).then(|| (dice.below(3) as u16, dice.below(2)));
        if piece.is_some() {
            frame.payload = vec![7; 100];
        } else {
            frame.options = dice.pick(&[0, 0, 0, 2]);
        }
        Sent {
            name: dice.pick(&PROGRAMS),
            frame,
            piece,
            error: None,
            turns_back: dice.one_in(3),
        }
    }

    /// An ICMP error about a packet of a flow that there is, as it was passed on, or about one of nobody.
    fn error(&mut self) -> Option<Sent> {
        let mut entries: Vec<_> = self
            .stage
            .host
            .flows
            .borrow()
            .iter()
            .map(|(key, flow)| (key.1, *flow))
            .collect();
        if entries.is_empty() {
            return None;
        }
        entries.sort_by_key(|(key, flow)| (key.tag(), flow.meta.0));
        let dice = &mut self.dice;
        let (key, flow): (FlowKey<A>, Flow<A>) = dice.pick(&entries);
        let strange = u16::from(dice.one_in(10));
        let source = (flow.source, flow.source_port.number() ^ strange);
        let destination = (flow.destination, flow.destination_port.number());
        let frame = match key.protocol {
            protocol::TCP => Frame::tcp(source, destination, tcp::ACK),
            protocol::UDP => Frame::udp(source, destination),
            _ => Frame::init(source, destination),
        };
        let frame = Frame {
            hop_limit: 9,
            options: dice.pick(&[0, 0, 2]),
            ..frame
        };
        let mut quoted = frame.bytes()[14..].to_vec();
        quoted.truncate(dice.pick(&[1000, 1000, 68, 48, 28, 21]));
        let error = Error {
            link: frame.link,
            source: dice
                .pick(&[flow.destination, flow.destination, A::of(1, 9)])
                .into(),
            destination: if dice.one_in(4) {
                dice.pick(&[client(), cluster_ip(), balancer::<A>(), A::of(0x60, 9), node()])
                    .into()
            } else {
                flow.source.into()
            },
            hop_limit: dice.pick(&[64, 64, 64, 2, 1]),
            options: dice.pick(&[0, 0, 0, 2]),
            kind: (dice.pick(&[1, 2, 3, 4, 11, 12, 0, 8, 128, 128]), 1),
            word: 1400,
            quoted,
        };
        Some(Sent {
            name: dice.pick(&PROGRAMS),
            frame,
            piece: None,
            error: Some(error),
            turns_back: dice.one_in(3),
        })
    }

    /// What the kernel makes of a packet.
    fn in_the_kernel(&mut self, sent: &Sent) -> Fate<A> {
        let interface = self.stage.interface(sent.name);
        let context = Context {
            interface,
            came_in_by: if sent.turns_back { interface } else { 0 },
            ..Context::default()
        };
        let output = if self.has_xdp && sent.name == program::FROM_NETWORK {
            self.stage.run_both(&sent.bytes(), context)
        } else {
            self.stage.run_in(sent.name, &sent.bytes(), context)
        };
        let counters = self.stage.kernel.counters();
        let delta = counters
            .iter()
            .zip(&self.counted)
            .map(|(now, then)| now - then)
            .collect();
        self.counted = counters;
        let flows = self.stage.kernel.flows::<A>();
        let fragments = self.stage.kernel.fragments::<A>();
        let flows = flows
            .into_iter()
            .map(|(table, key, flow)| ((table, key), flow))
            .collect();
        let affinities = self.stage.kernel.affinities().into_iter().collect();
        let (frame, tuple, error) = shown(sent, &output);
        Fate {
            verdict: output.verdict,
            frame,
            tuple,
            error,
            flows,
            fragments: fragments.into_iter().collect(),
            affinities,
            counters: delta,
        }
    }

    /// What the rules make of it, if the dice show this number.
    fn on_the_host(&mut self, sent: &Sent, number: u32) -> Fate<A> {
        let host = &self.stage.host;
        host.script([number; 32]);
        let before: Vec<_> = Counter::ALL
            .iter()
            .map(|counter| host.counted(*counter))
            .collect();
        let bytes = sent.bytes();
        let packet = &bytes[14..];
        let mut work = Work::<A>::default();
        let is_ignored = match sent.name {
            program::FROM_POD | program::FROM_NETWORK => hook::ingress_ignores(host, &host.config, &packet),
            program::TO_POD => hook::egress_pod_ignores(host, &packet),
            _ => hook::egress_uplink_ignores(host, &host.config, &packet, sent.turns_back),
        };
        let decision = if is_ignored {
            Decision::Pass
        } else {
            let verdict = match sent.name {
                program::FROM_POD => hook::ingress(host, Origin::Pod, &packet, &mut work),
                program::FROM_NETWORK => hook::ingress(host, Origin::Network, &packet, &mut work),
                program::TO_POD => hook::egress_pod(host, &packet, &mut work),
                _ => hook::egress_uplink(host, &packet, &mut work, sent.turns_back),
            };
            verdict.decision()
        };
        let mut counters: Vec<_> = Counter::ALL
            .iter()
            .zip(before)
            .map(|(counter, before)| host.counted(*counter) - before)
            .collect();
        let flows = host.flows.borrow().clone();
        let fragments = host.fragments.borrow().clone();
        let affinities = host.affinities.borrow().clone();
        let (verdict, (frame, tuple, error)) = outcome(sent, decision, &work, &mut counters);
        Fate {
            verdict,
            frame,
            tuple,
            error,
            flows,
            fragments,
            affinities,
            counters,
        }
    }

    fn compare(&mut self, history: &[Sent]) {
        let sent = &history[history.len() - 1];
        let kernel = self.in_the_kernel(sent);
        let flows = self.stage.host.flows.borrow().clone();
        let fragments = self.stage.host.fragments.borrow().clone();
        let affinities = self.stage.host.affinities.borrow().clone();
        let ports = u32::from(self.stage.host.config.snat_count.max(1));
        let mut nearest = None;
        for number in 0..12 * ports {
            let host = self.on_the_host(sent, number);
            *self.stage.host.flows.borrow_mut() = flows.clone();
            *self.stage.host.fragments.borrow_mut() = fragments.clone();
            *self.stage.host.affinities.borrow_mut() = affinities.clone();
            if is_same(&kernel, &host) {
                self.note(&kernel);
                self.adopt();
                return;
            }
            nearest.get_or_insert(host);
        }
        let named = |fate: &Fate<A>| -> Vec<_> {
            let counters = Counter::ALL.iter().zip(&fate.counters);
            counters
                .filter(|(_, times)| **times > 0)
                .map(|(counter, times)| (counter.name(), *times))
                .collect()
        };
        let host = nearest.unwrap_or_else(|| kernel.clone());
        let shown = |fate: &Fate<A>| std::format!("{} {:?} {:?}", fate.verdict, fate.tuple, named(fate));
        let changes = |fate: &Fate<A>| {
            let is_new = |(key, flow): &(&_, &Flow<A>)| {
                flows.get(*key).map(|old| timeless(*old)) != Some(timeless(**flow))
            };
            let new: Vec<_> = fate.flows.iter().filter(is_new).collect();
            let gone: Vec<_> = flows
                .keys()
                .filter(|key| !fate.flows.contains_key(*key))
                .collect();
            std::format!("written {new:?}\ngone {gone:?}")
        };
        panic!(
            "{sent:?}\n\nkernel: {}\n{}\n{:?} {:?}\n\nhost: {}\n{}\n{:?} {:?}\n\n",
            shown(&kernel),
            changes(&kernel),
            kernel.frame,
            kernel.error,
            shown(&host),
            changes(&host),
            host.frame,
            host.error
        );
    }

    /// Which events have come up at all.
    fn note(&mut self, fate: &Fate<A>) {
        for (counter, times) in Counter::ALL.iter().zip(&fate.counters) {
            if *times > 0 {
                self.seen.insert(counter.name());
            }
        }
    }

    fn run(&mut self) {
        let mut history = Vec::new();
        for _ in 0..PACKETS {
            match self.dice.below(30) {
                0 | 1 => self.toggle_a_backend(),
                2 => self.change_a_service(),
                3 | 4 => self.wait(),
                5 => self.evict(),
                _ => {
                    let error = if self.dice.one_in(5) { self.error() } else { None };
                    let sent = error.unwrap_or_else(|| self.packet());
                    history.push(sent);
                    self.compare(&history);
                    continue;
                }
            }
            self.stage.install_tables();
        }
    }
}

/// What the packet behind a program says: a whole packet as a frame, any by its tuple, an ICMP error.
type Shown<A> = (Option<Frame>, Option<Tuple<A>>, Option<Error>);

/// What the packet behind the program says, as far as it can be compared.
fn shown<A: Kin>(sent: &Sent, output: &Output) -> Shown<A> {
    if output.verdict == SHOT {
        return (None, None, None);
    }
    if sent.error.is_some() {
        return (None, None, Some(Error::read(&output.packet)));
    }
    let mut headers = Headers::<A>::default();
    let parsed = A::parse(&&output.packet[14..], &mut headers);
    if parsed != Parsed::Transport {
        return (None, None, None);
    }
    let tuple = (
        headers.source,
        headers.destination,
        headers.source_port,
        headers.destination_port,
    );
    let is_whole = sent.piece.is_none() && headers.fragment == Fragment::Whole;
    (is_whole.then(|| Frame::read(&output.packet)), Some(tuple), None)
}

/// An error that quotes a frame, with other addresses and ports.
fn rewritten<A: Kin>(error: &Error, said: &Said<A>, options: u8) -> Error {
    let mut quoted = error.quoted.clone();
    let (addresses, ports) = (said.addresses, said.ports);
    let [source, destination] = [addresses.0, addresses.1].map(|address| match address.mapped() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    });
    let both = [source, destination].concat();
    let (start, transport) = if error.source.is_ipv4() {
        (12, 20 + 4 * usize::from(options))
    } else {
        (8, 40 + 8 * usize::from(options))
    };
    quoted[start..start + both.len()].copy_from_slice(&both);
    quoted[transport..transport + 2].copy_from_slice(&ports.0.number().to_be_bytes());
    quoted[transport + 2..transport + 4].copy_from_slice(&ports.1.number().to_be_bytes());
    if error.source.is_ipv4() {
        let mut header = quoted[..20 + 4 * usize::from(options)].to_vec();
        fix_checksum(&mut header);
        quoted[10..12].copy_from_slice(&header[10..12]);
    }
    Error {
        source: said.outer.0.mapped(),
        destination: said.outer.1.mapped(),
        quoted,
        ..error.clone()
    }
}

/// What becomes of an ICMP error.
fn relayed<A: Kin>(
    sent: &Sent,
    error: &Error,
    action: Action,
    work: &Work<A>,
    count: &mut impl FnMut(Counter),
) -> (i32, Shown<A>) {
    let said = work.error_after();
    let is_around = action != Action::Stack;
    if is_around && error.hop_limit <= 1 {
        count(Counter::HopLimit);
        return (SHOT, (None, None, None));
    }
    if action == Action::Redirect && !is_routed(said.outer.1) {
        count(Counter::NoRoute);
        return (SHOT, (None, None, None));
    }
    let mut shown = rewritten(error, &said, sent.frame.options);
    if is_around {
        shown.hop_limit -= 1;
    }
    if action == Action::Hairpin {
        shown.link.reverse();
    }
    let verdict = if is_around { REDIRECT } else { PASS };
    (verdict, (None, None, Some(shown)))
}

/// What the kernel's side must make of a decision.
fn outcome<A: Kin>(sent: &Sent, decision: Decision, work: &Work<A>, counters: &mut [u64]) -> (i32, Shown<A>) {
    let is_egress = sent.name.starts_with("to_");
    let is_whole = sent.piece.is_none();
    let mut count = |counter: Counter| counters[counter as usize] += 1;
    let output = |bytes: Vec<u8>| Output {
        verdict: PASS,
        packet: bytes,
    };
    match decision {
        Decision::TranslateError(action) => match &sent.error {
            Some(error) => relayed(sent, error, action, work, &mut count),
            None => panic!("{sent:?} was taken for an ICMP error"),
        },
        Decision::AnswerEcho => {
            let Some(request) = &sent.error else {
                panic!("{sent:?} was taken for an echo request");
            };
            let reply = Error {
                link: [request.link[1], request.link[0]],
                source: request.destination,
                destination: request.source,
                hop_limit: 64,
                kind: (echo::reply(A::FAMILY), request.kind.1),
                ..request.clone()
            };
            (REDIRECT, (None, None, Some(reply)))
        }
        Decision::Drop(counter) => {
            count(counter);
            (SHOT, (None, None, None))
        }
        Decision::Reject(counter) => {
            count(counter);
            let is_reset = work.packet.tcp_flags & tcp::RST != 0 && work.packet.protocol == protocol::TCP;
            if work.packet.fragment == Fragment::Later || is_reset || sent.name == program::TO_POD {
                return (SHOT, (None, None, None));
            }
            count(Counter::ErrorSent);
            // The bytes of answers are compared in packet_refused.
            (REDIRECT, (None, None, None))
        }
        Decision::Translate(action) if !is_egress || action == Action::Stack => {
            let is_around = action != Action::Stack;
            if is_around && sent.frame.hop_limit <= 1 {
                count(Counter::HopLimit);
                count(Counter::ErrorSent);
                return (REDIRECT, (None, None, None));
            }
            let flow = &work.flow;
            if action == Action::Redirect && !is_routed(&flow.destination) {
                count(Counter::NoRoute);
                return (SHOT, (None, None, None));
            }
            let mut frame = Frame {
                source: (Kin::mapped(&flow.source), flow.source_port.number()).into(),
                destination: (Kin::mapped(&flow.destination), flow.destination_port.number()).into(),
                hop_limit: sent.frame.hop_limit - u8::from(is_around),
                ..sent.frame.clone()
            };
            if action == Action::Hairpin {
                frame.link.reverse();
            }
            let is_later = work.packet.fragment == Fragment::Later;
            let ports = |port| if is_later { Port::new(0) } else { port };
            let tuple = (
                flow.source,
                flow.destination,
                ports(flow.source_port),
                ports(flow.destination_port),
            );
            let verdict = if is_around { REDIRECT } else { PASS };
            (verdict, (is_whole.then_some(frame), Some(tuple), None))
        }
        _ => (PASS, shown(sent, &output(sent.bytes()))),
    }
}

/// Whether the namespace's routes send a packet for this address on.
fn is_routed<A: Kin>(address: &A) -> bool {
    let own = [node(), A::of(6, 1), A::of(4, 1)];
    let routed = [
        client(),
        A::of(1, 0x21),
        pod(),
        local(1),
        local(2),
        remote(1),
        remote(2),
    ];
    assert!(
        own.contains(address) || routed.contains(address) || *address == A::of(9, 1),
        "{address:?}"
    );
    routed.contains(address)
}

fn is_same<A: Kin>(kernel: &Fate<A>, host: &Fate<A>) -> bool {
    // How often a taken key was drawn before the last draw is the dice's alone.
    let countable = |counters: &[u64]| {
        let mut counters = counters.to_vec();
        counters[Counter::ReverseCollision as usize] = 0;
        // The rules do not know which hook sends a packet on.
        counters[Counter::XdpForwarded as usize] = 0;
        counters
    };
    let has_refusal =
        kernel.verdict == REDIRECT && host.frame.is_none() && host.tuple.is_none() && host.error.is_none();
    let is_near = |left: Meta, right: Meta| left.seen().abs_diff(right.seen()) < SECOND / 4;
    let flows = kernel.flows.len() == host.flows.len()
        && kernel.flows.iter().all(|(key, flow)| {
            let other = host.flows.get(key);
            other.is_some_and(|other| timeless(*flow) == timeless(*other) && is_near(flow.meta, other.meta))
        });
    let affinities = kernel.affinities.len() == host.affinities.len()
        && kernel.affinities.iter().all(|(key, record)| {
            let other = host.affinities.get(key);
            other.is_some_and(|other| {
                (record.tag(), record.target) == (other.tag(), other.target)
                    && record.seen().abs_diff(other.seen()) < SECOND / 4
            })
        });
    kernel.verdict == host.verdict
        && (has_refusal
            || (kernel.frame == host.frame && kernel.tuple == host.tuple && kernel.error == host.error))
        && flows
        && kernel.fragments == host.fragments
        && affinities
        && countable(&kernel.counters) == countable(&host.counters)
}

/// What must come up at least once.
const WANTED: [Counter; 25] = [
    Counter::NoEndpoint,
    Counter::NoLocalEndpoint,
    Counter::SourcePortsExhausted,
    Counter::NoRoute,
    Counter::HopLimit,
    Counter::FragmentWithoutFirst,
    Counter::HostUntranslated,
    Counter::TurnedBack,
    Counter::FlowCreated,
    Counter::FlowPromoted,
    Counter::PartnerRestored,
    Counter::ReverseCollision,
    Counter::TcpWithoutFlow,
    Counter::UdpRebalanced,
    Counter::ReverseWithoutFlow,
    Counter::ForeignPort,
    Counter::ErrorSent,
    Counter::AffinityKept,
    Counter::ErrorTranslated,
    Counter::SourceNotAllowed,
    Counter::SctpWithoutFlow,
    Counter::SctpFragment,
    Counter::UnknownPort,
    Counter::UnallocatedAddress,
    Counter::PingAnswered,
];

impl<A: Kin> Difference<A> {
    fn unseen(&self) -> Vec<&'static str> {
        let by_xdp = self.has_xdp.then_some(Counter::XdpForwarded);
        let names = WANTED.iter().copied().chain(by_xdp).map(Counter::name);
        names.filter(|name| !self.seen.contains(*name)).collect()
    }
}

fn differ<A: Kin>(seed: u64, has_xdp: bool) {
    let mut difference = Difference::<A>::new(seed, has_xdp);
    for sequence in 0..MOST_SEQUENCES {
        if sequence >= SEQUENCES && difference.unseen().is_empty() {
            return;
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            difference.dice = Dice(seed ^ sequence << 32);
            difference.prepare();
            difference.run();
        }));
        if let Err(panic) = result {
            eprintln!("sequence {sequence} of seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
    // A generator that goes blind must not pass.
    let unseen = difference.unseen();
    assert!(unseen.is_empty(), "never came up: {}", unseen.join(", "));
}

#[test]
fn host_and_kernel_decide_alike_v4() {
    differ::<V4>(4, false);
}

#[test]
fn host_and_kernel_decide_alike_v6() {
    differ::<V6>(6, false);
}

#[test]
fn xdp_before_tc_changes_nothing_v4() {
    differ::<V4>(104, true);
}

#[test]
fn xdp_before_tc_changes_nothing_v6() {
    differ::<V6>(106, true);
}
