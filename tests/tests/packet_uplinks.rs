//! Several uplinks: what answers a flow goes back by the one that the flow came in by.
//!
//! The client is behind both uplinks of the namespace. The routing table prefers `uplink`, whose MTU is 1500; `narrow`'s is
//! 1280, by which a test sees where a packet goes.

use lab::in_both_families;
use lab::packet::stage::*;
use lab::packet::{Context, Frame, Kin, Output, PASS, REDIRECT, SHOT, Transport, XDP_PASS, XDP_TX};
use proxy_common::layout::{
    CONFIG_MARK, CONFIG_MARK_BIT, Counter, Direction, Family, FlowTable, names::program,
};
use proxy_common::rules::headers::tcp;

in_both_families!(
    answers_leave_by_the_uplink_of_the_call,
    without_a_way_by_it_the_routing_table_decides,
    calls_leave_as_the_routing_table_says,
    xdp_leaves_another_way_to_tc,
    a_call_to_a_pod_of_this_node_carries_the_mark,
    an_established_flow_keeps_its_uplink_and_its_mark,
);

/// A client that nobody is next to.
fn far<A: Kin>() -> A {
    A::of(9, 7)
}

/// One family's network of clients by both uplinks; by `narrow` as its own address goes.
fn stage<A: Kin>(backends: &[A]) -> Stage<A> {
    let stage = Stage::<A>::with_neighbours(backends);
    let commands = match A::FAMILY {
        Family::V4 => [
            "route add 10.9.0.0/16 via 10.1.0.2",
            "route add 10.9.0.0/16 via 10.6.0.2 table 7",
            "rule add from 10.6.0.1 table 7",
        ],
        Family::V6 => [
            "-6 route add fd09::/16 via fd01::2",
            "-6 route add fd09::/16 via fd06::2 table 7",
            "-6 rule add from fd06::1 table 7",
        ],
    };
    for command in commands {
        stage.wire.change(command);
    }
    stage
}

/// A packet that comes in by an uplink.
fn arrives<A: Kin>(stage: &Stage<A>, interface: u32, frame: &Frame) -> Output {
    let context = Context {
        interface,
        ..Context::default()
    };
    stage.run_in(program::FROM_NETWORK, &frame.bytes(), context)
}

/// The backend's answer to a call that came in by an uplink, with so much data that `narrow` can't take it.
fn large_answer<A: Kin>(stage: &Stage<A>, came_in_by: u32, call: &Frame) -> Output {
    let output = arrives(stage, came_in_by, call);
    assert_eq!(output.verdict, REDIRECT, "{call:?}");
    let answer = Frame {
        payload: vec![7; 1340],
        ..Frame::read(&output.packet)
            .turned()
            .numbered(tcp::ACK, 5000, 1001)
    };
    stage.run(program::FROM_NETWORK, &answer.bytes())
}

fn is_too_big<A: Kin>(stage: &Stage<A>, came_in_by: u32, call: &Frame) -> bool {
    let before = stage.kernel.counted(Counter::TooBig);
    let output = large_answer(stage, came_in_by, call);
    match stage.kernel.counted(Counter::TooBig) - before {
        0 => {
            assert_eq!(output.verdict, REDIRECT);
            let shown = Frame::read(&output.packet);
            assert_eq!((shown.source, shown.destination), (call.destination, call.source));
            false
        }
        _ => true,
    }
}

fn answers_leave_by_the_uplink_of_the_call<A: Kin>() {
    let mut stage = stage::<A>(&[remote(1)]);
    let [uplink, narrow] = [stage.wire.uplink, stage.wire.narrow];
    for (nth, interface) in (0..).zip([uplink, narrow, uplink, narrow]) {
        for call in calls((far::<A>(), 40_000 + nth), (balancer(), 80)) {
            assert_eq!(
                is_too_big(&stage, interface, &call),
                interface == narrow,
                "{call:?}"
            );
            let flow = stage.flow(FlowTable::Embryos, &call, Direction::Forward);
            assert_eq!(flow.map(|flow| flow.via.interface()), Some(interface));
        }
    }
}

fn without_a_way_by_it_the_routing_table_decides<A: Kin>() {
    let stage = stage::<A>(&[remote(1)]);
    let call = Frame::udp((far::<A>(), 40_000), (balancer::<A>(), 80));
    assert!(is_too_big(&stage, stage.wire.narrow, &call));
    stage.wire.change("link set narrow down");
    assert!(!is_too_big(&stage, stage.wire.narrow, &call));
}

/// Whatever a call came in by, and whatever its answers leave by.
fn calls_leave_as_the_routing_table_says<A: Kin>() {
    let stage = stage::<A>(&[remote(1)]);
    for call in calls((far::<A>(), 40_000), (balancer(), 80)) {
        let call = Frame {
            payload: vec![7; 1340],
            ..call
        };
        let output = arrives(&stage, stage.wire.narrow, &call);
        assert_eq!(output.verdict, REDIRECT);
        let seen = Frame::read(&output.packet);
        assert_eq!(seen.source.ip(), node::<A>().into(), "the address of the way out");
    }
}

fn xdp_leaves_another_way_to_tc<A: Kin>() {
    let stage = stage::<A>(&[remote(1)]);
    let [uplink, narrow] = [stage.wire.uplink, stage.wire.narrow];
    for (port, interface, verdict) in [(40_000, uplink, XDP_TX), (40_001, narrow, XDP_PASS)] {
        let call = Frame::udp((far::<A>(), port), (balancer::<A>(), 80));
        let output = arrives(&stage, interface, &call);
        let answer = Frame::read(&output.packet).turned();
        let sent = stage.run_xdp(&answer.bytes());
        assert_eq!(sent.verdict, verdict, "came in by {interface}");
        if verdict == XDP_PASS {
            assert_eq!(sent.packet, answer.bytes());
            assert_eq!(
                stage.run(program::FROM_NETWORK, &answer.bytes()).verdict,
                REDIRECT
            );
        }
    }
}

/// Of which nothing is new any more: there is a short way for such packets.
fn an_established_flow_keeps_its_uplink_and_its_mark<A: Kin>() {
    for (backend, is_local) in [(remote(1), false), (local(1), true)] {
        let mut stage = stage::<A>(&[backend]);
        stage.host.config.flags |= CONFIG_MARK | 7 << CONFIG_MARK_BIT;
        stage.install();
        let [uplink, narrow] = [stage.wire.uplink, stage.wire.narrow];
        for (port, interface) in [(40_000, uplink), (40_001, narrow)] {
            for call in calls((far::<A>(), port), (balancer(), 80)) {
                let seen = Frame::read(&arrives(&stage, interface, &call).packet);
                let back = if is_local {
                    program::TO_NETWORK
                } else {
                    program::FROM_NETWORK
                };
                let opened = seen.clone().turned().numbered(tcp::SYN | tcp::ACK, 5000, 1001);
                stage.run(back, &opened.bytes());
                let proof = if matches!(call.transport, Transport::Sctp(..)) {
                    5000
                } else {
                    5001
                };
                let data = call.clone().numbered(tcp::ACK, 1001, proof);
                for _ in 0..3 {
                    let output = arrives(&stage, interface, &data);
                    if is_local {
                        assert_eq!((output.verdict, output.mark), (PASS, 0x80), "{call:?}");
                    } else {
                        assert_eq!((output.verdict, output.mark), (REDIRECT, 0), "{call:?}");
                    }
                }
                assert!(
                    stage.flow(FlowTable::Flows, &call, Direction::Forward).is_some(),
                    "{call:?} is established"
                );
                if is_local {
                    continue;
                }
                let large = Frame {
                    payload: vec![7; 1340],
                    ..seen.turned().numbered(tcp::ACK, 5001, 1002)
                };
                for _ in 0..3 {
                    let before = stage.kernel.counted(Counter::TooBig);
                    stage.run(program::FROM_NETWORK, &large.bytes());
                    let is_too_big = stage.kernel.counted(Counter::TooBig) != before;
                    assert_eq!(is_too_big, interface == narrow, "{call:?}");
                }
            }
        }
    }
}

fn a_call_to_a_pod_of_this_node_carries_the_mark<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    let output = |stage: &Stage<A>, name, call: &Frame| {
        let output = stage.run(name, &call.bytes());
        assert_ne!(output.verdict, SHOT, "{call:?}");
        output
    };
    for mark in [0, 0x80, 0x8000_0000_u32] {
        if mark != 0 {
            stage.host.config.flags |= CONFIG_MARK | mark.trailing_zeros() << CONFIG_MARK_BIT;
        }
        stage.install();
        stage.kernel.forget_flows();
        for call in calls((client::<A>(), 40_000), (balancer(), 80)) {
            // The first packet and those that follow.
            for _ in 0..2 {
                let seen = output(&stage, program::FROM_NETWORK, &call);
                assert_eq!((seen.verdict, seen.mark), (PASS, mark));
            }
        }
        for call in calls((pod::<A>(), 40_000), (cluster_ip(), 80)) {
            assert_eq!(output(&stage, program::FROM_POD, &call).mark, 0, "from a pod");
        }
        for call in calls((client::<A>(), 40_000), (pod(), 80)) {
            assert_eq!(
                output(&stage, program::FROM_NETWORK, &call).mark,
                0,
                "not translated"
            );
        }
        stage.host.config.flags &= CONFIG_MARK - 1;
    }
}
