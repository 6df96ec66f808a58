//! Packets to a Service's address that no frontend serves: ping, unknown ports, addresses that no Service has.

use lab::in_both_families;
use lab::packet::pieces::fix_checksum;
use lab::packet::stage::*;
use lab::packet::{Context, Error, Frame, Kin, PASS, REDIRECT, SHOT, Transport};
use proxy_common::layout::{Counter, Family, Network, NetworkList, names::program};
use proxy_common::rules::headers::{echo, tcp};

in_both_families!(
    ping_is_answered_with_right_checksums,
    a_long_ping_is_answered_part_by_part,
    an_unknown_port_of_a_cluster_address_is_refused,
    an_address_that_no_service_has_is_dropped,
    an_unknown_port_of_a_load_balancer_does_not_turn_back,
    icmp_without_a_flow_does_not_turn_back_either,
    ranges_of_pods_decide_who_takes_the_shortcut,
);

fn stage<A: Kin>() -> Stage<A> {
    let mut stage = Stage::<A>::new(&[local(1), remote(1)]);
    stage.host.set_vip(cluster_ip(), true, true);
    stage.host.set_vip(balancer(), false, true);
    stage.host.service_networks = NetworkList::of([Network::new(A::of(0x60, 0), 16)]);
    stage.install();
    stage
}

fn request<A: Kin>(from: A, to: A, options: u8) -> Error {
    Error {
        link: Frame::udp((from, 0), (to, 0)).link,
        source: from.into(),
        destination: to.into(),
        hop_limit: 2,
        options,
        kind: (echo::request(A::FAMILY), 0),
        word: 0x0102_0003,
        quoted: (0..57).collect(),
    }
}

/// What a request's receiver says.
fn reply<A: Kin>(request: &Error) -> Error {
    Error {
        link: [request.link[1], request.link[0]],
        source: request.destination,
        destination: request.source,
        hop_limit: 64,
        kind: (echo::reply(A::FAMILY), 0),
        ..request.clone()
    }
}

fn ping_is_answered_with_right_checksums<A: Kin>() {
    let stage = stage::<A>();
    for (name, from) in [
        (program::FROM_POD, pod()),
        (program::FROM_NETWORK, client()),
        (program::TO_NETWORK, node()),
    ] {
        for to in [cluster_ip(), balancer()] {
            for (options, is_summed) in [(0, false), (0, true), (2, false), (2, true)] {
                let request = request::<A>(from, to, options);
                let context = Context {
                    interface: stage.interface(name),
                    is_summed,
                    ..Context::default()
                };
                let before = stage.kernel.counted(Counter::PingAnswered);
                let output = stage.run_in(name, &request.bytes(), context);
                assert_eq!(output.verdict, REDIRECT, "{name}");
                assert_eq!(Error::read(&output.packet), reply::<A>(&request), "{name}");
                assert_eq!(stage.kernel.counted(Counter::PingAnswered), before + 1);
            }
        }
    }
    // It has arrived at a pod, or is nobody's of ours.
    let elsewhere = request::<A>(client(), pod(), 0);
    for name in [program::TO_POD, program::FROM_NETWORK] {
        assert_eq!(stage.run(name, &elsewhere.bytes()).verdict, PASS);
    }
}

/// An IPv4 packet cut in two behind `at` bytes of its payload.
fn cut(bytes: &[u8], at: usize) -> [Vec<u8>; 2] {
    let piece = |start: usize, end: usize, more: u8| {
        let mut piece = bytes[..34].to_vec();
        piece.extend(&bytes[34 + start..34 + end]);
        let length = (piece.len() - 14) as u16;
        piece[16..18].copy_from_slice(&length.to_be_bytes());
        let offset = (start / 8) as u16;
        piece[20..22].copy_from_slice(&offset.to_be_bytes());
        piece[20] |= more << 5;
        fix_checksum(&mut piece[14..34]);
        piece
    };
    [piece(0, at, 1), piece(at, bytes.len() - 34, 0)]
}

fn a_long_ping_is_answered_part_by_part<A: Kin>() {
    if A::FAMILY == Family::V6 {
        // The same code; the parts' extension header is read in the rules' tests.
        return;
    }
    let stage = stage::<A>();
    let request = request::<A>(client(), cluster_ip(), 0);
    let parts = cut(&request.bytes(), 24).map(|part| {
        let output = stage.run(program::FROM_NETWORK, &part);
        assert_eq!(output.verdict, REDIRECT);
        output.packet
    });
    let mut whole = parts[0].clone();
    whole.extend(&parts[1][34..]);
    let length = (whole.len() - 14) as u16;
    whole[16..18].copy_from_slice(&length.to_be_bytes());
    whole[20..22].copy_from_slice(&[0, 0]);
    fix_checksum(&mut whole[14..34]);
    assert_eq!(Error::read(&whole), reply::<A>(&request));
}

fn an_unknown_port_of_a_cluster_address_is_refused<A: Kin>() {
    let stage = stage::<A>();
    let [syn, datagram, init] = calls((pod::<A>(), 33000), (cluster_ip(), 81));
    for call in [&syn, &datagram, &init] {
        assert_eq!(stage.send(program::FROM_POD, call, PASS), *call);
    }
    let before = stage.kernel.counted(Counter::UnknownPort);
    let reset = stage.send(program::TO_NETWORK, &syn, REDIRECT);
    assert_eq!(reset.transport, Transport::Tcp(tcp::RST | tcp::ACK, 0, 1001));
    assert_eq!((reset.source, reset.destination), (syn.destination, syn.source));
    for call in [datagram, init] {
        let output = stage.run(program::TO_NETWORK, &call.bytes());
        assert_eq!(output.verdict, REDIRECT);
        let error = Error::read(&output.packet);
        assert_eq!(
            (error.source, error.destination),
            (call.destination.ip(), call.source.ip())
        );
    }
    assert_eq!(stage.kernel.counted(Counter::UnknownPort), before + 3);
}

fn an_address_that_no_service_has_is_dropped<A: Kin>() {
    let stage = stage::<A>();
    let before = stage.kernel.counted(Counter::UnallocatedAddress);
    for call in calls((pod::<A>(), 33000), (A::of(0x60, 99), 80)) {
        assert_eq!(stage.send(program::FROM_POD, &call, PASS), call);
        assert_eq!(stage.run(program::TO_NETWORK, &call.bytes()).verdict, SHOT);
    }
    let request = request::<A>(pod(), A::of(0x60, 99), 0);
    assert_eq!(stage.run(program::TO_NETWORK, &request.bytes()).verdict, SHOT);
    assert_eq!(stage.kernel.counted(Counter::UnallocatedAddress), before + 4);
}

fn an_unknown_port_of_a_load_balancer_does_not_turn_back<A: Kin>() {
    let stage = stage::<A>();
    let context = |came_in_by| Context {
        interface: stage.wire.uplink,
        came_in_by,
        ..Context::default()
    };
    let before = stage.kernel.counted(Counter::TurnedBack);
    for call in calls((client::<A>(), 33000), (balancer(), 81)) {
        let output = stage.run_in(program::TO_NETWORK, &call.bytes(), context(0));
        assert_eq!(output.verdict, PASS);
        let output = stage.run_in(program::TO_NETWORK, &call.bytes(), context(stage.wire.uplink));
        assert_eq!(output.verdict, SHOT);
    }
    assert_eq!(stage.kernel.counted(Counter::TurnedBack), before + 3);
}

/// A reply that nobody asked for, and an error about a datagram of a flow that is not known.
fn unasked<A: Kin>(from: A, to: A) -> [Error; 2] {
    let reply = Error {
        kind: (echo::reply(A::FAMILY), 0),
        ..request(from, to, 0)
    };
    let unreachable = match A::FAMILY {
        Family::V4 => (3, 3),
        Family::V6 => (1, 4),
    };
    let datagram = Frame::udp((to, 80), (from, 33000)).bytes();
    let error = Error {
        kind: unreachable,
        word: 0,
        quoted: datagram[14..].to_vec(),
        ..request(from, to, 0)
    };
    [reply, error]
}

fn icmp_without_a_flow_does_not_turn_back_either<A: Kin>() {
    let stage = stage::<A>();
    let context = |came_in_by| Context {
        interface: stage.wire.uplink,
        came_in_by,
        ..Context::default()
    };
    let uplink = stage.wire.uplink;
    for (to, came_in_by, counter) in [
        (balancer::<A>(), uplink, Counter::TurnedBack),
        (cluster_ip(), 0, Counter::UnknownPort),
        (A::of(0x60, 99), 0, Counter::UnallocatedAddress),
    ] {
        let before = stage.kernel.counted(counter);
        for message in unasked(client(), to) {
            let bytes = message.bytes();
            assert_eq!(
                stage.run(program::FROM_NETWORK, &bytes).verdict,
                PASS,
                "{message:?}"
            );
            let output = stage.run_in(program::TO_NETWORK, &bytes, context(came_in_by));
            assert_eq!(output.verdict, SHOT, "{message:?}");
        }
        assert_eq!(stage.kernel.counted(counter), before + 2);
    }
    for message in unasked(client(), balancer::<A>()) {
        let output = stage.run_in(program::TO_NETWORK, &message.bytes(), context(0));
        assert_eq!(output.verdict, PASS, "it does not come from there");
    }
}

fn ranges_of_pods_decide_who_takes_the_shortcut<A: Kin>() {
    let mut stage = stage::<A>();
    for ip_protocol in PROTOCOLS {
        let list =
            |stage: &mut Stage<A>, nth| stage.host.add_list(&[Stage::<A>::backend(ip_protocol, nth)], TAG);
        let (here, there) = (list(&mut stage, 1), list(&mut stage, 2));
        let id = Stage::<A>::service(ip_protocol);
        let service = stage.host.services.entry(id).or_default();
        (service.external, service.shortcut) = (here, there);
    }
    stage.host.local_networks = NetworkList::of([Network::new(A::of(4, 0), 16)]);
    stage.install();
    for (name, from, to) in [
        (program::FROM_POD, pod::<A>(), remote::<A>(1)),
        (program::FROM_POD, client(), local(1)),
    ] {
        for call in calls((from, 33001), (balancer(), 80)) {
            let sent = stage.send(name, &call, PASS);
            assert_eq!(sent.destination.ip(), to.into(), "{name} {call:?}");
        }
    }
}
