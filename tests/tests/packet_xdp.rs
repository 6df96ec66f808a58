//! XDP of an uplink: what it sends on is what TC would have sent on, and all else passes as it came, for TC to decide by the
//! same flow.

use lab::in_both_families;
use lab::packet::pieces::split;
use lab::packet::stage::*;
use lab::packet::{Context, Error, Frame, Kin, PASS, REDIRECT, Transport, XDP_PASS, XDP_REDIRECT, XDP_TX};
use proxy_common::layout::{
    Counter, Direction, Family, FlowTable, UPLINK_SENDS, UPLINK_TAKES, UPLINK_TURNS, When, names::program,
};
use proxy_common::rules::headers::tcp;

in_both_families!(
    a_call_to_a_remote_backend_and_its_reply_are_sent_on,
    a_handshake_promotes,
    data_of_every_length_keeps_right_checksums,
    xdp_writes_what_tc_writes,
    a_local_backend_chosen_by_xdp_is_not_chosen_again,
    what_is_not_for_xdp_passes_as_it_came,
    what_passes_is_counted_once,
    a_frame_that_does_not_fit_passes,
    a_frame_in_several_buffers_is_sent_on,
    an_unknown_neighbour_is_left_to_tc,
    a_packet_a_second_goes_through_the_stack,
    a_partial_checksum_passes,
    another_uplink_is_sent_by_only_if_that_arrives,
    frames_for_others_and_uplinks_without_xdp_pass,
);

fn backends_way<A: Kin>() -> [A; 1] {
    [remote(1)]
}

/// The calls that XDP takes.
fn taken<A: Kin>(source: (A, u16), destination: (A, u16)) -> [Frame; 2] {
    let [syn, datagram, _] = calls(source, destination);
    [syn, datagram]
}

/// From us to the neighbour.
fn turned_link(frame: &Frame) -> [[u8; 6]; 2] {
    [frame.link[1], frame.link[0]]
}

#[track_caller]
fn sent<A: Kin>(stage: &Stage<A>, frame: &Frame, verdict: i32) -> Frame {
    let output = stage.run_xdp(&frame.bytes());
    assert_eq!(output.verdict, verdict, "{frame:?}");
    Frame::read(&output.packet)
}

#[track_caller]
fn passes<A: Kin>(stage: &Stage<A>, what: &str, bytes: &[u8]) {
    let output = stage.run_xdp(bytes);
    assert_eq!(
        (output.verdict, output.packet.as_slice()),
        (XDP_PASS, bytes),
        "{what}"
    );
}

fn answer(seen: &Frame) -> Frame {
    let link = turned_link(seen);
    let answer = seen.clone().turned().numbered(tcp::SYN | tcp::ACK, 5000, 1001);
    Frame { link, ..answer }
}

fn a_call_to_a_remote_backend_and_its_reply_are_sent_on<A: Kin>() {
    let stage = Stage::<A>::with_neighbours(&backends_way());
    for destination in [
        (balancer::<A>(), 80),
        (node(), NODE_PORT),
        (A::of(6, 1), NODE_PORT),
    ] {
        for call in taken((client::<A>(), 40000), destination) {
            let seen = sent(&stage, &call, XDP_TX);
            assert_eq!(seen.source.ip(), node::<A>().into(), "the uplink's own address");
            assert!((SNAT.0..SNAT.0 + SNAT.1).contains(&seen.source.port()));
            let expected = Frame {
                link: turned_link(&call),
                source: seen.source,
                destination: (remote::<A>(1).into(), TARGET).into(),
                hop_limit: 63,
                ..call.clone()
            };
            assert_eq!(seen, expected);
            let reply = answer(&seen);
            let expected = Frame {
                link: turned_link(&reply),
                source: call.destination,
                destination: call.source,
                hop_limit: 63,
                ..reply.clone()
            };
            assert_eq!(sent(&stage, &reply, XDP_TX), expected);
            assert_eq!(sent(&stage, &call, XDP_TX), seen, "the flow stays");
        }
    }
}

fn a_handshake_promotes<A: Kin>() {
    let mut stage = Stage::<A>::with_neighbours(&backends_way());
    let counted = stage.kernel.counters();
    let syn = Frame::syn((client::<A>(), 40000), (balancer::<A>(), 80));
    let seen = sent(&stage, &syn, XDP_TX);
    sent(&stage, &answer(&seen), XDP_TX);
    sent(&stage, &syn.clone().numbered(tcp::ACK, 1001, 5001), XDP_TX);
    for (frame, direction) in [(&syn, Direction::Forward), (&answer(&seen), Direction::Reverse)] {
        assert!(stage.flow(FlowTable::Flows, frame, direction).is_some());
        assert!(stage.flow(FlowTable::Embryos, frame, direction).is_none());
    }
    let counts = Counter::ALL
        .iter()
        .zip(stage.kernel.counters().into_iter().zip(counted));
    let counts: Vec<_> = counts
        .filter(|(_, (now, then))| now != then)
        .map(|(counter, (now, then))| (*counter, now - then))
        .collect();
    assert_eq!(
        counts,
        [
            (Counter::FlowCreated, 1),
            (Counter::FlowPromoted, 1),
            (Counter::XdpForwarded, 3)
        ]
    );
}

fn data_of_every_length_keeps_right_checksums<A: Kin>() {
    let stage = Stage::<A>::with_neighbours(&backends_way());
    for call in taken((client::<A>(), 40000), (balancer::<A>(), 80)) {
        for length in (0..70).chain([1399, 1400]) {
            let frame = Frame {
                payload: (0..length).map(|n| (n * 7) as u8).collect(),
                ..call.clone()
            };
            // Reading it takes all its checksums anew.
            assert_eq!(sent(&stage, &frame, XDP_TX).payload, frame.payload);
        }
    }
}

fn xdp_writes_what_tc_writes<A: Kin>() {
    let stage = Stage::<A>::with_neighbours(&backends_way());
    let has_sum = if A::FAMILY == Family::V4 {
        vec![true, false]
    } else {
        vec![true]
    };
    for port in 40_000..40_050 {
        let [syn, datagram] = taken((client::<A>(), port), (balancer::<A>(), 80));
        let bare = has_sum.iter().map(|has_sum| Frame {
            transport: Transport::Udp(*has_sum),
            ..datagram.clone()
        });
        for call in bare.chain([syn]) {
            let seen = sent(&stage, &call, XDP_TX);
            let by_tc = stage.send(program::FROM_NETWORK, &call, REDIRECT);
            assert_eq!(
                Frame {
                    link: call.link,
                    ..seen.clone()
                },
                by_tc
            );
            let output = stage.run_xdp(&call.bytes());
            let plain = stage
                .kernel
                .run_xdp(program::XDP_UPLINK, &call.bytes(), stage.wire.uplink);
            let plain = plain.unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(plain, output, "for kernels without frames in several buffers");
        }
    }
}

/// Of two backends each must get half. Were the local one's packets balanced again by TC, it would get a quarter.
fn a_local_backend_chosen_by_xdp_is_not_chosen_again<A: Kin>() {
    const CALLS: u16 = 1000;
    let stage = Stage::<A>::with_neighbours(&[local(1), remote(1)]);
    let created = stage.kernel.counted(Counter::FlowCreated);
    let mut at_home = 0_u32;
    for nth in 0..CALLS {
        let [syn, datagram] = taken((client::<A>(), 20_000 + nth), (balancer::<A>(), 80));
        for call in [syn, datagram] {
            let output = stage.run_both(&call.bytes(), context(&stage));
            let seen = Frame::read(&output.packet);
            if seen.destination.ip() == local::<A>(1).mapped() {
                assert_eq!(output.verdict, PASS);
                assert_eq!(seen.source, call.source);
                at_home += 1;
            } else {
                assert_eq!(output.verdict, REDIRECT);
            }
        }
    }
    let all = 2 * u32::from(CALLS);
    assert_eq!(
        stage.kernel.counted(Counter::FlowCreated) - created,
        u64::from(all),
        "one flow a call"
    );
    // Six standard deviations; a quarter is twenty-two away.
    let slack = 6 * (f64::from(all).sqrt() / 2.0) as u32;
    assert!(at_home.abs_diff(all / 2) < slack, "{at_home} of {all}");
}

fn context<A: Kin>(stage: &Stage<A>) -> Context {
    Context {
        interface: stage.wire.uplink,
        ..Context::default()
    }
}

/// And TC then does with it what it does without XDP.
fn what_is_not_for_xdp_passes_as_it_came<A: Kin>() {
    let stage = Stage::<A>::with_neighbours(&backends_way());
    let call = Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80));
    let mut flagless = Vec::new();
    for (what, verdict, bytes) in [
        (
            "SCTP",
            REDIRECT,
            Frame::init((client::<A>(), 1), (balancer::<A>(), 80)).bytes(),
        ),
        (
            "options",
            REDIRECT,
            Frame {
                options: 2,
                ..call.clone()
            }
            .bytes(),
        ),
        (
            "hop limit 1",
            REDIRECT,
            Frame {
                hop_limit: 1,
                ..call.clone()
            }
            .bytes(),
        ),
        (
            "a fragment",
            REDIRECT,
            split(
                &Frame {
                    payload: vec![7; 100],
                    ..call.clone()
                },
                24,
                1,
            )[0]
            .clone(),
        ),
        (
            "a later fragment",
            REDIRECT,
            split(
                &Frame {
                    payload: vec![7; 100],
                    ..call.clone()
                },
                24,
                1,
            )[1]
            .clone(),
        ),
        (
            "no Service's",
            PASS,
            Frame::udp((client::<A>(), 1), (balancer::<A>(), 81)).bytes(),
        ),
    ] {
        passes(&stage, what, &bytes);
        assert_eq!(
            stage.run(program::FROM_NETWORK, &bytes).verdict,
            verdict,
            "{what}"
        );
        flagless.push(bytes);
    }
    // An ICMP error about a packet of a flow.
    let seen = sent(&stage, &call, XDP_TX);
    let error = Error {
        link: call.link,
        source: A::of(1, 9).into(),
        destination: seen.source.ip(),
        hop_limit: 64,
        options: 0,
        kind: (if A::FAMILY == Family::V4 { 3 } else { 1 }, 1),
        word: 0,
        quoted: seen.bytes()[14..].to_vec(),
    };
    passes(&stage, "an ICMP error", &error.bytes());
    assert_eq!(stage.run(program::FROM_NETWORK, &error.bytes()).verdict, REDIRECT);
    // The tag of a VLAN stands before the type.
    let mut tagged = call.bytes();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    passes(&stage, "a VLAN", &tagged);
    let foreign = Frame {
        link: [[2, 0, 0, 0, 0, 7], call.link[1]],
        ..call
    };
    passes(&stage, "another's frame", &foreign.bytes());
    for bytes in flagless {
        for length in 14..bytes.len() {
            passes(&stage, "a frame that was cut", &bytes[..length]);
        }
    }
}

fn what_passes_is_counted_once<A: Kin>() {
    let mut stage = Stage::<A>::with_neighbours(&backends_way());
    let segment = Frame::tcp((client::<A>(), 40000), (balancer::<A>(), 80), tcp::ACK);
    let counted = |stage: &Stage<A>, counter, frame: &Frame| {
        let before = stage.kernel.counted(counter);
        stage.run_both(&frame.bytes(), context(stage));
        stage.kernel.counted(counter) - before
    };
    assert_eq!(counted(&stage, Counter::TcpWithoutFlow, &segment), 1);
    let limited = Frame {
        hop_limit: 1,
        ..Frame::syn((client::<A>(), 40001), (balancer::<A>(), 80))
    };
    assert_eq!(counted(&stage, Counter::FlowCreated, &limited), 1);
    assert_eq!(counted(&stage, Counter::HopLimit, &limited), 1);
    stage.empty_lists(When::Reject);
    let call = Frame::syn((client::<A>(), 40002), (balancer::<A>(), 80));
    assert_eq!(counted(&stage, Counter::NoEndpoint, &call), 1);
    stage.empty_lists(When::Drop);
    assert_eq!(counted(&stage, Counter::NoLocalEndpoint, &call), 1);
}

fn a_frame_that_does_not_fit_passes<A: Kin>() {
    let stage = Stage::<A>::with_neighbours(&backends_way());
    let headers = if A::FAMILY == Family::V4 { 28 } else { 48 };
    for (size, verdict) in [(1500, XDP_TX), (1501, XDP_PASS), (1500, XDP_TX), (3000, XDP_PASS)] {
        let call = Frame {
            payload: vec![7; size - headers],
            ..Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80))
        };
        let output = stage.run_xdp(&call.bytes());
        assert_eq!(output.verdict, verdict, "{size} bytes");
        if verdict == XDP_PASS {
            assert_eq!(output.packet, call.bytes());
        }
    }
}

fn a_frame_in_several_buffers_is_sent_on<A: Kin>() {
    let stage = Stage::<A>::with_neighbours(&backends_way());
    stage.wire.change("link set uplink mtu 9000");
    let call = Frame {
        payload: (0..8900).map(|n| n as u8).collect(),
        ..Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80))
    };
    let seen = sent(&stage, &call, XDP_TX);
    assert_eq!(seen.payload, call.payload);
    assert_eq!(seen.destination.ip(), remote::<A>(1).mapped());
}

fn an_unknown_neighbour_is_left_to_tc<A: Kin>() {
    let stage = Stage::<A>::with_neighbours(&backends_way());
    let stranger = A::of(1, 0x77);
    for call in taken((stranger, 40000), (balancer::<A>(), 80)) {
        let seen = sent(&stage, &call, XDP_TX);
        let reply = answer(&seen);
        passes(&stage, "a reply to nobody known", &reply.bytes());
        assert_eq!(stage.run(program::FROM_NETWORK, &reply.bytes()).verdict, REDIRECT);
    }
    let address = stranger.mapped();
    stage.wire.change(&format!(
        "neighbour add {address} lladdr 02:00:00:00:00:02 dev uplink"
    ));
    let reply = Frame::udp((remote::<A>(1), TARGET), (client::<A>(), 1));
    let call = Frame::udp((stranger, 40000), (balancer::<A>(), 80));
    let seen = sent(&stage, &call, XDP_TX);
    sent(
        &stage,
        &Frame {
            link: reply.link,
            ..answer(&seen)
        },
        XDP_TX,
    );
}

fn a_packet_a_second_goes_through_the_stack<A: Kin>() {
    let mut stage = Stage::<A>::new(&backends_way());
    let call = Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80));
    for _ in 0..2 {
        stage
            .kernel
            .set_neighbours(lab::packet::ticks().wrapping_sub(1001));
        // On each CPU that the test comes by.
        let passed = (0..50)
            .filter(|_| stage.run_xdp(&call.bytes()).verdict == XDP_PASS)
            .count();
        assert!((1..=4).contains(&passed), "{passed}");
    }
}

/// What a sender on this machine leaves for hardware: the sum of the pseudo-header alone.
fn a_partial_checksum_passes<A: Kin>() {
    let stage = Stage::<A>::with_neighbours(&backends_way());
    for call in taken((client::<A>(), 40000), (balancer::<A>(), 80)) {
        let mut bytes = call.bytes();
        let (transport, at) = (
            if A::FAMILY == Family::V4 { 34 } else { 54 },
            match call.transport {
                Transport::Tcp(..) => 16,
                _ => 6,
            },
        );
        let addresses = if A::FAMILY == Family::V4 { 26..34 } else { 22..54 };
        let mut pseudo = bytes[addresses].to_vec();
        pseudo.extend([0, if at == 16 { 6 } else { 17 }]);
        pseudo.extend(((bytes.len() - transport) as u16).to_be_bytes());
        let sum: u32 = pseudo
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
        bytes[transport + at..][..2].copy_from_slice(&sum.to_be_bytes());
        passes(&stage, "a partial checksum", &bytes);
        bytes[transport + at + 1] ^= 1;
        assert_eq!(stage.run_xdp(&bytes).verdict, XDP_TX, "any other checksum");
        if at == 6 {
            // No checksum: over IPv6 that is an error, and the stack's to find.
            bytes[transport + at..][..2].fill(0);
            let verdict = if A::FAMILY == Family::V4 { XDP_TX } else { XDP_PASS };
            let output = stage.run_xdp(&bytes);
            assert_eq!(output.verdict, verdict);
            assert_eq!(output.packet[transport + at..][..2], [0, 0]);
        }
    }
}

fn another_uplink_is_sent_by_only_if_that_arrives<A: Kin>() {
    let mut stage = Stage::<A>::with_neighbours(&[A::of(6, 2)]);
    let narrow = stage.wire.narrow;
    let call = |payload| Frame {
        payload: vec![7; payload],
        ..Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80))
    };
    for (flags, verdict) in [
        (UPLINK_TAKES, XDP_PASS),
        (UPLINK_SENDS, XDP_REDIRECT),
        (0, XDP_PASS),
        (UPLINK_TAKES | UPLINK_SENDS, XDP_REDIRECT),
    ] {
        stage.set_uplink(narrow, flags);
        let output = stage.run_xdp(&call(10).bytes());
        assert_eq!(output.verdict, verdict, "{flags}");
    }
    let seen = sent(&stage, &call(10), XDP_REDIRECT);
    assert_eq!(
        seen.source.ip(),
        A::of(6, 1).mapped(),
        "the address of the way out"
    );
    // Buffers that it does not take.
    stage.wire.change("link set narrow mtu 9000");
    passes(&stage, "a frame in several buffers", &call(8000).bytes());
}

fn frames_for_others_and_uplinks_without_xdp_pass<A: Kin>() {
    let mut stage = Stage::<A>::with_neighbours(&backends_way());
    let uplink = stage.wire.uplink;
    let call = Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80));
    stage.set_uplink(uplink, UPLINK_SENDS);
    passes(&stage, "switched off", &call.bytes());
    // The element is another interface's.
    stage.set_uplink(uplink, 0);
    stage.set_uplink(uplink + 256, UPLINK_TAKES);
    passes(&stage, "another uplink's element", &call.bytes());
    stage.set_uplink(uplink, UPLINK_TAKES);
    passes(&stage, "no way back out is known to work", &call.bytes());
    stage.set_uplink(uplink, UPLINK_TAKES | UPLINK_TURNS);
    sent(&stage, &call, XDP_TX);
    stage.set_uplink(uplink, UPLINK_TAKES | UPLINK_SENDS);
    sent(&stage, &call, XDP_REDIRECT);
}
