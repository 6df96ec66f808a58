//! What the programs refuse: the answers that they send, and that every drop counts its reason.

use std::net::IpAddr;

use lab::in_both_families;
use lab::packet::pieces::split;
use lab::packet::stage::*;
use lab::packet::{Context, Error, Frame, Kin, PASS, REDIRECT, SHOT, Transport};
use proxy_common::layout::{Counter, Direction, Family, FlowTable, Port, V4, When, names::program, protocol};
use proxy_common::rules::headers::tcp;

in_both_families!(
    a_syn_without_an_endpoint_is_reset,
    a_reset_acknowledges_all_of_the_segment,
    a_datagram_or_an_init_without_an_endpoint_is_answered_with_port_unreachable,
    icmp_errors_are_limited_but_those_of_path_mtu_and_resets,
    a_later_fragment_without_an_endpoint_is_dropped_in_silence,
    no_local_endpoint_drops_in_silence,
    without_endpoints_packets_pass_and_count_if_asked,
    dead_backends_drop,
    exhausted_source_ports_drop,
    no_route_drops,
    no_source_address_drops,
    a_packet_too_big_for_the_next_hop_is_answered,
    segments_that_fit_are_not_too_big,
    the_last_hop_is_answered,
    a_hairpin_at_the_last_hop_is_answered,
    an_untranslated_cluster_ip_is_refused_towards_its_sender,
    a_packet_to_a_load_balancer_does_not_turn_back,
    a_malformed_packet_to_a_frontend_is_dropped,
    an_error_quotes_as_much_as_every_host_takes,
    an_answer_keeps_the_nics_sum_right,
    a_segment_without_flow_passes_and_counts,
);

/// Checks that exactly these events are counted, so often, while the action runs.
#[track_caller]
fn counted<A: Kin, T>(
    stage: &mut Stage<A>,
    events: &[(Counter, u64)],
    action: impl FnOnce(&mut Stage<A>) -> T,
) -> T {
    let before = stage.kernel.counters();
    let value = action(stage);
    let after = stage.kernel.counters();
    for counter in Counter::ALL {
        let index = *counter as usize;
        let expected = events
            .iter()
            .find(|(event, _)| event == counter)
            .map_or(0, |(_, times)| *times);
        assert_eq!(after[index] - before[index], expected, "{}", counter.name());
    }
    value
}

#[track_caller]
fn is_dropped<A: Kin>(stage: &mut Stage<A>, name: &str, frame: &Frame, reason: Counter) {
    counted(stage, &[(reason, 1)], |stage| {
        assert_eq!(stage.run(name, &frame.bytes()).verdict, SHOT, "{name} {frame:?}");
    });
}

/// Drops of a new flow count the collisions before as well.
#[track_caller]
fn is_dropped_after_collisions<A: Kin>(
    stage: &mut Stage<A>,
    frame: &Frame,
    reason: Counter,
    collisions: u64,
) {
    counted(
        stage,
        &[(reason, 1), (Counter::ReverseCollision, collisions)],
        |stage| {
            assert_eq!(stage.run(program::FROM_NETWORK, &frame.bytes()).verdict, SHOT);
        },
    );
}

const REFUSED: [(Counter, u64); 2] = [(Counter::NoEndpoint, 1), (Counter::ErrorSent, 1)];

fn flip(link: [[u8; 6]; 2]) -> [[u8; 6]; 2] {
    [link[1], link[0]]
}

fn a_syn_without_an_endpoint_is_reset<A: Kin>() {
    let mut stage = Stage::<A>::new(&[]);
    stage.empty_lists(When::Reject);
    for (name, source) in [(program::FROM_POD, pod::<A>()), (program::FROM_NETWORK, client())] {
        for (options, payload) in [(0, 0), (3, 0), (0, 100)] {
            let syn = Frame {
                options,
                payload: vec![7; payload],
                ..Frame::syn((source, 40000), (balancer::<A>(), 80))
            };
            let reset = counted(&mut stage, &REFUSED, |stage| stage.send(name, &syn, REDIRECT));
            let expected = Frame {
                link: flip(syn.link),
                source: syn.destination,
                destination: syn.source,
                transport: Transport::Tcp(tcp::RST | tcp::ACK, 0, 1001 + payload as u32),
                options: 0,
                payload: Vec::new(),
                ..syn
            };
            assert_eq!(reset, expected);
        }
    }
    assert!(stage.kernel.flows::<A>().is_empty());
}

fn a_reset_acknowledges_all_of_the_segment<A: Kin>() {
    let mut stage = Stage::<A>::new(&[]);
    stage.empty_lists(When::Reject);
    for sequence in [0, u32::MAX, 1 << 31] {
        let syn = Frame::syn((pod::<A>(), 40000), (cluster_ip::<A>(), 80)).numbered(tcp::SYN, sequence, 99);
        let reset = stage.send(program::FROM_POD, &syn, REDIRECT);
        let Transport::Tcp(flags, number, acknowledgement) = reset.transport else {
            panic!("{reset:?}");
        };
        assert_eq!((flags, number), (tcp::RST | tcp::ACK, 0));
        assert_eq!(acknowledgement, sequence.wrapping_add(1));
    }
}

/// (port unreachable, too big, time exceeded)
fn kinds<A: Kin>() -> [(u8, u8); 3] {
    match A::FAMILY {
        Family::V4 => [(3, 3), (3, 4), (11, 0)],
        Family::V6 => [(1, 4), (2, 0), (3, 0)],
    }
}

#[track_caller]
fn is_answered(bytes: &[u8], call: &Frame, kind: (u8, u8), word: u32) {
    let error = Error::read(bytes);
    assert_eq!(error.kind, kind);
    assert_eq!(error.word, word);
    assert_eq!(error.link, flip(call.link));
    assert_eq!(
        (error.source, error.destination),
        (call.destination.ip(), call.source.ip())
    );
    let original = &call.bytes()[14..];
    // As much as every host takes, in whole words.
    let most = if call.source.is_ipv4() {
        576 - 28
    } else {
        1280 - 48
    };
    assert_eq!(error.quoted.len(), most.min(original.len() & !3));
    assert_eq!(error.quoted, original[..error.quoted.len()]);
}

/// Also with options, behind which the ports are.
fn an_error_quotes_as_much_as_every_host_takes<A: Kin>() {
    let mut stage = Stage::<A>::new(&[]);
    stage.empty_lists(When::Reject);
    for options in [0, 1, 10] {
        for length in [
            0, 1, 2, 3, 4, 63, 480, 484, 500, 520, 548, 1000, 1190, 1232, 1400, 3000,
        ] {
            let call = Frame {
                payload: (0..length).map(|n| n as u8).collect(),
                options,
                ..Frame::udp((client::<A>(), 40000), (node::<A>(), NODE_PORT))
            };
            let output = stage.run(program::FROM_NETWORK, &call.bytes());
            assert_eq!(output.verdict, REDIRECT);
            is_answered(&output.packet, &call, kinds::<A>()[0], 0);
        }
    }
}

/// The kernel forgets a NIC's sum when a packet's length changes. It does not at one length, where what is cut off in
/// front is as long as what the answer is shorter.
fn an_answer_keeps_the_nics_sum_right<A: Kin>() {
    let mut stage = Stage::<A>::new(&[]);
    stage.empty_lists(When::Reject);
    let context = Context {
        interface: stage.wire.uplink,
        is_summed: true,
        ..Context::default()
    };
    let (of_segment, of_datagram) = match A::FAMILY {
        Family::V4 => (42, 576 + 42 - 28),
        Family::V6 => (62, 1280 + 62 - 48),
    };
    let [syn, datagram, _] = calls((client::<A>(), 40000), (node(), NODE_PORT));
    let with = |length, call| Frame {
        payload: vec![7; length],
        ..call
    };
    let syn = with(of_segment, syn);
    let output = stage.run_in(program::FROM_NETWORK, &syn.bytes(), context);
    assert_eq!(output.verdict, REDIRECT);
    let reset = Frame::read(&output.packet);
    assert_eq!(
        reset.transport,
        Transport::Tcp(tcp::RST | tcp::ACK, 0, 1001 + of_segment as u32)
    );
    let datagram = with(of_datagram, datagram);
    let output = stage.run_in(program::FROM_NETWORK, &datagram.bytes(), context);
    assert_eq!(output.verdict, REDIRECT);
    is_answered(&output.packet, &datagram, kinds::<A>()[0], 0);
}

/// For SCTP too, as netfilter's `reject` has it: an ABORT is never sent.
fn a_datagram_or_an_init_without_an_endpoint_is_answered_with_port_unreachable<A: Kin>() {
    let mut stage = Stage::<A>::new(&[]);
    stage.empty_lists(When::Reject);
    for (name, source) in [(program::FROM_POD, pod::<A>()), (program::FROM_NETWORK, client())] {
        for length in [0, 1, 9, 1000] {
            for make in [Frame::udp, Frame::init] {
                let call = Frame {
                    payload: vec![7; length],
                    ..make((source, 40000), (node::<A>(), NODE_PORT))
                };
                let output = counted(&mut stage, &REFUSED, |stage| stage.run(name, &call.bytes()));
                assert_eq!(output.verdict, REDIRECT);
                is_answered(&output.packet, &call, kinds::<A>()[0], 0);
            }
        }
    }
}

/// With empty buckets, that fill again in a year.
fn icmp_errors_are_limited_but_those_of_path_mtu_and_resets<A: Kin>() {
    const YEAR: u64 = 365 * 86_400 * 1_000_000_000;
    let datagram = Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80));

    let mut stage = Stage::<A>::new(&[]);
    stage.empty_lists(When::Reject);
    stage.kernel.set_error_limit(YEAR);
    let events = [(Counter::NoEndpoint, 1), (Counter::ErrorLimited, 1)];
    let output = counted(&mut stage, &events, |stage| {
        stage.run(program::FROM_NETWORK, &datagram.bytes())
    });
    assert_eq!(output.verdict, SHOT);
    let syn = Frame::syn((client::<A>(), 40000), (balancer::<A>(), 80));
    counted(&mut stage, &REFUSED, |stage| {
        stage.send(program::FROM_NETWORK, &syn, REDIRECT)
    });
    // Stages follow one another.
    drop(stage);

    let mut stage = Stage::<A>::new(&[A::of(6, 2)]);
    stage.kernel.set_error_limit(YEAR);
    let last = Frame {
        hop_limit: 1,
        ..datagram.clone()
    };
    let events = [
        (Counter::HopLimit, 1),
        (Counter::ErrorLimited, 1),
        (Counter::FlowCreated, 1),
    ];
    let output = counted(&mut stage, &events, |stage| {
        stage.run(program::FROM_NETWORK, &last.bytes())
    });
    assert_eq!(output.verdict, SHOT);
    let big = Frame {
        payload: vec![7; 1300],
        ..datagram
    };
    let events = [(Counter::TooBig, 1), (Counter::ErrorSent, 1)];
    let output = counted(&mut stage, &events, |stage| {
        stage.run(program::FROM_NETWORK, &big.bytes())
    });
    assert_eq!(output.verdict, REDIRECT);
    is_answered(&output.packet, &big, kinds::<A>()[1], 1280);
}

fn a_later_fragment_without_an_endpoint_is_dropped_in_silence<A: Kin>() {
    let mut stage = Stage::<A>::new(&[]);
    stage.empty_lists(When::Reject);
    let datagram = |destination: A| Frame {
        payload: vec![7; 100],
        ..Frame::udp((pod::<A>(), 40000), (destination, 80))
    };
    let pieces = split(&datagram(cluster_ip()), 40, 7);
    let first = counted(&mut stage, &REFUSED, |stage| {
        stage.run(program::FROM_POD, &pieces[0])
    });
    assert_eq!(first.verdict, REDIRECT);
    let later = counted(&mut stage, &REFUSED[..1], |stage| {
        stage.run(program::FROM_POD, &pieces[1])
    });
    assert_eq!(later.verdict, SHOT);
    let [_, unknown_later] = split(&datagram(balancer()), 40, 7);
    let unknown = [(Counter::FragmentWithoutFirst, 1)];
    let lost = counted(&mut stage, &unknown, |stage| {
        stage.run(program::FROM_POD, &unknown_later)
    });
    assert_eq!(lost.verdict, SHOT);
}

fn no_local_endpoint_drops_in_silence<A: Kin>() {
    let mut stage = Stage::<A>::new(&[]);
    stage.empty_lists(When::Drop);
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        is_dropped(&mut stage, program::FROM_NETWORK, &call, Counter::NoLocalEndpoint);
    }
}

fn without_endpoints_packets_pass_and_count_if_asked<A: Kin>() {
    let mut stage = Stage::<A>::new(&[]);
    stage.empty_lists(When::Pass);
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        for program in [program::FROM_NETWORK, program::FROM_POD] {
            let passed = counted(&mut stage, &[(Counter::NoEndpointPassed, 1)], |stage| {
                stage.send(program, &call, PASS)
            });
            assert_eq!(passed, call);
        }
    }
}

fn dead_backends_drop<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1), local(2)]);
    stage.kill(1);
    stage.kill(2);
    for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
        is_dropped(&mut stage, program::FROM_POD, &call, Counter::NoEndpoint);
    }
}

fn exhausted_source_ports_drop<A: Kin>() {
    let mut stage = Stage::<A>::new(&[remote(1)]);
    stage.host.config.snat_count = 1;
    stage.install();
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
        assert_eq!(seen.source.port(), SNAT.0);
        let client = |port| Frame {
            source: (call.source.ip(), port).into(),
            ..call.clone()
        };
        let other = client(40003);
        if let Transport::Udp(_) = call.transport {
            // An answer may be on its way, and has no number that tells whose it is.
            is_dropped_after_collisions(&mut stage, &other, Counter::SourcePortsExhausted, 11);
            stage.send(program::FROM_NETWORK, &seen.clone().turned(), REDIRECT);
        }
        // Its client has not answered yet: another gets the port.
        let counts = [
            (Counter::SourcePortReclaimed, 1),
            (Counter::FlowCreated, 1),
            (Counter::ReverseCollision, 11),
        ];
        counted(&mut stage, &counts, |stage| {
            let seen = stage.send(program::FROM_NETWORK, &other, REDIRECT);
            assert_eq!(seen.source.port(), SNAT.0);
        });
        assert!(
            stage
                .flow(FlowTable::Embryos, &call, Direction::Forward)
                .is_none()
        );
        let answer = seen.turned().numbered(tcp::SYN | tcp::ACK, 5000, 1001);
        let shown = stage.send(program::FROM_NETWORK, &answer, REDIRECT);
        assert_eq!(shown.destination, other.source);
        let proof = if let Transport::Tcp(..) = call.transport {
            5001
        } else {
            5000
        };
        let proof = other.clone().numbered(tcp::ACK, 1001, proof);
        stage.send(program::FROM_NETWORK, &proof, REDIRECT);
        let second = client(40001);
        is_dropped_after_collisions(&mut stage, &second, Counter::SourcePortsExhausted, 11);
    }
    // Without any port nothing is even tried.
    stage.host.config.snat_count = 0;
    stage.install();
    for call in calls((client::<A>(), 40002), (balancer(), 80)) {
        is_dropped(
            &mut stage,
            program::FROM_NETWORK,
            &call,
            Counter::SourcePortsExhausted,
        );
    }
}

fn no_route_drops<A: Kin>() {
    let mut stage = Stage::<A>::new(&[A::of(9, 1)]);
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        is_dropped(&mut stage, program::FROM_NETWORK, &call, Counter::NoRoute);
    }
}

fn no_source_address_drops<A: Kin>() {
    let mut stage = Stage::<A>::new(&[remote(1)]);
    stage.kernel.reset();
    stage.install_without_interfaces();
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        is_dropped(&mut stage, program::FROM_NETWORK, &call, Counter::NoSourceAddress);
    }
}

/// A backend behind an interface with an MTU of 1280.
fn a_packet_too_big_for_the_next_hop_is_answered<A: Kin>() {
    let mut stage = Stage::<A>::new(&[A::of(6, 2)]);
    let header = match A::FAMILY {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        let transport = call.bytes().len() - call.payload.len() - 14 - header;
        let with = |length| Frame {
            payload: vec![7; length - header - transport],
            ..call.clone()
        };
        let fits = stage.send(program::FROM_NETWORK, &with(1280), REDIRECT);
        assert_eq!(
            fits.source.ip(),
            A::of(6, 1).into(),
            "the other interface's own address"
        );
        let big = with(1281);
        let events = [(Counter::TooBig, 1), (Counter::ErrorSent, 1)];
        let output = counted(&mut stage, &events, |stage| {
            stage.run(program::FROM_NETWORK, &big.bytes())
        });
        assert_eq!(output.verdict, REDIRECT);
        is_answered(&output.packet, &big, kinds::<A>()[1], 1280);
    }
}

fn segments_that_fit_are_not_too_big<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    let call = Frame::syn((client::<A>(), 40000), (balancer::<A>(), 80));
    stage.send(program::FROM_NETWORK, &call, REDIRECT);
    let data = Frame {
        payload: vec![7; 3000],
        ..call.numbered(tcp::ACK, 1001, 5001)
    };
    let headers = (data.bytes().len() - 3000 - 14) as u32;
    for (segment, fits) in [(1500 - headers, true), (1501 - headers, false), (100, true)] {
        let context = Context {
            interface: stage.wire.uplink,
            segment,
            ..Context::default()
        };
        let output = stage.run_in(program::FROM_NETWORK, &data.bytes(), context);
        assert_eq!(output.verdict, REDIRECT);
        if fits {
            assert_eq!(Frame::read(&output.packet).payload, data.payload);
        } else {
            is_answered(&output.packet, &data, kinds::<A>()[1], 1500);
        }
    }
}

fn the_last_hop_is_answered<A: Kin>() {
    let mut stage = Stage::<A>::new(&[remote(1)]);
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        for (hop_limit, goes_on) in [(2, true), (1, false), (0, false)] {
            let call = Frame {
                hop_limit,
                ..call.clone()
            };
            if goes_on {
                assert_eq!(stage.send(program::FROM_NETWORK, &call, REDIRECT).hop_limit, 1);
                continue;
            }
            let events = [(Counter::HopLimit, 1), (Counter::ErrorSent, 1)];
            let output = counted(&mut stage, &events, |stage| {
                stage.run(program::FROM_NETWORK, &call.bytes())
            });
            assert_eq!(output.verdict, REDIRECT);
            is_answered(&output.packet, &call, kinds::<A>()[2], 0);
        }
    }
}

fn a_hairpin_at_the_last_hop_is_answered<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    for call in calls((local::<A>(1), 40000), (cluster_ip(), 80)) {
        let call = Frame { hop_limit: 1, ..call };
        let events = [
            (Counter::HopLimit, 1),
            (Counter::ErrorSent, 1),
            (Counter::FlowCreated, 1),
        ];
        let output = counted(&mut stage, &events, |stage| {
            stage.run(program::FROM_POD, &call.bytes())
        });
        assert_eq!(output.verdict, REDIRECT);
        is_answered(&output.packet, &call, kinds::<A>()[2], 0);
    }
}

fn an_untranslated_cluster_ip_is_refused_towards_its_sender<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    let events = [(Counter::HostUntranslated, 1), (Counter::ErrorSent, 1)];
    let [syn, datagram, init] = calls((node::<A>(), 33000), (cluster_ip(), 80));
    let reset = counted(&mut stage, &events, |stage| {
        stage.send(program::TO_NETWORK, &syn, REDIRECT)
    });
    assert_eq!(reset.transport, Transport::Tcp(tcp::RST | tcp::ACK, 0, 1001));
    assert_eq!((reset.source, reset.destination), (syn.destination, syn.source));
    for call in [datagram, init] {
        let output = counted(&mut stage, &events, |stage| {
            stage.run(program::TO_NETWORK, &call.bytes())
        });
        assert_eq!(output.verdict, REDIRECT);
        is_answered(&output.packet, &call, kinds::<A>()[0], 0);
    }
    // A segment that acknowledges is reset at the number it acknowledges; a reset is never answered.
    let segment = syn.clone().numbered(tcp::ACK, 1001, 777);
    let reset = stage.send(program::TO_NETWORK, &segment, REDIRECT);
    assert_eq!(reset.transport, Transport::Tcp(tcp::RST, 777, 0));
    let reset = syn.numbered(tcp::RST, 1001, 0);
    is_dropped(&mut stage, program::TO_NETWORK, &reset, Counter::HostUntranslated);
}

fn a_packet_to_a_load_balancer_does_not_turn_back<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    let segment = Frame::tcp((client::<A>(), 40000), (balancer::<A>(), 80), tcp::ACK);
    assert_eq!(stage.send(program::TO_NETWORK, &segment, PASS), segment);
    let context = Context {
        interface: stage.wire.uplink,
        came_in_by: stage.wire.uplink,
        ..Context::default()
    };
    counted(&mut stage, &[(Counter::TurnedBack, 1)], |stage| {
        assert_eq!(
            stage
                .run_in(program::TO_NETWORK, &segment.bytes(), context)
                .verdict,
            SHOT
        );
    });
}

fn a_malformed_packet_to_a_frontend_is_dropped<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
        let mut bytes = call.bytes();
        bytes.pop();
        counted(&mut stage, &[(Counter::Malformed, 1)], |stage| {
            assert_eq!(stage.run(program::FROM_POD, &bytes).verdict, SHOT);
        });
    }
}

fn a_segment_without_flow_passes_and_counts<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    let segment = Frame::tcp((pod::<A>(), 40000), (cluster_ip::<A>(), 80), tcp::ACK);
    counted(&mut stage, &[(Counter::TcpWithoutFlow, 1)], |stage| {
        assert_eq!(stage.send(program::FROM_POD, &segment, PASS), segment);
    });
    let reply = Frame::tcp((local::<A>(1), TARGET), (pod::<A>(), 40000), tcp::ACK);
    counted(&mut stage, &[(Counter::ReverseWithoutFlow, 1)], |stage| {
        assert_eq!(stage.send(program::TO_POD, &reply, PASS), reply);
    });
}

#[test]
fn a_port_of_the_range_that_netfilter_uses_is_entered() {
    let mut stage = Stage::<V4>::new(&[remote(1)]);
    stage.host.config.snat_count = 1;
    stage.install();
    let masqueraded = Frame::udp((node::<V4>(), SNAT.0), (remote::<V4>(1), TARGET));
    counted(&mut stage, &[(Counter::ForeignPort, 1)], |stage| {
        assert_eq!(stage.send(program::TO_NETWORK, &masqueraded, PASS), masqueraded);
        assert_eq!(stage.send(program::TO_NETWORK, &masqueraded, PASS), masqueraded);
    });
    let reply = masqueraded.turned();
    assert_eq!(stage.send(program::FROM_NETWORK, &reply, PASS), reply);
    let call = Frame::udp((client::<V4>(), 1), (balancer::<V4>(), 80));
    is_dropped_after_collisions(&mut stage, &call, Counter::SourcePortsExhausted, 11);
    let entries = stage.kernel.flows::<V4>();
    assert_eq!(entries.len(), 1);
    let (_, key, _) = entries[0];
    assert_eq!(
        (key.source_port, key.protocol),
        (Port::new(TARGET), protocol::UDP)
    );
    assert_eq!(IpAddr::from(key.source), IpAddr::from(remote::<V4>(1)));
}
