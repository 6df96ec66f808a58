//! The tables that both sides start from, and what happens to them between packets.

use std::collections::HashMap;

use lab::packet::stage::*;
use lab::packet::{Frame, Kin, PASS};
use proxy_common::layout::{
    Affinity, AffinityWord, BACKEND_LOCAL, Backend, BackendId, CONFIG_NO_PING, ChoiceRule, Counter, Flow,
    FrontendKey, FrontendKind, ListWord, Network, NetworkList, Port, Service, ServiceId, When,
    names::program, protocol,
};

use crate::{Difference, SECOND};

/// Backends' addresses: two here, two elsewhere, one that no route leads to, and this node itself.
fn endpoints<A: Kin>() -> [A; 6] {
    [local(1), local(2), remote(1), remote(2), A::of(9, 1), node()]
}

/// Where Services are reached; the last is one of the node's own addresses.
pub(crate) fn frontends<A: Kin>() -> [(A, u16); 6] {
    [
        (cluster_ip(), 80),
        (A::of(0x60, 2), 443),
        (balancer(), 80),
        (A::of(0x61, 2), 50_000),
        (node(), NODE_PORT),
        (A::of(6, 1), NODE_PORT + 1),
    ]
}

impl<A: Kin> Difference<A> {
    /// Other tables, and no flows.
    pub(crate) fn prepare(&mut self) {
        let Self { stage, dice, .. } = self;
        let fresh = proxy_common::host::HostNode::new(stage.host.config, 1);
        let old = std::mem::replace(&mut stage.host, fresh);
        let host = &mut stage.host;
        host.primary = old.primary;
        host.came_in_by = old.came_in_by;
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
        for id in self.loads().into_keys() {
            self.stage.kernel.set_connections(id, 0);
        }
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
    pub(crate) fn change_a_service(&mut self) {
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
            let (rule, lengths) = dice.pick(&[
                (ChoiceRule::Random, &[][..]),
                (ChoiceRule::Random, &[]),
                // Each number that is tried leads to another entry.
                (ChoiceRule::Weighted, &[2, 3, 6]),
                (ChoiceRule::LeastConnections, &[0, 0, 4]),
                (ChoiceRule::Maglev, &[5, 7]),
            ]);
            if rule == ChoiceRule::Random {
                return stage.host.add_list(&backends, tag);
            }
            let table: Vec<_> = (0..dice.pick(lengths)).map(|_| dice.pick(&backends)).collect();
            stage.host.add_table(&backends, rule, &table, tag)
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

    pub(crate) fn toggle_a_backend(&mut self) {
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
    pub(crate) fn wait(&mut self) {
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

    pub(crate) fn evict(&mut self) {
        let entries = self.stage.kernel.flows::<A>();
        if !entries.is_empty() {
            let (table, key, _) = self.dice.pick(&entries);
            self.stage.kernel.remove_flow(table, &key);
            self.adopt();
        }
    }

    /// The kernel's connections.
    pub(crate) fn loads(&mut self) -> HashMap<BackendId, i32> {
        let numbers = (1..).take(endpoints::<A>().len());
        let ids = PROTOCOLS.into_iter().flat_map(|ip_protocol| {
            numbers
                .clone()
                .map(move |nth| Stage::<A>::backend(ip_protocol, nth))
        });
        let loads: HashMap<_, _> = ids.map(|id| (id, self.stage.kernel.connections(id))).collect();
        loads.into_iter().filter(|(_, load)| *load != 0).collect()
    }

    /// The host goes on from what the kernel holds.
    pub(crate) fn adopt(&mut self) {
        let flows = self.stage.kernel.flows::<A>();
        let fragments = self.stage.kernel.fragments::<A>();
        let affinities = self.stage.kernel.affinities();
        let loads = self.loads();
        let host = &mut self.stage.host;
        *host.loads.borrow_mut() = loads;
        *host.flows.borrow_mut() = flows
            .into_iter()
            .map(|(table, key, flow)| ((table, key), flow))
            .collect();
        *host.fragments.borrow_mut() = fragments.into_iter().collect();
        *host.affinities.borrow_mut() = affinities.into_iter().collect();
    }
}
