//! SCTP through the programs: its checksum at every length and in every state, its associations, its fragments. What it has
//! in common with TCP and UDP is in the other packet tests.

use lab::in_both_families;
use lab::packet::pieces::{join, split};
use lab::packet::stage::*;
use lab::packet::{Context, Frame, Kin, PASS, REDIRECT, SHOT, Transport};
use proxy_common::layout::{
    Counter, Direction, FlowTable, FrontendKey, FrontendKind, Port, names::program, protocol,
};
use proxy_common::rules::headers::tcp;

in_both_families!(
    the_checksum_is_right_at_every_length,
    a_wrong_checksum_stays_wrong_by_the_same_bits,
    bytes_behind_the_packet_are_no_part_of_it,
    a_nics_sum_stays_right,
    where_no_port_changes_the_checksum_stays,
    the_tag_of_the_init_ack_promotes,
    an_association_that_is_over_is_opened_anew,
    without_an_init_there_is_no_flow,
    fragments_are_dropped_where_a_port_changes,
    fragments_pass_where_no_port_changes,
);

/// The longest payload of a frame that goes over the uplink.
const MOST: usize = 1500 - 40 - 20;

/// The field, in a frame's bytes.
fn field(bytes: &[u8]) -> u32 {
    let at = if bytes[14] >> 4 == 4 { 42 } else { 62 };
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn call<A: Kin>() -> Frame {
    Frame::init((client::<A>(), 40000), (balancer::<A>(), 80))
}

fn the_checksum_is_right_at_every_length<A: Kin>() {
    for (backend, verdict) in [(local(1), PASS), (remote(1), REDIRECT)] {
        let stage = Stage::<A>::new(&[backend]);
        stage.send(program::FROM_NETWORK, &call::<A>(), verdict);
        for length in 0..=MOST {
            let data = Frame {
                payload: (0..length).map(|n| (n * 7 + length) as u8).collect(),
                ..call::<A>().numbered(tcp::ACK, 1, 5000)
            };
            let seen = stage.send(program::FROM_NETWORK, &data, verdict);
            assert_eq!(seen.destination.port(), TARGET);
            assert_eq!((seen.payload, seen.transport), (data.payload, data.transport));
        }
        drop(stage);
    }
}

fn a_wrong_checksum_stays_wrong_by_the_same_bits<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    let right = call::<A>().bytes();
    let seen = stage.run(program::FROM_NETWORK, &right);
    let at = right.len() - 12 - 8 - 4;
    for error in [1_u32, 0x8000_0000, 0xdead_beef, u32::MAX] {
        let mut wrong = right.clone();
        for (byte, error) in wrong[at..at + 4].iter_mut().zip(error.to_le_bytes()) {
            *byte ^= error;
        }
        let output = stage.run(program::FROM_NETWORK, &wrong);
        assert_eq!(output.verdict, REDIRECT);
        assert_eq!(field(&output.packet), field(&seen.packet) ^ error);
    }
}

/// Ethernet's padding.
fn bytes_behind_the_packet_are_no_part_of_it<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    let bytes = call::<A>().bytes();
    let seen = stage.run(program::FROM_NETWORK, &bytes);
    Frame::read(&seen.packet);
    for padding in [1, 2, 6, 100] {
        let padded = [bytes.clone(), vec![0xab; padding]].concat();
        let output = stage.run(program::FROM_NETWORK, &padded);
        assert_eq!(output.verdict, REDIRECT);
        assert_eq!(output.packet[..bytes.len()], seen.packet);
    }
}

/// CHECKSUM_COMPLETE, on every way through the programs.
fn a_nics_sum_stays_right<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for (name, source, to, verdict) in [
        (program::FROM_NETWORK, client::<A>(), (balancer::<A>(), 80), PASS),
        (program::FROM_POD, pod(), (cluster_ip(), 80), PASS),
        (program::FROM_POD, local(1), (cluster_ip(), 80), REDIRECT),
    ] {
        is_summed(&stage, name, &Frame::init((source, 40000), to), verdict);
    }
    let seen = stage.send(program::FROM_NETWORK, &call::<A>(), PASS);
    is_summed(&stage, program::TO_NETWORK, &seen.turned(), PASS);
    drop(stage);
    let stage = Stage::<A>::new(&[remote(1)]);
    is_summed(&stage, program::FROM_NETWORK, &call::<A>(), REDIRECT);
    let seen = stage.send(program::FROM_NETWORK, &call::<A>(), REDIRECT);
    is_summed(&stage, program::FROM_NETWORK, &seen.turned(), REDIRECT);
}

#[track_caller]
fn is_summed<A: Kin>(stage: &Stage<A>, name: &str, frame: &Frame, verdict: i32) {
    let context = |is_summed| Context {
        interface: stage.interface(name),
        is_summed,
        ..Context::default()
    };
    // The first packet makes the flow.
    stage.run_in(name, &frame.bytes(), context(false));
    let plain = stage.run_in(name, &frame.bytes(), context(false));
    assert_eq!(plain.verdict, verdict, "{name} {frame:?}");
    Frame::read(&plain.packet);
    assert_eq!(stage.run_in(name, &frame.bytes(), context(true)), plain);
}

/// A frontend with the backends' port.
fn with_the_backends_port<A: Kin>() -> Stage<A> {
    let mut stage = Stage::<A>::new(&[local(1)]);
    let key = FrontendKey::new(cluster_ip::<A>(), Port::new(TARGET), protocol::SCTP);
    let service = Stage::<A>::service(protocol::SCTP);
    stage
        .host
        .add_frontend(key, FrontendKind::ClusterIp, service, TAG);
    stage.install();
    stage
}

fn where_no_port_changes_the_checksum_stays<A: Kin>() {
    let stage = with_the_backends_port::<A>();
    let call = Frame::init((pod::<A>(), 40000), (cluster_ip::<A>(), TARGET));
    let seen = stage.send(program::FROM_POD, &call, PASS);
    assert_eq!(seen.destination, (local::<A>(1).into(), TARGET).into());
    assert_eq!(field(&seen.bytes()), field(&call.bytes()));
}

fn the_tag_of_the_init_ack_promotes<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    let promoted = stage.kernel.counted(Counter::FlowPromoted);
    let seen = stage.send(program::FROM_NETWORK, &call::<A>(), PASS);
    let answer = seen.clone().turned().numbered(tcp::SYN | tcp::ACK, 5000, 1000);
    let shown = stage.send(program::TO_NETWORK, &answer, PASS);
    assert_eq!(shown.source, call::<A>().destination);
    let tagged = |tag| call::<A>().numbered(tcp::ACK, 1, tag);
    stage.send(program::FROM_NETWORK, &tagged(5001), PASS);
    assert_eq!(
        stage.kernel.counted(Counter::FlowPromoted),
        promoted,
        "another tag"
    );
    stage.send(program::FROM_NETWORK, &tagged(5000), PASS);
    assert_eq!(stage.kernel.counted(Counter::FlowPromoted), promoted + 1);
    for (frame, direction) in [(&call::<A>(), Direction::Forward), (&answer, Direction::Reverse)] {
        assert!(stage.flow(FlowTable::Flows, frame, direction).is_some());
        assert!(stage.flow(FlowTable::Embryos, frame, direction).is_none());
    }
}

fn an_association_that_is_over_is_opened_anew<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    let created = stage.kernel.counted(Counter::FlowCreated);
    stage.send(program::FROM_NETWORK, &call::<A>(), PASS);
    stage.send(program::FROM_NETWORK, &call::<A>(), PASS);
    assert_eq!(
        stage.kernel.counted(Counter::FlowCreated),
        created + 1,
        "a repeated INIT"
    );
    stage.send(
        program::FROM_NETWORK,
        &call::<A>().numbered(tcp::RST, 0, 5000),
        PASS,
    );
    stage.send(program::FROM_NETWORK, &call::<A>(), PASS);
    assert_eq!(stage.kernel.counted(Counter::FlowCreated), created + 2);
}

fn without_an_init_there_is_no_flow<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    let passed = stage.kernel.counted(Counter::SctpWithoutFlow);
    for flags in [tcp::ACK, tcp::RST, tcp::SYN | tcp::ACK, tcp::FIN | tcp::ACK] {
        let packet = call::<A>().numbered(flags, 1, 5000);
        assert!(matches!(packet.transport, Transport::Sctp(..)));
        assert_eq!(stage.send(program::FROM_NETWORK, &packet, PASS), packet);
    }
    assert_eq!(stage.kernel.counted(Counter::SctpWithoutFlow), passed + 4);
    assert!(stage.kernel.flows::<A>().is_empty());
}

/// The checksum covers what is in the other pieces, and how long they are is not said in the first.
fn fragments_are_dropped_where_a_port_changes<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    stage.send(program::FROM_NETWORK, &call::<A>(), REDIRECT);
    let data = Frame {
        payload: vec![7; 100],
        ..call::<A>().numbered(tcp::ACK, 1, 5000)
    };
    let dropped = |stage: &Stage<A>| stage.kernel.counted(Counter::SctpFragment);
    let before = dropped(&stage);
    for piece in split(&data, 24, 9) {
        assert_eq!(stage.run(program::FROM_NETWORK, &piece).verdict, SHOT);
    }
    assert_eq!(dropped(&stage), before + 2);
}

fn fragments_pass_where_no_port_changes<A: Kin>() {
    let stage = with_the_backends_port::<A>();
    let call = Frame::init((pod::<A>(), 40000), (cluster_ip::<A>(), TARGET));
    let seen = stage.send(program::FROM_POD, &call, PASS);
    for (name, whole, expected) in [
        (program::FROM_POD, call.clone(), seen.clone()),
        (program::TO_POD, seen.turned(), call.turned()),
    ] {
        let data = |frame: Frame| Frame {
            payload: vec![7; 100],
            ..frame.numbered(tcp::ACK, 1, 5000)
        };
        let pieces = split(&data(whole), 24, 9).map(|piece| {
            let output = stage.run(name, &piece);
            assert_eq!(output.verdict, PASS);
            output.packet
        });
        assert_eq!(Frame::read(&join(&pieces)), data(expected));
    }
}
