//! Around the stack through the programs: into a pod and out of it, with the client's own address.

use lab::in_both_families;
use lab::packet::stage::*;
use lab::packet::{Context, Error, Frame, Kin, PASS, REDIRECT, SHOT, Transport, XDP_PASS};
use proxy_common::layout::{
    CONFIG_BYPASSED, CONFIG_FAST, Counter, Direction, Family, FlowTable, names::program,
};
use proxy_common::rules::headers::tcp;

in_both_families!(
    a_call_goes_into_the_pod_and_its_answer_out_of_the_uplink,
    a_pod_of_this_node_is_answered_into_the_pod,
    a_pod_of_another_node_is_reached_out_of_the_uplink,
    without_a_neighbour_the_kernel_finds_it,
    flows_keep_their_way,
    a_packet_at_its_last_hop_is_told,
    an_answer_too_big_for_the_uplink_is_told,
    no_way_is_a_counted_drop,
    errors_go_the_way_of_their_flow,
    what_is_for_nobody_passes,
    xdp_leaves_it_to_tc,
    the_sum_of_the_whole_stays_right,
);

const POD_LINK: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OWN_LINK: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The neighbours behind the pods' interface are known.
fn stage<A: Kin>(backends: &[A]) -> Stage<A> {
    let mut stage = Stage::<A>::new(backends);
    stage.go_around();
    for address in [local::<A>(1), pod()] {
        let address = address.to_mapped();
        let address = std::net::IpAddr::from(address);
        stage.wire.change(&format!(
            "neighbour add {address} lladdr 02:00:00:00:00:09 dev pod"
        ));
    }
    stage
}

/// Where calls come from, where they come in and go to, and where the answers come in.
fn ways<A: Kin>() -> [(&'static str, A, A, &'static str); 3] {
    [
        (program::FROM_NETWORK, client(), local(1), program::FROM_POD),
        (program::FROM_POD, pod(), local(1), program::FROM_POD),
        (program::FROM_POD, pod(), remote(1), program::FROM_NETWORK),
    ]
}

/// A flow that both ends know, and what leads to it: a call, what its backend sees, data of each end.
#[track_caller]
fn establish<A: Kin>(stage: &Stage<A>, at: &str, back: &str, call: &Frame) -> (Frame, Frame, Frame) {
    let seen = stage.send(at, call, REDIRECT);
    let opened = seen.clone().turned().numbered(tcp::SYN | tcp::ACK, 5000, 1001);
    stage.send(back, &opened, REDIRECT);
    let proof = if matches!(call.transport, Transport::Sctp(..)) {
        5000
    } else {
        5001
    };
    let data = call.clone().numbered(tcp::ACK, 1001, proof);
    stage.send(at, &data, REDIRECT);
    let answer = seen.clone().turned().numbered(tcp::ACK, 5001, 1002);
    (seen, data, answer)
}

/// What somebody who was handed a packet says to its sender: that nobody listens there.
fn about<A: Kin>(packet: &Frame) -> Error {
    Error {
        link: [OWN_LINK, POD_LINK],
        source: packet.destination.ip(),
        destination: packet.source.ip(),
        hop_limit: 64,
        options: 0,
        kind: match A::FAMILY {
            Family::V4 => (3, 3),
            Family::V6 => (1, 4),
        },
        word: 0,
        quoted: packet.bytes()[14..].to_vec(),
    }
}

/// What leaves has been forwarded once.
fn forwarded(frame: &Frame) -> Frame {
    Frame {
        hop_limit: frame.hop_limit - 1,
        ..frame.clone()
    }
}

fn a_call_goes_into_the_pod_and_its_answer_out_of_the_uplink<A: Kin>() {
    for (to, port) in [(balancer::<A>(), 80), (cluster_ip(), 80), (node(), NODE_PORT)] {
        let mut stage = stage::<A>(&[local(1)]);
        for call in calls((client::<A>(), 40000), (to, port)) {
            let (_, data, answer) = establish(&stage, program::FROM_NETWORK, program::FROM_POD, &call);
            // Of an established flow, and with the whole rule.
            for data in [&call, &data, &data] {
                let expected = Frame {
                    destination: (local::<A>(1).into(), TARGET).into(),
                    link: [POD_LINK, OWN_LINK],
                    ..forwarded(data)
                };
                assert_eq!(stage.send(program::FROM_NETWORK, data, REDIRECT), expected);
            }
            let answer = Frame {
                link: [OWN_LINK, POD_LINK],
                ..answer
            };
            for _ in 0..2 {
                let shown = stage.send(program::FROM_POD, &answer, REDIRECT);
                assert_eq!((shown.source, shown.destination), (call.destination, call.source));
                assert_eq!(shown.hop_limit, 63);
            }
            assert!(stage.flow(FlowTable::Flows, &call, Direction::Forward).is_some());
        }
    }
}

fn a_pod_of_this_node_is_answered_into_the_pod<A: Kin>() {
    let stage = stage::<A>(&[local(1)]);
    for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
        let (_, _, answer) = establish(&stage, program::FROM_POD, program::FROM_POD, &call);
        let shown = stage.send(program::FROM_POD, &answer, REDIRECT);
        let expected = Frame {
            source: call.destination,
            destination: call.source,
            link: [POD_LINK, OWN_LINK],
            ..forwarded(&answer)
        };
        assert_eq!(shown, expected);
    }
}

fn a_pod_of_another_node_is_reached_out_of_the_uplink<A: Kin>() {
    let stage = stage::<A>(&[remote(1)]);
    for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
        let (seen, _, answer) = establish(&stage, program::FROM_POD, program::FROM_NETWORK, &call);
        assert_eq!(seen.source, call.source);
        let shown = stage.send(program::FROM_NETWORK, &answer, REDIRECT);
        assert_eq!((shown.source, shown.destination), (call.destination, call.source));
        assert_eq!(shown.link, [POD_LINK, OWN_LINK]);
    }
}

fn without_a_neighbour_the_kernel_finds_it<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    stage.go_around();
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
        assert_eq!(seen.link, call.link, "the kernel writes the header");
        assert_eq!(seen.destination, (local::<A>(1).into(), TARGET).into());
    }
}

fn flows_keep_their_way<A: Kin>() {
    for (at, from, backend, back) in ways::<A>() {
        let mut stage = stage::<A>(&[backend]);
        for port in [40000, 40001] {
            let is_fast = port == 40000;
            for call in calls((from, port), (balancer(), 80)) {
                let flags = if is_fast { CONFIG_FAST } else { CONFIG_BYPASSED };
                stage.host.config.flags = stage.host.config.flags & !CONFIG_FAST | flags;
                stage.kernel.set_config(&stage.host.config);
                let verdict = if is_fast { REDIRECT } else { PASS };
                let seen = stage.send(at, &call, verdict);
                for flags in [CONFIG_BYPASSED, CONFIG_FAST] {
                    stage.host.config.flags = stage.host.config.flags & !CONFIG_FAST | flags;
                    stage.kernel.set_config(&stage.host.config);
                    stage.send(at, &call, verdict);
                    let answer = seen.clone().turned().numbered(tcp::SYN | tcp::ACK, 5000, 1001);
                    let shown = stage.send(back, &answer, verdict);
                    let is_translated = shown.source == call.destination;
                    assert_eq!(is_translated, is_fast, "{call:?}");
                }
            }
        }
    }
}

fn a_packet_at_its_last_hop_is_told<A: Kin>() {
    for (at, from, backend, back) in ways::<A>() {
        let stage = stage::<A>(&[backend]);
        for call in calls((from, 40000), (balancer(), 80)) {
            let (seen, ..) = establish(&stage, at, back, &call);
            for (at, packet) in [(at, call), (back, seen.turned())] {
                let before = stage.kernel.counted(Counter::HopLimit);
                let last = Frame {
                    hop_limit: 1,
                    ..packet
                };
                let output = stage.run(at, &last.bytes());
                assert_eq!(output.verdict, REDIRECT);
                let quoted = Error::read(&output.packet).quoted;
                // Whole words.
                assert!(last.bytes()[14..].starts_with(&quoted) && quoted.len() > 30);
                assert_eq!(stage.kernel.counted(Counter::HopLimit), before + 1);
            }
        }
    }
}

/// The client is behind the narrow uplink.
fn an_answer_too_big_for_the_uplink_is_told<A: Kin>() {
    let stage = stage::<A>(&[local(1)]);
    let far: A = A::of(6, 0x20);
    let call = Frame::udp((far, 40000), (balancer::<A>(), 80));
    let context = Context {
        interface: stage.wire.narrow,
        ..Context::default()
    };
    let output = stage.run_in(program::FROM_NETWORK, &call.bytes(), context);
    assert_eq!(output.verdict, REDIRECT);
    let answer = Frame {
        payload: vec![7; 1340],
        ..Frame::read(&output.packet).turned()
    };
    let before = stage.kernel.counted(Counter::TooBig);
    let output = stage.run(program::FROM_POD, &answer.bytes());
    assert_eq!(output.verdict, REDIRECT);
    assert_eq!(Error::read(&output.packet).word, 1280);
    assert_eq!(stage.kernel.counted(Counter::TooBig), before + 1);
}

fn no_way_is_a_counted_drop<A: Kin>() {
    let stage = stage::<A>(&[local(1)]);
    let call = Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80));
    let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
    let prefix = match A::FAMILY {
        Family::V4 => "10.1.0.0/16",
        Family::V6 => "fd01::/16",
    };
    stage
        .wire
        .change(&format!("route add blackhole {prefix} metric 1"));
    if A::FAMILY == Family::V4 {
        stage.wire.change("route delete 10.1.0.0/16 dev uplink");
    }
    let before = stage.kernel.counted(Counter::NoRoute);
    assert_eq!(stage.run(program::FROM_POD, &seen.turned().bytes()).verdict, SHOT);
    assert_eq!(stage.kernel.counted(Counter::NoRoute), before + 1);
}

fn errors_go_the_way_of_their_flow<A: Kin>() {
    for (at, from, backend, back) in ways::<A>() {
        let stage = stage::<A>(&[backend]);
        for call in calls((from, 40000), (balancer(), 80)) {
            let (seen, ..) = establish(&stage, at, back, &call);
            let shown = stage.send(back, &seen.clone().turned(), REDIRECT);
            // About the call, from the backend; about the answer, from the caller.
            for (hook, packet, original) in [(back, &seen, &call), (at, &shown, &seen.clone().turned())] {
                let error = about::<A>(packet);
                let output = stage.run(hook, &error.bytes());
                assert_eq!(output.verdict, REDIRECT, "{call:?} {hook}");
                let told = Error::read(&output.packet);
                assert_eq!(told.destination, original.source.ip(), "{call:?} {hook}");
                assert_eq!(told.source, original.destination.ip(), "{call:?} {hook}");
            }
        }
    }
}

fn what_is_for_nobody_passes<A: Kin>() {
    let stage = stage::<A>(&[local(1)]);
    for packet in calls((local::<A>(1), TARGET), (client::<A>(), 40000)) {
        let output = stage.run(program::FROM_POD, &packet.bytes());
        assert_eq!((output.verdict, output.packet), (PASS, packet.bytes()));
    }
}

fn xdp_leaves_it_to_tc<A: Kin>() {
    let stage = stage::<A>(&[local(1)]);
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        for _ in 0..2 {
            let output = stage.run_xdp(&call.bytes());
            assert_eq!((output.verdict, output.packet), (XDP_PASS, call.bytes()));
            stage.send(program::FROM_NETWORK, &call, REDIRECT);
        }
    }
}

fn the_sum_of_the_whole_stays_right<A: Kin>() {
    for (at, from, backend, _) in ways::<A>() {
        let stage = stage::<A>(&[backend]);
        for call in calls((from, 40000), (balancer(), 80)) {
            let plain = stage.run(at, &call.bytes());
            let context = Context {
                interface: stage.interface(at),
                is_summed: true,
                ..Context::default()
            };
            assert_eq!(stage.run_in(at, &call.bytes(), context), plain);
        }
    }
}
