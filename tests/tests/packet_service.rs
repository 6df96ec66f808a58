//! Packets to a Service and back, through the programs: bytes, checksums and flows.

use lab::in_both_families;
use lab::packet::stage::*;
use lab::packet::{Frame, Kin, PASS, REDIRECT, Transport};
use proxy_common::layout::{Counter, Direction, FlowTable, V4, names::program};
use proxy_common::rules::headers::tcp;

in_both_families!(
    a_pods_call_and_its_reply_are_translated,
    a_handshake_promotes,
    udp_promotes_on_the_second_packet_after_a_reply,
    a_call_from_outside_reaches_a_local_backend_through_the_stack,
    a_call_from_outside_reaches_a_remote_backend_around_the_stack,
    a_node_port_answers_at_every_node_address,
    a_node_port_does_not_answer_at_silent_addresses,
    a_pod_reaches_itself,
    options_are_stepped_over,
    data_of_every_length_keeps_right_checksums,
    what_is_no_services_passes_unchanged,
    replies_through_the_stack_pass_unchanged_before_it,
    a_connection_of_many_packets_keeps_its_backend,
    a_udp_flow_moves_when_its_backend_stops_serving,
);

fn answer(seen: &Frame) -> Frame {
    seen.clone().turned().numbered(tcp::SYN | tcp::ACK, 5000, 1001)
}

fn a_pods_call_and_its_reply_are_translated<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
        let seen = stage.send(program::FROM_POD, &call, PASS);
        let expected = Frame {
            destination: (local::<A>(1).into(), TARGET).into(),
            ..call.clone()
        };
        assert_eq!(seen, expected);
        let reply = answer(&seen);
        let shown = stage.send(program::TO_POD, &reply, PASS);
        assert_eq!(
            shown,
            Frame {
                source: call.destination,
                ..reply
            }
        );
    }
}

fn a_handshake_promotes<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    let promoted = stage.kernel.counted(Counter::FlowPromoted);
    let syn = Frame::syn((pod::<A>(), 40000), (cluster_ip::<A>(), 80));
    let seen = stage.send(program::FROM_POD, &syn, PASS);
    stage.send(program::TO_POD, &answer(&seen), PASS);
    stage.send(
        program::FROM_POD,
        &syn.clone().numbered(tcp::ACK, 1001, 5000),
        PASS,
    );
    assert!(
        stage.flow(FlowTable::Flows, &syn, Direction::Forward).is_none(),
        "a wrong number"
    );
    let acknowledgement = syn.clone().numbered(tcp::ACK, 1001, 5001);
    stage.send(program::FROM_POD, &acknowledgement, PASS);
    for (frame, direction) in [(&syn, Direction::Forward), (&answer(&seen), Direction::Reverse)] {
        assert!(stage.flow(FlowTable::Flows, frame, direction).is_some());
        assert!(stage.flow(FlowTable::Embryos, frame, direction).is_none());
    }
    assert_eq!(stage.kernel.counted(Counter::FlowPromoted), promoted + 1);
}

fn udp_promotes_on_the_second_packet_after_a_reply<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    let call = Frame::udp((pod::<A>(), 40000), (cluster_ip::<A>(), 80));
    let seen = stage.send(program::FROM_POD, &call, PASS);
    stage.send(program::TO_POD, &answer(&seen), PASS);
    assert!(
        stage
            .flow(FlowTable::Embryos, &call, Direction::Forward)
            .is_some()
    );
    stage.send(program::FROM_POD, &call, PASS);
    assert!(stage.flow(FlowTable::Flows, &call, Direction::Forward).is_some());
    assert!(
        stage
            .flow(FlowTable::Embryos, &call, Direction::Forward)
            .is_none()
    );
}

fn a_call_from_outside_reaches_a_local_backend_through_the_stack<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        let seen = stage.send(program::FROM_NETWORK, &call, PASS);
        let expected = Frame {
            destination: (local::<A>(1).into(), TARGET).into(),
            ..call.clone()
        };
        assert_eq!(seen, expected);
        let reply = answer(&seen);
        let shown = stage.send(program::TO_NETWORK, &reply, PASS);
        assert_eq!(
            shown,
            Frame {
                source: call.destination,
                ..reply
            }
        );
    }
}

fn a_call_from_outside_reaches_a_remote_backend_around_the_stack<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
        assert_eq!(seen.source.ip(), node::<A>().into(), "the uplink's own address");
        assert!((SNAT.0..SNAT.0 + SNAT.1).contains(&seen.source.port()));
        let expected = Frame {
            source: seen.source,
            destination: (remote::<A>(1).into(), TARGET).into(),
            hop_limit: 63,
            ..call.clone()
        };
        assert_eq!(seen, expected);
        let reply = answer(&seen);
        let shown = stage.send(program::FROM_NETWORK, &reply, REDIRECT);
        let expected = Frame {
            source: call.destination,
            destination: call.source,
            hop_limit: 63,
            ..reply
        };
        assert_eq!(shown, expected);
        assert_eq!(
            stage.send(program::FROM_NETWORK, &call, REDIRECT),
            seen,
            "the flow stays"
        );
    }
}

fn a_node_port_answers_at_every_node_address<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for address in [node(), A::of(6, 1)] {
        for (from, source) in [(program::FROM_NETWORK, client::<A>()), (program::FROM_POD, pod())] {
            for call in calls((source, 40000), (address, NODE_PORT)) {
                let seen = stage.send(from, &call, PASS);
                assert_eq!(seen.destination.ip(), local::<A>(1).into());
            }
        }
    }
    let elsewhere = Frame::syn((client::<A>(), 1), (pod::<A>(), NODE_PORT));
    assert_eq!(stage.send(program::FROM_NETWORK, &elsewhere, PASS), elsewhere);
}

fn a_node_port_does_not_answer_at_silent_addresses<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    stage.host.silent_addresses.insert(A::of(6, 1));
    stage.install();
    for (from, source) in [(program::FROM_NETWORK, client::<A>()), (program::FROM_POD, pod())] {
        for call in calls((source, 40000), (A::of(6, 1), NODE_PORT)) {
            assert_eq!(stage.send(from, &call, PASS), call);
        }
        for call in calls((source, 40000), (node(), NODE_PORT)) {
            let seen = stage.send(from, &call, PASS);
            assert_eq!(seen.destination.ip(), local::<A>(1).into());
        }
    }
}

fn a_pod_reaches_itself<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for call in calls((local::<A>(1), 40000), (cluster_ip(), 80)) {
        let seen = stage.send(program::FROM_POD, &call, REDIRECT);
        let expected = Frame {
            link: [call.link[1], call.link[0]],
            source: (node::<A>().into(), seen.source.port()).into(),
            destination: (local::<A>(1).into(), TARGET).into(),
            hop_limit: 63,
            ..call.clone()
        };
        assert_eq!(seen, expected);
        let reply = Frame {
            link: call.link,
            ..answer(&seen)
        };
        let shown = stage.send(program::FROM_POD, &reply, REDIRECT);
        assert_eq!((shown.source, shown.destination), (call.destination, call.source));
        assert_eq!(shown.link, [call.link[1], call.link[0]]);
    }
}

fn options_are_stepped_over<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for options in 0..=10 {
        for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
            let call = Frame { options, ..call };
            let seen = stage.send(program::FROM_POD, &call, PASS);
            let expected = Frame {
                destination: (local::<A>(1).into(), TARGET).into(),
                ..call.clone()
            };
            assert_eq!(seen, expected);
            let reply = answer(&seen);
            let shown = stage.send(program::TO_POD, &reply, PASS);
            assert_eq!(
                shown,
                Frame {
                    source: call.destination,
                    ..reply
                }
            );
        }
    }
}

/// Odd lengths, and contents whose sums fold to 0 and 0xffff.
fn data_of_every_length_keeps_right_checksums<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    for length in (0..300).chain([1000, 1399]) {
        for fill in [0, 0xff, length as u8] {
            for call in calls((client::<A>(), 40000 + length % 50), (balancer(), 80)) {
                let call = Frame {
                    payload: vec![fill; usize::from(length)],
                    ..call
                };
                let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
                assert_eq!(seen.payload, call.payload);
            }
        }
    }
}

const PROGRAMS: [&str; 4] = [
    program::FROM_POD,
    program::TO_POD,
    program::FROM_NETWORK,
    program::TO_NETWORK,
];

fn what_is_no_services_passes_unchanged<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1), remote(1)]);
    let counters = stage.kernel.counters();
    for name in PROGRAMS {
        for call in calls((pod::<A>(), 40000), (client(), 80))
            .into_iter()
            .chain(calls((client::<A>(), 80), (pod(), 45001)))
            .chain(calls((pod::<A>(), 1), (cluster_ip(), 81)))
        {
            let output = stage.run(name, &call.bytes());
            assert_eq!(
                (output.verdict, &output.packet),
                (PASS, &call.bytes()),
                "{name} {call:?}"
            );
        }
    }
    assert_eq!(stage.kernel.counters(), counters);
    assert!(stage.kernel.flows::<A>().is_empty());
}

fn replies_through_the_stack_pass_unchanged_before_it<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for call in calls((pod::<A>(), SNAT.0 + 1), (cluster_ip(), 80)) {
        let seen = stage.send(program::FROM_POD, &call, PASS);
        let reply = answer(&seen);
        assert_eq!(stage.send(program::FROM_POD, &reply, PASS), reply);
        assert_eq!(stage.send(program::TO_POD, &reply, PASS).source, call.destination);
    }
}

fn a_connection_of_many_packets_keeps_its_backend<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1), local(2), remote(1), remote(2)]);
    for port in 1000..1040 {
        for call in calls((client::<A>(), port), (balancer(), 80)) {
            let verdict = stage.run(program::FROM_NETWORK, &call.bytes()).verdict;
            let seen = stage.send(program::FROM_NETWORK, &call, verdict);
            let data = Frame {
                payload: b"data".to_vec(),
                ..call.clone().numbered(tcp::ACK, 1001, 5001)
            };
            for _ in 0..5 {
                let next = stage.send(program::FROM_NETWORK, &data, verdict);
                assert_eq!((next.source, next.destination), (seen.source, seen.destination));
            }
        }
    }
}

fn a_udp_flow_moves_when_its_backend_stops_serving<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1), local(2)]);
    let rebalanced = stage.kernel.counted(Counter::UdpRebalanced);
    let call = Frame::udp((pod::<A>(), 40000), (cluster_ip::<A>(), 80));
    let seen = stage.send(program::FROM_POD, &call, PASS);
    let (first, other) = if seen.destination.ip() == local::<A>(1).into() {
        (1, local::<A>(2))
    } else {
        (2, local(1))
    };
    stage.kill(first);
    // The dead backend may be drawn thrice: then the packet is dropped, and the next one tries again.
    let moved = loop {
        let output = stage.run(program::FROM_POD, &call.bytes());
        if output.verdict == PASS {
            break Frame::read(&output.packet);
        }
    };
    assert_eq!(moved.destination.ip(), other.into());
    assert_eq!(stage.kernel.counted(Counter::UdpRebalanced), rebalanced + 1);
}

#[test]
fn a_datagram_without_checksum_stays_without_one() {
    let stage = Stage::<V4>::new(&[remote(1)]);
    let call = Frame {
        transport: Transport::Udp(false),
        ..Frame::udp((client::<V4>(), 40000), (balancer::<V4>(), 80))
    };
    let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
    assert_eq!(seen.transport, Transport::Udp(false));
    assert_eq!(seen.destination.ip(), std::net::IpAddr::from(remote::<V4>(1)));
}

/// A computed checksum of 0 is written as 0xffff: 0 would say that there is none.
#[test]
fn a_checksum_that_comes_out_as_zero_is_written_as_all_ones() {
    let stage = Stage::<V4>::new(&[local(1)]);
    let call = Frame::udp((pod::<V4>(), 40000), (cluster_ip::<V4>(), 80));
    let with = |word: u16| Frame {
        payload: word.to_be_bytes().to_vec(),
        ..call.clone()
    };
    let seen = stage.send(program::FROM_POD, &with(0), PASS).bytes();
    let checksum = u16::from_be_bytes([seen[40], seen[41]]);
    // A word that is larger by the checksum makes it 0.
    let output = stage.run(program::FROM_POD, &with(checksum).bytes());
    assert_eq!(output.packet[40..42], [0xff, 0xff]);
    Frame::read(&output.packet);
}
