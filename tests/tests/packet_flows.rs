//! Flows that go on whatever comes: segments outside of every window, a UDP backend that goes, a pod that reaches itself by
//! each of its Service's addresses.

use lab::in_both_families;
use lab::packet::dice::Dice;
use lab::packet::stage::*;
use lab::packet::{Frame, Kin, PASS, REDIRECT, SHOT};
use proxy_common::layout::{
    Counter, Direction, FlowTable, FrontendKey, FrontendKind, Port, When, names::program, state,
};
use proxy_common::rules::headers::tcp;

in_both_families!(
    segments_outside_of_every_window_are_translated_like_all_others,
    a_reset_outside_of_the_window_costs_no_flow,
    a_udp_flow_of_a_service_scaled_to_nothing_is_refused_at_once,
    a_udp_flow_from_outside_moves_when_its_backend_stops_serving,
    a_pod_reaches_itself_by_every_frontend,
    the_newest_flow_of_a_full_table_is_whole,
);

/// The first sequence number of the client, and of the server.
const FIRST: (u32, u32) = (1000, 5000);

/// From where a connection comes, by which programs its two directions go, and what those say.
struct Way<A> {
    client: A,
    frontend: (A, u16),
    backend: A,
    there: &'static str,
    back: &'static str,
    verdict: i32,
}

fn ways<A: Kin>() -> Vec<Way<A>> {
    let from_a_pod = |backend| Way {
        client: pod(),
        frontend: (cluster_ip(), 80),
        backend,
        there: program::FROM_POD,
        back: program::TO_POD,
        verdict: PASS,
    };
    let from_outside = |frontend, backend| Way {
        client: client(),
        frontend,
        backend,
        there: program::FROM_NETWORK,
        back: program::TO_NETWORK,
        verdict: PASS,
    };
    let mut all = vec![from_a_pod(local(1)), from_a_pod(remote(1))];
    for frontend in [(cluster_ip(), 80), (balancer(), 80), (node(), NODE_PORT)] {
        all.push(from_outside(frontend, local(1)));
        all.push(Way {
            back: program::FROM_NETWORK,
            verdict: REDIRECT,
            ..from_outside(frontend, remote(1))
        });
    }
    all
}

/// A connection that stands: its SYN as the client sent it, and as the backend saw it.
fn connect<A: Kin>(stage: &Stage<A>, way: &Way<A>) -> (Frame, Frame) {
    let syn = Frame::syn((way.client, 40_000), way.frontend);
    let seen = stage.send(way.there, &syn, way.verdict);
    let answer = seen
        .clone()
        .turned()
        .numbered(tcp::SYN | tcp::ACK, FIRST.1, FIRST.0 + 1);
    stage.send(way.back, &answer, way.verdict);
    let acknowledgement = syn.clone().numbered(tcp::ACK, FIRST.0 + 1, FIRST.1 + 1);
    stage.send(way.there, &acknowledgement, way.verdict);
    (syn, seen)
}

/// A segment of the client reaches the backend, one of the server the client, as their addresses say; all else stays.
#[track_caller]
fn is_translated<A: Kin>(
    stage: &Stage<A>,
    way: &Way<A>,
    (syn, seen): &(Frame, Frame),
    numbers: (u8, u32, u32),
) {
    let (flags, sequence, acknowledgement) = numbers;
    let segment = |ends: &Frame| Frame {
        payload: b"out of the window".to_vec(),
        ..ends.clone().numbered(flags, sequence, acknowledgement)
    };
    let passes = |program, sent: Frame, ends| {
        let arrived = stage.send(program, &sent, way.verdict);
        assert_eq!((arrived.source, arrived.destination), ends, "{numbers:?}");
        assert_eq!(
            (arrived.transport, &arrived.payload),
            (sent.transport, &sent.payload)
        );
    };
    passes(way.there, segment(syn), (seen.source, seen.destination));
    let back = segment(&seen.clone().turned());
    passes(way.back, back, (syn.destination, syn.source));
}

#[track_caller]
fn state_of<A: Kin>(stage: &mut Stage<A>, syn: &Frame) -> u8 {
    let flow = stage.flow(FlowTable::Flows, syn, Direction::Forward);
    flow.unwrap_or_else(|| panic!("no established flow of {syn:?}"))
        .meta
        .state()
}

/// What netfilter calls invalid and leaves untranslated, so that the client sees a stranger's segment and resets
/// (kubernetes/kubernetes#74839).
fn segments_outside_of_every_window_are_translated_like_all_others<A: Kin>() {
    let far = [0, 1, 70_000, 1 << 31, u32::MAX];
    for way in ways::<A>() {
        let mut stage = Stage::new(&[way.backend]);
        let ends = connect(&stage, &way);
        let before = state_of(&mut stage, &ends.0);
        let counters = stage.kernel.counters();
        for flags in [tcp::ACK, 0] {
            for (ahead, acknowledged) in far.into_iter().flat_map(|one| far.map(|other| (one, other))) {
                let numbers = (FIRST.0.wrapping_add(ahead), FIRST.1.wrapping_sub(acknowledged));
                is_translated(&stage, &way, &ends, (flags, numbers.0, numbers.1));
            }
        }
        assert_eq!(
            stage.kernel.counters(),
            counters,
            "nothing was dropped, passed or made anew"
        );
        assert_eq!(state_of(&mut stage, &ends.0), before);
    }
}

fn a_reset_outside_of_the_window_costs_no_flow<A: Kin>() {
    for way in ways::<A>() {
        let mut stage = Stage::new(&[way.backend]);
        let ends = connect(&stage, &way);
        for flags in [tcp::RST, tcp::RST | tcp::ACK] {
            is_translated(&stage, &way, &ends, (flags, 1 << 30, 7));
            // Whoever got it did not believe it, and the connection goes on.
            is_translated(&stage, &way, &ends, (tcp::ACK, FIRST.0 + 1, FIRST.1 + 1));
            let now = state_of(&mut stage, &ends.0);
            assert_eq!(
                now & state::RESET,
                0,
                "its life is an established connection's again: {now:#x}"
            );
        }
    }
}

/// kubernetes/kubernetes#139628: not to the endpoint that is gone, and not in silence.
fn a_udp_flow_of_a_service_scaled_to_nothing_is_refused_at_once<A: Kin>() {
    for way in ways::<A>() {
        let mut stage = Stage::new(&[way.backend]);
        let call = Frame::udp((way.client, 40_000), way.frontend);
        for _ in 0..2 {
            let seen = stage.send(way.there, &call, way.verdict);
            assert_eq!(seen.destination.ip(), way.backend.into());
            stage.send(way.back, &seen.turned(), way.verdict);
        }
        assert!(stage.flow(FlowTable::Flows, &call, Direction::Forward).is_some());
        stage.empty_lists(When::Reject);
        stage.kill(1);
        let refused = stage.kernel.counted(Counter::NoEndpoint);
        let output = stage.run(way.there, &call.bytes());
        assert_eq!(output.verdict, REDIRECT, "an ICMP error goes back");
        assert_eq!(stage.kernel.counted(Counter::NoEndpoint), refused + 1);
    }
}

fn a_udp_flow_from_outside_moves_when_its_backend_stops_serving<A: Kin>() {
    for backends in [
        [local(1), remote(1)],
        [remote(1), remote(2)],
        [local(1), local(2)],
    ] {
        let mut stage = Stage::<A>::new(&backends);
        let call = Frame::udp((client::<A>(), 40_000), (node::<A>(), NODE_PORT));
        let first = Frame::read(&stage.run(program::FROM_NETWORK, &call.bytes()).packet);
        let nth = backends
            .iter()
            .position(|backend| first.destination.ip() == (*backend).into());
        let nth = nth.unwrap_or_else(|| panic!("{first:?} goes to none of {backends:?}"));
        let rebalanced = stage.kernel.counted(Counter::UdpRebalanced);
        stage.kill(nth as u32 + 1);
        // The dead backend may be drawn thrice: then the packet is dropped, and the next one tries again.
        let moved = loop {
            let output = stage.run(program::FROM_NETWORK, &call.bytes());
            if output.verdict != SHOT {
                break Frame::read(&output.packet);
            }
        };
        assert_eq!(moved.destination.ip(), backends[1 - nth].into());
        assert_eq!(stage.kernel.counted(Counter::UdpRebalanced), rebalanced + 1);
    }
}

fn a_pod_reaches_itself_by_every_frontend<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    let external = A::of(0x61, 9);
    for ip_protocol in PROTOCOLS {
        let key = FrontendKey::new(external, Port::new(80), ip_protocol);
        let service = Stage::<A>::service(ip_protocol);
        stage
            .host
            .add_frontend(key, FrontendKind::ExternalIp, service, TAG);
    }
    stage.install();
    let frontends = [
        (cluster_ip(), 80),
        (balancer(), 80),
        (external, 80),
        (node(), NODE_PORT),
        (A::of(6, 1), NODE_PORT),
    ];
    for (port, frontend) in (40_000..).zip(frontends) {
        for call in calls((local::<A>(1), port), frontend) {
            let seen = stage.send(program::FROM_POD, &call, REDIRECT);
            assert_eq!(seen.source.ip(), node::<A>().into(), "the node's own address");
            assert_eq!(seen.destination, (local::<A>(1).into(), TARGET).into());
            let answer = Frame {
                link: call.link,
                ..seen.turned().numbered(tcp::SYN | tcp::ACK, FIRST.1, FIRST.0 + 1)
            };
            let shown = stage.send(program::FROM_POD, &answer, REDIRECT);
            assert_eq!((shown.source, shown.destination), (call.destination, call.source));
        }
    }
}

/// A full table pushes out what was not used since it was inserted: where all else is in use, half of the newest flow.
fn the_newest_flow_of_a_full_table_is_whole<A: Kin>() {
    /// So many of the last flows are in use all the time: about as many as the table holds.
    const IN_USE: u16 = 480;
    const FIRST_PORT: u16 = 20_000;
    let mut stage = Stage::<A>::new(&[local(1)]);
    let way = Way::<A> {
        client: client(),
        frontend: (balancer(), 80),
        backend: local(1),
        there: program::FROM_NETWORK,
        back: program::TO_NETWORK,
        verdict: PASS,
    };
    let mut dice = Dice(1);
    for port in FIRST_PORT..FIRST_PORT + 5000 {
        let syn = Frame::syn((way.client, port), way.frontend);
        let seen = stage.send(way.there, &syn, way.verdict);
        let answer = seen.turned().numbered(tcp::SYN | tcp::ACK, FIRST.1, FIRST.0 + 1);
        let shown = stage.send(way.back, &answer, way.verdict);
        assert_eq!(
            shown.source, syn.destination,
            "the answer to the call from {port}"
        );
        if port < FIRST_PORT + IN_USE {
            continue;
        }
        for _ in 0..8 {
            let back = dice.below(usize::from(IN_USE)) as u16;
            let again = Frame::syn((way.client, port - back), way.frontend);
            stage.send(way.there, &again, way.verdict);
        }
    }
    let first = (FIRST_PORT..FIRST_PORT + 1000).filter(|port| {
        let old = Frame::syn((way.client, *port), way.frontend);
        stage.flow(FlowTable::Embryos, &old, Direction::Forward).is_some()
    });
    assert!(first.count() < 500, "the table was never full");
}
