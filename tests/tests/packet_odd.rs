//! Packets that are cut short, contradict themselves, come in pieces, are no IP at all, or have no link header.

use lab::in_both_families;
use lab::packet::pieces::{join, split};
use lab::packet::stage::*;
use lab::packet::{Context, Frame, Kin, Output, PASS, REDIRECT, SHOT, Transport, probe};
use proxy_common::layout::{Counter, Family, ProbeKey, ProbeSide, V4, names::program};
use proxy_common::rules::headers::tcp;

in_both_families!(
    a_packet_cut_at_any_byte_is_not_translated,
    lengths_that_contradict_the_packet_are_not_believed,
    padding_behind_the_datagram_is_left_alone,
    fragments_follow_their_first,
    fragments_ahead_of_their_first_come_in_again,
    frames_for_others_pass,
    frames_in_a_vlan_pass,
    other_protocols_pass,
    an_uplink_without_link_header_translates,
    an_uplink_without_link_header_refuses,
);

const PROGRAMS: [&str; 6] = [
    program::FROM_POD,
    program::TO_POD,
    program::FROM_NETWORK,
    program::TO_NETWORK,
    program::FROM_NETWORK_L3,
    program::TO_NETWORK_L3,
];
const LINKED: [&str; 4] = [
    program::FROM_POD,
    program::TO_POD,
    program::FROM_NETWORK,
    program::TO_NETWORK,
];

#[track_caller]
fn passes_unchanged<A: Kin>(stage: &Stage<A>, name: &str, bytes: &[u8]) {
    let output = stage.run(name, bytes);
    assert_eq!(
        (output.verdict, output.packet.as_slice()),
        (PASS, bytes),
        "{name}"
    );
}

/// A packet that was dropped or passed as it came.
#[track_caller]
fn is_untouched(output: &Output, bytes: &[u8], what: &str) {
    assert!(
        output.verdict == PASS || output.verdict == SHOT,
        "{what}: {}",
        output.verdict
    );
    assert_eq!(output.packet, bytes, "{what}");
}

fn network_header<A: Kin>() -> usize {
    match A::FAMILY {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

fn a_packet_cut_at_any_byte_is_not_translated<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1), remote(1)]);
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        for options in [0, 2] {
            let call = Frame {
                options,
                payload: vec![7; 12],
                ..call.clone()
            };
            let bytes = call.bytes();
            for name in LINKED {
                // The kernel runs programs on frames that hold a whole network header only.
                for length in 14 + network_header::<A>()..bytes.len() {
                    let cut = &bytes[..length];
                    is_untouched(&stage.run(name, cut), cut, &format!("{name} {length}"));
                }
            }
        }
    }
    // A packet that the routing would have to answer is none of these.
    assert!(stage.kernel.flows::<A>().is_empty());
    assert!(stage.kernel.counted(Counter::Malformed) > 0);
}

fn lengths_that_contradict_the_packet_are_not_believed<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
        let good = Frame {
            payload: vec![7; 12],
            ..call
        }
        .bytes();
        let transport = 14 + network_header::<A>();
        let mut bad = Vec::new();
        // The network header's length: larger than the packet, and smaller than its headers.
        let offset = if A::FAMILY == Family::V4 { 16 } else { 18 };
        let least = if A::FAMILY == Family::V4 { 21 } else { 1 };
        for length in [least, least + 6, good.len() as u16, 0xffff] {
            let mut bytes = good.clone();
            bytes[offset..offset + 2].copy_from_slice(&length.to_be_bytes());
            bad.push(bytes);
        }
        if A::FAMILY == Family::V4 {
            for words in [0, 4, 15] {
                let mut bytes = good.clone();
                bytes[14] = 0x40 | words;
                bad.push(bytes);
            }
        }
        if matches!(call.transport, Transport::Udp(_)) {
            for length in [1_u16, 7, 21, 0xffff] {
                let mut bytes = good.clone();
                bytes[transport + 4..transport + 6].copy_from_slice(&length.to_be_bytes());
                bad.push(bytes);
            }
        } else if matches!(call.transport, Transport::Tcp(..)) {
            for words in [0, 4, 9, 15] {
                let mut bytes = good.clone();
                bytes[transport + 12] = words << 4;
                bad.push(bytes);
            }
        }
        for bytes in bad {
            let malformed = stage.kernel.counted(Counter::Malformed);
            let output = stage.run(program::FROM_POD, &bytes);
            is_untouched(&output, &bytes, "contradicts itself");
            assert_eq!(output.verdict, SHOT, "{bytes:02x?}");
            assert_eq!(stage.kernel.counted(Counter::Malformed), malformed + 1);
        }
    }
    assert!(stage.kernel.flows::<A>().is_empty());
}

fn padding_behind_the_datagram_is_left_alone<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
        let length = call.bytes().len();
        let padded = [call.bytes(), vec![0xee; 7]].concat();
        let output = stage.run(program::FROM_POD, &padded);
        assert_eq!(output.verdict, PASS);
        assert_eq!(output.packet[length..], [0xee; 7]);
        let seen = Frame::read(&output.packet[..length]);
        assert_eq!(seen.destination.ip(), local::<A>(1).into());
    }
}

/// SCTP's are in packet_sctp. The datagram that is put together out of translated pieces is right as a whole.
fn fragments_follow_their_first<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1), remote(1)]);
    for (id, port) in (1..20).zip(40000..) {
        let [syn, datagram, _] = calls((client::<A>(), port), (balancer(), 80));
        for call in [syn, datagram] {
            let call = Frame {
                payload: (0..200).collect(),
                // In IPv6 options may stand behind the fragment header: the later piece names them, and not TCP or UDP.
                options: if A::FAMILY == Family::V6 {
                    (id % 3) as u8
                } else {
                    0
                },
                ..call
            };
            let pieces = split(&call, 64, id);
            assert_eq!(
                Frame::read(&join(&pieces)).payload,
                call.payload,
                "the test's own splitting"
            );
            let outputs = pieces
                .each_ref()
                .map(|piece| stage.run(program::FROM_NETWORK, piece));
            assert_eq!(outputs[0].verdict, outputs[1].verdict);
            let whole = Frame::read(&join(&outputs.map(|output| output.packet)));
            assert_eq!(whole.payload, call.payload);
            assert_eq!(whole.destination.port(), TARGET);
            assert_ne!(whole.destination.ip(), call.destination.ip());
        }
    }
    assert!(!stage.kernel.fragments::<A>().is_empty());
    let lost = stage.kernel.counted(Counter::FragmentWithoutFirst);
    let call = Frame::udp((client::<A>(), 1), (balancer::<A>(), 80));
    let [_, later] = split(
        &Frame {
            payload: vec![1; 100],
            ..call
        },
        64,
        999,
    );
    let output = stage.run(program::FROM_NETWORK, &later);
    is_untouched(&output, &later, "a later fragment alone");
    assert_eq!(output.verdict, SHOT);
    assert_eq!(stage.kernel.counted(Counter::FragmentWithoutFirst), lost + 1);
    let stranger = Frame::udp((client::<A>(), 1), (pod::<A>(), 80));
    let [_, later] = split(
        &Frame {
            payload: vec![1; 100],
            ..stranger
        },
        64,
        998,
    );
    passes_unchanged(&stage, program::FROM_NETWORK, &later);
}

/// The second time they find it: the lab's rows show that.
fn fragments_ahead_of_their_first_come_in_again<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1), remote(1)]);
    stage.kernel.let_fragments_come_again(true);
    let count = |stage: &Stage<A>| {
        [Counter::FragmentAhead, Counter::FragmentWithoutFirst].map(|counter| stage.kernel.counted(counter))
    };
    let mut id = 0;
    for (name, client, to) in [
        (program::FROM_NETWORK, client::<A>(), balancer::<A>()),
        (program::FROM_POD, pod(), cluster_ip()),
    ] {
        for call in calls((client, 40_000), (to, 80)) {
            id += 1;
            let call = Frame {
                payload: vec![7; 200],
                ..call
            };
            let [first, later] = split(&call, 64, id);
            let before = count(&stage);
            let output = stage.run(name, &later);
            assert_eq!((output.verdict, &output.packet), (REDIRECT, &later), "{call:?}");
            assert_eq!(count(&stage), [before[0] + 1, before[1]]);
            // Behind its first it is as any other.
            let output = stage.run(name, &first);
            if matches!(call.transport, Transport::Sctp(..)) {
                assert_eq!(output.verdict, SHOT, "its ports change");
                continue;
            }
            let again = stage.run(name, &later);
            assert_eq!(again.verdict, output.verdict);
            assert_ne!(again.packet, later);
            assert_eq!(count(&stage), [before[0] + 1, before[1]]);
        }
    }
    // As many as a CPU lets come in again at once, and no more: how many are more depends on how fast they come.
    let call = Frame {
        payload: vec![7; 200],
        ..Frame::udp((client::<A>(), 40_000), (balancer::<A>(), 80))
    };
    let mut verdicts =
        (1000..20_000).map(|id| stage.run(program::FROM_NETWORK, &split(&call, 64, id)[1]).verdict);
    assert_eq!(verdicts.next(), Some(REDIRECT));
    assert_eq!(verdicts.find(|verdict| *verdict != REDIRECT), Some(SHOT));
    // What may be the node's own is left to its stack.
    stage.kernel.let_fragments_come_again(false);
    let own = Frame {
        payload: vec![7; 200],
        ..Frame::udp((client::<A>(), 40_000), (node::<A>(), 53))
    };
    passes_unchanged(&stage, program::FROM_NETWORK, &split(&own, 64, 1400)[1]);
    // Replies on their way to a pod, and out of the node, are of no queue: they are dropped.
    stage.kernel.let_fragments_come_again(true);
    let reply = Frame {
        payload: vec![7; 200],
        ..Frame::udp((local::<A>(1), TARGET), (pod::<A>(), 40_000))
    };
    for name in [program::TO_POD, program::TO_NETWORK] {
        let lost = stage.kernel.counted(Counter::FragmentWithoutFirst);
        assert_eq!(
            stage.run(name, &split(&reply, 64, 2000)[1]).verdict,
            SHOT,
            "{name}"
        );
        assert_eq!(stage.kernel.counted(Counter::FragmentWithoutFirst), lost + 1);
    }
}

fn frames_for_others_pass<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for destination in [[2, 0, 0, 0, 0, 9], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        for call in calls((client::<A>(), 40000), (balancer(), 80)) {
            let call = Frame {
                link: [destination, call.link[1]],
                ..call
            };
            passes_unchanged(&stage, program::FROM_NETWORK, &call.bytes());
            // A bridge's port shows its pod's frames as another's.
            let call = Frame {
                source: (pod::<A>().into(), 40000).into(),
                ..call
            };
            let seen = stage.send(program::FROM_POD, &call, PASS);
            assert_eq!(seen.destination.ip(), local::<A>(1).into());
        }
    }
}

/// Others may use the protocol that the agent's own frames have.
#[test]
fn a_frame_of_the_agent_ends_where_it_is_awaited_and_others_pass() {
    let mut stage = Stage::<V4>::new(&[local(1)]);
    for (name, token) in LINKED.into_iter().zip(7..) {
        let interface = stage.interface(name);
        let (awaiting, other) = match name {
            program::TO_POD | program::TO_NETWORK => (ProbeSide::Egress, ProbeSide::Ingress),
            _ => (ProbeSide::Ingress, ProbeSide::Egress),
        };
        let context = Context {
            interface,
            ..Context::default()
        };
        let key = ProbeKey::new(interface.max(1), awaiting);
        passes_unchanged(&stage, name, &probe::frame(token));
        stage
            .kernel
            .await_probe(ProbeKey::new(interface.max(1), other), token);
        passes_unchanged(&stage, name, &probe::frame(token));
        stage.kernel.await_probe(key, token);
        for strange in [0, 6] {
            passes_unchanged(&stage, name, &probe::frame(strange));
        }
        passes_unchanged(&stage, name, &probe::frame(token)[..20]);
        assert_eq!(stage.kernel.awaited_probe(key), token, "{name}");
        assert_eq!(
            stage.run_in(name, &probe::frame(token), context).verdict,
            SHOT,
            "{name}"
        );
        assert_eq!(stage.kernel.awaited_probe(key), 0, "{name}");
        for again in [0, token] {
            passes_unchanged(&stage, name, &probe::frame(again));
        }
    }
}

fn frames_in_a_vlan_pass<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
        for kind in [[0x81, 0x00], [0x88, 0xa8]] {
            let mut bytes = call.bytes();
            bytes.splice(12..12, [kind[0], kind[1], 0, 7]);
            for name in LINKED {
                passes_unchanged(&stage, name, &bytes);
            }
        }
    }
}

fn other_protocols_pass<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
        for number in [1, 47, 50, 58, 255] {
            let mut bytes = call.bytes();
            bytes[if A::FAMILY == Family::V4 { 23 } else { 20 }] = number;
            for name in LINKED {
                passes_unchanged(&stage, name, &bytes);
            }
        }
    }
}

#[test]
fn what_is_no_ip_passes() {
    let stage = Stage::<V4>::new(&[local(1)]);
    for ether_type in [0x0806_u16, 0x88cc, 0x8847, 0x0600, 0xffff, 0x0000] {
        for length in [14, 15, 60, 1000] {
            let mut bytes = vec![0x45; length];
            bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
            bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
            for name in PROGRAMS {
                passes_unchanged(&stage, name, &bytes);
            }
        }
    }
}

/// A test run takes bytes 12 and 13 for the Ethernet type: with this source an IP packet without a link header has it
/// there.
fn typed<A: Kin>(number: u8) -> A {
    match A::FAMILY {
        Family::V4 => A::from_text(&format!("8.0.1.{number}")),
        Family::V6 => A::from_text(&format!("fd01:0:86dd::{number:x}")),
    }
}

/// A packet without link header, read as a frame.
fn read_bare(packet: &[u8]) -> Frame {
    let ether_type = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    Frame::read(&[&[0; 12], &ether_type[..], packet].concat())
}

fn an_uplink_without_link_header_translates<A: Kin>() {
    let mut stage = Stage::<A>::new(&[typed(0x77)]);
    for call in calls((typed::<A>(9), 40000), (balancer(), 80)) {
        let context = Context {
            interface: stage.wire.uplink,
            ..Context::default()
        };
        stage.kernel.forget_flows();
        let output = stage.run_in(program::FROM_NETWORK_L3, &call.bare(), context);
        assert_eq!(output.verdict, REDIRECT);
        // Room for the next interface's link header.
        let seen = read_bare(&output.packet[14..]);
        assert_eq!(seen.destination, (typed::<A>(0x77).into(), TARGET).into());
        assert_eq!((seen.source.ip(), seen.hop_limit), (node::<A>().into(), 63));
        let reply = seen.turned().numbered(tcp::SYN | tcp::ACK, 5000, 1001);
        let output = stage.run_in(program::FROM_NETWORK_L3, &reply.bare(), context);
        assert_eq!(output.verdict, REDIRECT);
        let shown = read_bare(&output.packet[14..]);
        assert_eq!((shown.source, shown.destination), (call.destination, call.source));
    }
}

fn an_uplink_without_link_header_refuses<A: Kin>() {
    let mut stage = Stage::<A>::new(&[]);
    stage.empty_lists(proxy_common::layout::When::Reject);
    let [syn, datagram, _] = calls((typed::<A>(9), 40000), (cluster_ip(), 80));
    for name in [program::FROM_NETWORK_L3, program::TO_NETWORK_L3] {
        let output = stage.run(name, &syn.bare());
        assert_eq!(output.verdict, REDIRECT, "{name}");
        let reset = read_bare(&output.packet);
        assert_eq!((reset.source, reset.destination), (syn.destination, syn.source));
        let output = stage.run(name, &datagram.bare());
        assert_eq!(output.verdict, REDIRECT, "{name}");
        let ether_type = if A::FAMILY == Family::V4 {
            [8, 0]
        } else {
            [0x86, 0xdd]
        };
        let error = lab::packet::Error::read(&[&[0; 12], &ether_type[..], &output.packet].concat());
        assert_eq!(error.source, datagram.destination.ip());
        assert_eq!(error.quoted, datagram.bare()[..error.quoted.len()]);
    }
}
