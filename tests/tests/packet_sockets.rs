//! Socket LB's choice: the rule in the kernel, behind a test-only TC program, against the rule on the host.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use lab::packet::Kin;
use lab::packet::dice::Dice;
use lab::packet::stage::*;
use proxy_common::layout::{
    Addr, Affinity, AffinityWord, CONFIG_NO_LOOPBACK4, CONFIG_NO_LOOPBACK6, CONFIG_PODS_SOCKET_LB, Counter,
    Family, FrontendKey, FrontendKind, ListWord, NamespaceAddress, NamespaceKey, Port, Service, V4, V6, When,
    protocol,
};
use proxy_common::rules::socket::{self, Choice, Socket};
use proxy_common::rules::{client, lifetime};

const HOST: u64 = 1;
const POD: u64 = 2;
/// Seconds.
const DAY: u32 = 86_400;

#[derive(Clone, Copy, Debug)]
struct Call<A> {
    cookie: u64,
    address: A,
    port: u16,
    protocol: u8,
    is_loopback: bool,
}

/// The host goes on from the kernel's records; its clock follows the latest, and never goes back.
fn adopt<A: Kin>(stage: &mut Stage<A>) {
    let records = stage.kernel.affinities();
    for (_, record) in &records {
        let clock = stage.host.clock.get();
        if clock == 0 || lifetime::since(clock, record.seen()) > 0 {
            stage.host.clock.set(record.seen());
        }
    }
    *stage.host.affinities.borrow_mut() = records.into_iter().collect();
    *stage.host.namespaces.borrow_mut() = stage.kernel.namespaces().into_iter().collect();
}

/// A connection of a namespace by packets, in the kernel and on the host; what each has learnt but for the time.
fn learn_alike<A: Kin>(stage: &mut Stage<A>, dice: &mut Dice) {
    let loopback = match A::FAMILY {
        Family::V4 => V4::new([127, 0, 0, 1]).to_mapped(),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST).into(),
    };
    let from = dice.pick(&[pod(), client(), A::from_mapped(loopback), A::UNSPECIFIED]);
    let Call {
        cookie,
        address,
        port,
        ..
    } = call::<A>(dice);
    stage.learn(cookie, from, address, port);
    if client::may_learn(&stage.host.config, cookie) {
        client::learn(&stage.host, cookie, &from, &address, Port::new(port));
    }
    let known = |all: Vec<(NamespaceKey, NamespaceAddress)>| -> BTreeMap<_, _> {
        let parts = all.into_iter();
        parts
            .map(|(key, known)| ((key.cookie, key.family), (known.address, known.tag)))
            .collect()
    };
    let on_the_host = stage.host.namespaces.borrow().clone().into_iter().collect();
    assert_eq!(
        known(stage.kernel.namespaces()),
        known(on_the_host),
        "{from:?} -> {address:?}:{port}"
    );
}

/// Lets half a minute pass, or a day.
fn wait<A: Kin>(stage: &mut Stage<A>, seconds: u32) {
    let ticks = seconds * stage.host.config.ticks_per_second;
    let clock = stage.host.clock.get();
    let records = stage.kernel.affinities();
    // What is long over stays where it is: it must not come round to the future.
    for (key, record) in records
        .into_iter()
        .filter(|(_, record)| lifetime::since(record.seen(), clock) <= ticks)
    {
        let meta = record.renewed(record.seen().wrapping_sub(ticks));
        stage.kernel.set_affinity(&key, &Affinity { meta, ..record });
    }
    for (key, known) in stage.kernel.namespaces() {
        if lifetime::since(known.seen, clock) <= ticks {
            let seen = known.seen.wrapping_sub(ticks);
            stage
                .kernel
                .set_namespace(&key, &NamespaceAddress { seen, ..known });
        }
    }
}

/// (0, 0): untouched; (1, counter): refused; (2, id): a backend.
type Answer = (u32, u32);

fn in_the_kernel<A: Kin>(stage: &Stage<A>, call: Call<A>) -> Answer {
    stage.call(
        call.cookie,
        call.address,
        call.port,
        call.protocol,
        call.is_loopback,
    )
}

fn on_the_host<A: Kin>(stage: &Stage<A>, call: Call<A>, number: u32) -> Answer {
    let socket = Socket {
        netns_cookie: call.cookie,
        protocol: call.protocol,
    };
    let host = &stage.host;
    if !socket::serves(&host.config, &socket) {
        return (0, 0);
    }
    host.script([number; 4]);
    let port = Port::new(call.port);
    match socket::choose(host, &host.config, &socket, &call.address, port, call.is_loopback) {
        Choice::Untouched => (0, 0),
        Choice::Refuse(counter) => (1, counter as u32),
        Choice::Backend(id, _) => (2, id.0),
    }
}

fn change_lists<A: Kin>(stage: &mut Stage<A>, dice: &mut Dice) {
    for ip_protocol in [protocol::TCP, protocol::UDP] {
        let mut list = || {
            let tag = if dice.one_in(10) { TAG + 1 } else { TAG };
            if dice.one_in(5) {
                return ListWord::empty(dice.pick(&[When::Reject, When::Drop]), tag);
            }
            let ids: Vec<_> = (0..=dice.below(4))
                .map(|_| Stage::<A>::backend(ip_protocol, dice.below(4) as u32 + 1))
                .collect();
            stage.host.add_list(&ids, tag)
        };
        let service = Service {
            internal: list(),
            external: list(),
            shortcut: list(),
            affinity: AffinityWord::new(dice.pick(&[0, 60, DAY]), dice.pick(&[1, 2]), TAG),
        };
        stage
            .host
            .services
            .insert(Stage::<A>::service(ip_protocol), service);
    }
}

/// The load balancer's address is open, or for some that the host may be of.
fn guard<A: Kin>(stage: &mut Stage<A>, dice: &mut Dice) {
    stage.host.source_ranges.clear();
    for ip_protocol in [protocol::TCP, protocol::UDP] {
        let service = Stage::<A>::service(ip_protocol);
        let kind = dice.pick(&[FrontendKind::LoadBalancer, FrontendKind::GuardedLoadBalancer]);
        let key = FrontendKey::new(balancer(), Port::new(80), ip_protocol);
        stage.host.add_frontend(key, kind, service, TAG);
        let (address, length) = dice.pick(&[(node(), A::BITS), (client(), A::BITS), (node(), 16)]);
        stage.host.source_ranges.push((service, TAG, address, length));
    }
}

fn call<A: Kin>(dice: &mut Dice) -> Call<A> {
    let (address, port) = dice.pick(&[
        (cluster_ip(), 80),
        (balancer(), 80),
        (node(), NODE_PORT),
        (A::of(6, 1), NODE_PORT),
        (cluster_ip(), 81),
        (client(), NODE_PORT),
        (local(1), TARGET),
    ]);
    Call {
        cookie: dice.pick(&[HOST, POD]),
        address,
        port,
        protocol: dice.pick(&[protocol::TCP, protocol::UDP, protocol::SCTP]),
        is_loopback: dice.one_in(4),
    }
}

fn choose_alike<A: Kin>(seed: u64) {
    let mut stage = Stage::<A>::testing(&[local(1), remote(1), local(2), remote(2)]);
    let mut dice = Dice(seed);
    let mut times = BTreeMap::new();
    for _ in 0..30 {
        change_lists(&mut stage, &mut dice);
        guard(&mut stage, &mut dice);
        stage.host.config.flags ^= CONFIG_PODS_SOCKET_LB;
        for flag in [CONFIG_NO_LOOPBACK4, CONFIG_NO_LOOPBACK6] {
            stage.host.config.flags ^= if dice.one_in(2) { flag } else { 0 };
        }
        if dice.one_in(2) && !stage.host.silent_addresses.remove(&A::of(6, 1)) {
            stage.host.silent_addresses.insert(A::of(6, 1));
        }
        if dice.one_in(4) {
            stage
                .host
                .kill_backend(Stage::<A>::backend(protocol::TCP, dice.below(4) as u32 + 1));
        }
        stage.kernel.set_config(&stage.host.config);
        stage.install();
        for _ in 0..100 {
            let call = call(&mut dice);
            if dice.one_in(20) {
                wait(&mut stage, dice.pick(&[30, 60, DAY]));
            }
            if dice.one_in(10) {
                learn_alike(&mut stage, &mut dice);
                adopt(&mut stage);
            }
            let before = stage.kernel.affinities();
            let kernel = in_the_kernel(&stage, call);
            let host: Vec<_> = (0..12)
                .map(|number| {
                    *stage.host.affinities.borrow_mut() = before.iter().copied().collect();
                    on_the_host(&stage, call, number)
                })
                .collect();
            adopt(&mut stage);
            assert!(
                host.contains(&kernel),
                "{call:?}: the kernel says {kernel:?}, the host {host:?}"
            );
            let kind = if kernel.0 == 2 { (2, 0) } else { kernel };
            *times.entry(kind).or_insert(0) += 1;
        }
    }
    for kind in [
        (0, 0),
        (1, Counter::NoEndpoint as u32),
        (1, Counter::NoLocalEndpoint as u32),
        (1, Counter::SourceNotAllowed as u32),
        (2, 0),
    ] {
        assert!(times.contains_key(&kind), "{kind:?} never came up: {times:?}");
    }
}

#[test]
fn host_and_kernel_choose_alike_v4() {
    choose_alike::<V4>(4);
}

#[test]
fn host_and_kernel_choose_alike_v6() {
    choose_alike::<V6>(6);
}

/// The kernel's own random numbers spread calls over the backends.
#[test]
fn the_kernels_draws_spread_evenly() {
    let stage = Stage::<V4>::testing(&[local(1), local(2), remote(1), remote(2)]);
    let call = Call {
        cookie: HOST,
        address: cluster_ip(),
        port: 80,
        protocol: protocol::TCP,
        is_loopback: false,
    };
    let mut times = BTreeMap::<u32, u32>::new();
    for _ in 0..4000 {
        let (kind, id) = in_the_kernel(&stage, call);
        assert_eq!(kind, 2);
        *times.entry(id).or_default() += 1;
    }
    let square: f64 = times
        .values()
        .map(|n| (f64::from(*n) - 1000.0).powi(2) / 1000.0)
        .sum();
    // The 99.999 % quantile of chi-square with three degrees of freedom.
    assert!(times.len() == 4 && square < 25.9, "{times:?}");
}
