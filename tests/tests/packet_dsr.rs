//! DSR through the programs: whole packets in an outer header, out of the node that was called and into the backend's.

use lab::in_both_families;
use lab::packet::stage::*;
use lab::packet::{Context, Error, Frame, Kin, Output, PASS, REDIRECT, SHOT};
use proxy_common::layout::{Counter, Direction, Family, FlowTable, FrontendKey, FrontendKind, Port};
use proxy_common::layout::{V4, names::program, protocol};
use proxy_common::rules::headers::tcp;

in_both_families!(
    a_call_goes_whole_to_the_backends_node,
    a_node_ports_call_is_handed_on_in_the_name_of_the_called_address,
    a_handed_on_packet_is_one_of_the_clients_own,
    a_backends_answer_leaves_as_the_frontend,
    what_no_node_handed_on_passes_unchanged,
    source_ranges_count_for_what_is_handed_on,
    a_call_from_this_node_is_not_handed_on,
    a_flow_keeps_its_backend_and_is_found_again_without_its_entry,
    a_packet_too_big_in_its_outer_header_is_told,
    a_packet_at_its_last_hop_is_told,
    xdp_leaves_it_to_tc,
    an_error_about_an_answer_goes_the_same_way,
    a_client_is_told_to_leave_room_for_the_outer_header,
);

fn header<A: Kin>() -> usize {
    match A::FAMILY {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// A frame's packet in an outer header, byte for byte as nodes hand it on.
fn wrapped<A: Kin>(link: [[u8; 6]; 2], packet: &[u8], source: A, destination: A) -> Vec<u8> {
    let length = packet.len() as u16;
    let mut bytes = link.concat();
    let [source, destination] = [source, destination].map(|address| address.to_mapped().octets());
    match A::FAMILY {
        Family::V4 => {
            bytes.extend([0x08, 0x00, 0x45, 0]);
            bytes.extend((length + 20).to_be_bytes());
            bytes.extend([0, 0, 0x40, 0, 64, 4, 0, 0]);
            bytes.extend([&source[12..], &destination[12..]].concat());
            let sum: u32 = bytes[14..]
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
                .sum();
            let check = !((sum & 0xffff) + (sum >> 16)) as u16;
            bytes[24..26].copy_from_slice(&check.to_be_bytes());
        }
        Family::V6 => {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([41, 64]);
            bytes.extend([source, destination].concat());
        }
    }
    bytes.extend(packet);
    bytes
}

fn wrap<A: Kin>(frame: &Frame, source: A, destination: A) -> Vec<u8> {
    wrapped(frame.link, &frame.bytes()[14..], source, destination)
}

/// Runs TC of the uplink, under CHECKSUM_COMPLETE and without.
#[track_caller]
fn run<A: Kin>(stage: &Stage<A>, bytes: &[u8], verdict: i32) -> Output {
    let context = Context {
        interface: stage.interface(program::FROM_NETWORK),
        ..Context::default()
    };
    let output = stage.run_in(program::FROM_NETWORK, bytes, context);
    assert_eq!(output.verdict, verdict, "{bytes:02x?}");
    output
}

/// The same again, where the packet must come out the same.
#[track_caller]
fn run_twice<A: Kin>(stage: &Stage<A>, bytes: &[u8], verdict: i32) -> Output {
    let output = run(stage, bytes, verdict);
    let context = Context {
        interface: stage.interface(program::FROM_NETWORK),
        is_summed: true,
        ..Context::default()
    };
    assert_eq!(
        stage.run_in(program::FROM_NETWORK, bytes, context),
        output,
        "under CHECKSUM_COMPLETE"
    );
    output
}

fn ingress<A: Kin>() -> Stage<A> {
    let mut stage = Stage::<A>::new(&[remote(1)]);
    stage.hand_on();
    stage
}

/// The node that handed packets on to this one.
fn other_node<A: Kin>() -> A {
    A::of(1, 0x33)
}

fn a_call_goes_whole_to_the_backends_node<A: Kin>() {
    let mut stage = ingress::<A>();
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        let before = stage.kernel.counted(Counter::Encapsulated);
        let seen = run_twice(&stage, &call.bytes(), REDIRECT);
        let inner = Frame {
            hop_limit: 63,
            ..call.clone()
        };
        assert_eq!(seen.packet, wrap(&inner, node::<A>(), remote(1)));
        assert_eq!(stage.kernel.counted(Counter::Encapsulated), before + 2);
        assert!(stage.flow(FlowTable::Flows, &call, Direction::Forward).is_none());
        let flow = stage.flow(FlowTable::Embryos, &call, Direction::Forward);
        assert_eq!(flow.map(|flow| flow.destination), Some(remote(1)));
    }
}

fn a_node_ports_call_is_handed_on_in_the_name_of_the_called_address<A: Kin>() {
    let stage = ingress::<A>();
    // An address of another interface than the one by which the packet leaves.
    let called = A::of(6, 1);
    for call in calls((client::<A>(), 40000), (called, NODE_PORT)) {
        let seen = run(&stage, &call.bytes(), REDIRECT);
        let inner = Frame {
            hop_limit: 63,
            ..call
        };
        assert_eq!(seen.packet, wrap(&inner, called, remote(1)));
    }
}

/// The backend's node, which has another backend of the Service as well.
fn backends_node<A: Kin>() -> Stage<A> {
    let mut stage = Stage::<A>::new(&[local(1), local(2), remote(3)]);
    stage.hand_on();
    stage
}

fn a_handed_on_packet_is_one_of_the_clients_own<A: Kin>() {
    let stage = backends_node::<A>();
    for backend in [local::<A>(1), local(2)] {
        for (to, port) in [(balancer(), 80), (other_node(), NODE_PORT)] {
            for call in calls((client::<A>(), port), (to, port)) {
                let before = stage.kernel.counted(Counter::Decapsulated);
                let output = run_twice(&stage, &wrap(&call, other_node(), backend), PASS);
                let expected = Frame {
                    destination: (backend.into(), TARGET).into(),
                    ..call.clone()
                };
                // The flow of the first backend goes on, wherever the second packet was sent to.
                let first = Frame {
                    destination: (local::<A>(1).into(), TARGET).into(),
                    ..call
                };
                let expected = if backend == local::<A>(2) { first } else { expected };
                assert_eq!(Frame::read(&output.packet), expected);
                assert_eq!(stage.kernel.counted(Counter::Decapsulated), before + 2);
            }
        }
    }
    let call = Frame::syn((client::<A>(), 50000), (balancer::<A>(), 80));
    let output = run(&stage, &wrap(&call, other_node(), local::<A>(2)), PASS);
    let seen = Frame::read(&output.packet);
    assert_eq!(
        seen.destination.ip(),
        local::<A>(2).into(),
        "where it was sent to"
    );
}

fn a_backends_answer_leaves_as_the_frontend<A: Kin>() {
    let stage = backends_node::<A>();
    for (to, port) in [(balancer(), 80), (other_node(), NODE_PORT)] {
        for call in calls((client::<A>(), port), (to, port)) {
            let output = run(&stage, &wrap(&call, other_node(), local::<A>(1)), PASS);
            let reply = Frame::read(&output.packet).turned();
            let reply = reply.numbered(tcp::SYN | tcp::ACK, 5000, 1001);
            let shown = stage.send(program::TO_NETWORK, &reply, PASS);
            let expected = Frame {
                source: call.destination,
                ..reply
            };
            assert_eq!(shown, expected);
        }
    }
}

fn what_no_node_handed_on_passes_unchanged<A: Kin>() {
    let stage = backends_node::<A>();
    let decapsulated = stage.kernel.counted(Counter::Decapsulated);
    let call = |to: A, port| Frame::syn((client::<A>(), 41000), (to, port));
    let balancers = call(balancer(), 80);
    for (what, bytes) in [
        ("to no backend", wrap(&balancers, other_node(), pod::<A>())),
        (
            "to another node's backend",
            wrap(&balancers, other_node(), remote::<A>(3)),
        ),
        (
            "to no Service",
            wrap(&call(pod(), 80), other_node(), local::<A>(1)),
        ),
        (
            "to a ClusterIP",
            wrap(&call(cluster_ip(), 80), other_node(), local::<A>(1)),
        ),
        (
            "to a NodePort of an address that did not send it",
            wrap(&call(pod(), NODE_PORT), other_node(), local::<A>(1)),
        ),
        (
            "a tunnel in a tunnel",
            wrapped(
                balancers.link,
                &wrap(&balancers, other_node(), local::<A>(1))[14..],
                other_node(),
                local::<A>(1),
            ),
        ),
    ] {
        assert_eq!(run(&stage, &bytes, PASS).packet, bytes, "{what}");
    }
    let off = {
        drop(stage);
        Stage::<A>::new(&[local(1)])
    };
    let bytes = wrap(&balancers, other_node(), local::<A>(1));
    assert_eq!(run(&off, &bytes, PASS).packet, bytes, "a Service without DSR");
    assert_eq!(off.kernel.counted(Counter::Decapsulated), decapsulated);
}

fn source_ranges_count_for_what_is_handed_on<A: Kin>() {
    let mut stage = backends_node::<A>();
    for ip_protocol in [protocol::TCP, protocol::UDP, protocol::SCTP] {
        let service = Stage::<A>::service(ip_protocol);
        let key = FrontendKey::new(balancer(), Port::new(80), ip_protocol);
        stage
            .host
            .add_frontend(key, FrontendKind::GuardedLoadBalancer, service, TAG);
        stage.host.source_ranges.push((service, TAG, client(), A::BITS));
    }
    stage.install();
    for call in calls((client::<A>(), 40000), (balancer(), 80)) {
        run(&stage, &wrap(&call, other_node(), local::<A>(1)), PASS);
    }
    let refused = stage.kernel.counted(Counter::SourceNotAllowed);
    for call in calls((A::of(1, 0x21), 40000), (balancer(), 80)) {
        run(&stage, &wrap(&call, other_node(), local::<A>(1)), SHOT);
    }
    assert_eq!(stage.kernel.counted(Counter::SourceNotAllowed), refused + 3);
}

fn a_call_from_this_node_is_not_handed_on<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1), remote(2)]);
    stage.hand_on();
    let mut backends = std::collections::BTreeSet::new();
    for port in 40000..40064 {
        let call = Frame::syn((pod::<A>(), port), (balancer::<A>(), 80));
        backends.insert(stage.send(program::FROM_POD, &call, PASS).destination.ip());
    }
    let all = [local::<A>(1), remote(2)].map(Into::into);
    assert_eq!(backends, all.into(), "a pod of this node has all backends");
    let call = Frame::syn((client::<A>(), 40000), (cluster_ip::<A>(), 80));
    let ours = (40000..40064).map(|port| Frame {
        source: (client::<A>().into(), port).into(),
        ..call.clone()
    });
    let sent = stage.kernel.counted(Counter::Encapsulated);
    for call in ours {
        stage.run(program::FROM_NETWORK, &call.bytes());
    }
    assert_eq!(
        stage.kernel.counted(Counter::Encapsulated),
        sent,
        "nor a ClusterIP's"
    );
}

fn a_flow_keeps_its_backend_and_is_found_again_without_its_entry<A: Kin>() {
    let remotes = [remote(1), remote(2), remote(3), remote(4)];
    let mut stage = Stage::<A>::new(&remotes);
    stage.hand_on();
    let backend_of = |output: &Output| -> A {
        let at = 14 + header::<A>() - header::<A>() / 10 * 2 * if A::FAMILY == Family::V4 { 1 } else { 2 };
        let octets = &output.packet[at..14 + header::<A>()];
        let found = remotes.iter().find(|remote| {
            let all = remote.to_mapped().octets();
            all[16 - octets.len()..] == *octets
        });
        *found.unwrap_or_else(|| panic!("no backend"))
    };
    let mut used = std::collections::BTreeSet::new();
    for port in 40000..40032 {
        let syn = Frame::syn((client::<A>(), port), (balancer::<A>(), 80));
        let chosen = backend_of(&run(&stage, &syn.bytes(), REDIRECT));
        used.insert(chosen.mapped());
        let data = syn.clone().numbered(tcp::ACK, 1001, 5001);
        assert_eq!(backend_of(&run(&stage, &data.bytes(), REDIRECT)), chosen);
        stage.kernel.remove_flow(FlowTable::Embryos, &key::<A>(&syn));
        assert_eq!(
            backend_of(&run(&stage, &data.bytes(), REDIRECT)),
            chosen,
            "pushed out"
        );
    }
    assert!(used.len() > 1, "{used:?}");
    // It stays with its backend when that is gone; what begins does not.
    let syn = Frame::syn((client::<A>(), 50000), (balancer::<A>(), 80));
    let chosen = backend_of(&run(&stage, &syn.bytes(), REDIRECT));
    let nth = (1..).zip(&remotes).find(|(_, remote)| **remote == chosen);
    stage.kill(nth.unwrap_or_else(|| panic!("none of them")).0);
    let data = syn.clone().numbered(tcp::ACK, 1001, 5001);
    assert_eq!(backend_of(&run(&stage, &data.bytes(), REDIRECT)), chosen);
    assert_ne!(backend_of(&run(&stage, &syn.bytes(), REDIRECT)), chosen);
}

fn key<A: Kin>(frame: &Frame) -> proxy_common::layout::FlowKey<A> {
    proxy_common::layout::FlowKey {
        source: A::from_mapped(frame.source.ip().into()),
        destination: A::from_mapped(frame.destination.ip().into()),
        source_port: Port::new(frame.source.port()),
        destination_port: Port::new(frame.destination.port()),
        protocol: protocol::TCP,
        direction: Direction::Forward as u8,
        pad: 0,
    }
}

fn a_packet_too_big_in_its_outer_header_is_told<A: Kin>() {
    let stage = ingress::<A>();
    let whole = 1500 - header::<A>();
    for (length, fits) in [(whole, true), (whole + 1, false)] {
        let mut call = Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80));
        call.payload = vec![7; length - header::<A>() - 8];
        if fits {
            run(&stage, &call.bytes(), REDIRECT);
            continue;
        }
        let before = stage.kernel.counted(Counter::TooBig);
        let told = Error::read(&run(&stage, &call.bytes(), REDIRECT).packet);
        assert_eq!(stage.kernel.counted(Counter::TooBig), before + 1);
        let kind = match A::FAMILY {
            Family::V4 => (3, 4),
            Family::V6 => (2, 0),
        };
        assert_eq!((told.kind, told.word), (kind, whole as u32));
        assert_eq!(
            (told.source, told.destination),
            (balancer::<A>().into(), client::<A>().into())
        );
        assert_eq!(told.quoted, call.bytes()[14..][..told.quoted.len()]);
    }
}

fn a_packet_at_its_last_hop_is_told<A: Kin>() {
    let stage = ingress::<A>();
    let call = Frame {
        hop_limit: 1,
        ..Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80))
    };
    let told = Error::read(&run(&stage, &call.bytes(), REDIRECT).packet);
    let kind = match A::FAMILY {
        Family::V4 => (11, 0),
        Family::V6 => (3, 0),
    };
    assert_eq!(told.kind, kind);
}

fn xdp_leaves_it_to_tc<A: Kin>() {
    let mut stage = Stage::<A>::with_neighbours(&[remote(1)]);
    let call = Frame::udp((client::<A>(), 40000), (balancer::<A>(), 80));
    stage.run_xdp(&call.bytes());
    let sent = stage.run_xdp(&call.bytes());
    assert_ne!(sent.verdict, lab::packet::XDP_PASS, "without DSR XDP sends it on");
    stage.hand_on();
    for call in calls((client::<A>(), 41000), (balancer(), 80)) {
        let output = stage.run_both(
            &call.bytes(),
            Context {
                interface: stage.wire.uplink,
                ..Context::default()
            },
        );
        let inner = Frame {
            hop_limit: 63,
            ..call
        };
        assert_eq!(output.packet, wrap(&inner, node::<A>(), remote(1)));
        let bytes = wrap(&inner, node::<A>(), remote(1));
        let passed = stage.run_xdp(&bytes);
        assert_eq!((passed.verdict, passed.packet), (lab::packet::XDP_PASS, bytes));
    }
}

/// A router tells the frontend that its answer was too big: the node that gets that is not the one that sent the answer.
fn an_error_about_an_answer_goes_the_same_way<A: Kin>() {
    let router = A::of(5, 0x999);
    let error = |call: &Frame| {
        let kind = match A::FAMILY {
            Family::V4 => (3, 4),
            Family::V6 => (2, 0),
        };
        Error {
            link: call.link,
            source: router.into(),
            destination: call.destination.ip(),
            hop_limit: 64,
            options: 0,
            kind,
            word: 1280,
            quoted: call.clone().turned().bytes()[14..].to_vec(),
        }
    };
    let packets: Vec<(Frame, Vec<u8>)> = {
        let stage = ingress::<A>();
        let calls = calls((client::<A>(), 40000), (balancer(), 80));
        let sent = calls.into_iter().map(|call| {
            run(&stage, &call.bytes(), REDIRECT);
            let told = error(&call);
            let inner = Error {
                hop_limit: 63,
                ..told.clone()
            };
            let output = run(&stage, &told.bytes(), REDIRECT);
            let expected = wrapped(call.link, &inner.bytes()[14..], node::<A>(), remote(1));
            assert_eq!(output.packet, expected, "whole, to the backend's node");
            (call, inner.bytes())
        });
        sent.collect()
    };
    let stage = backends_node::<A>();
    for (call, told) in packets {
        run(&stage, &wrap(&call, other_node(), local::<A>(1)), PASS);
        let bytes = wrapped(call.link, &told[14..], other_node(), local::<A>(1));
        let shown = Error::read(&run(&stage, &bytes, PASS).packet);
        assert_eq!(
            (shown.source, shown.destination),
            (router.into(), local::<A>(1).into())
        );
    }
}

/// A SYN-ACK that says how large segments may be, behind options that need not be looked at.
fn synack(frame: &Frame, before: &[u8], size: u16) -> Vec<u8> {
    let mut options = [before, &[2, 4], &size.to_be_bytes()[..]].concat();
    options.resize(options.len().next_multiple_of(4), 0);
    let words = options.len() / 4;
    let frame = Frame {
        payload: options,
        ..frame.clone().numbered(tcp::SYN | tcp::ACK, 5000, 1001)
    };
    let mut bytes = frame.bytes();
    let transport = bytes.len() - frame.payload.len() - 20;
    // The header becomes longer by what was data.
    let more = (words as u16) << 12;
    bytes[transport + 12] += (words as u8) << 4;
    let field = transport + 16;
    let sum = u32::from(!u16::from_be_bytes([bytes[field], bytes[field + 1]])) + u32::from(more);
    let check = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[field..field + 2].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// What the client sends goes through the other node, in an outer header; what a client sends that called here does not.
fn a_client_is_told_to_leave_room_for_the_outer_header<A: Kin>() {
    let mut stage = Stage::<A>::new(&[local(1)]);
    stage.hand_on();
    for index in [0, stage.wire.uplink] {
        stage.kernel.set_interface(&proxy_common::layout::Interface {
            v4: V4::of(1, 1),
            mtu: 1500,
            index,
            ..Default::default()
        });
    }
    let most = (1500 - 2 * header::<A>() - 20) as u16;
    for (port, is_handed_on) in [(40000, true), (40001, false)] {
        let call = Frame::syn((client::<A>(), port), (balancer::<A>(), 80));
        let output = match is_handed_on {
            true => run(&stage, &wrap(&call, other_node(), local::<A>(1)), PASS),
            false => run(&stage, &call.bytes(), PASS),
        };
        let reply = Frame::read(&output.packet).turned();
        for before in [
            &[][..],
            &[1],
            &[1, 1, 1],
            &[3, 3, 7],
            &[4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
        ] {
            for (size, told) in [(most + 20, most), (most, most), (536, 536), (65_495, most)] {
                let told = if is_handed_on { told } else { size };
                let shown = stage.run(program::TO_NETWORK, &synack(&reply, before, size));
                assert_eq!(shown.verdict, PASS);
                let expected = synack(
                    &Frame {
                        source: call.destination,
                        ..reply.clone()
                    },
                    before,
                    told,
                );
                assert_eq!(shown.packet, expected, "{before:?}, {size}");
            }
        }
    }
}

/// Families meet nowhere: a packet of one in a header of the other is somebody else's.
#[test]
fn a_packet_of_the_other_family_passes_unchanged() {
    let stage = backends_node::<V4>();
    let call = Frame::syn(
        (client::<proxy_common::layout::V6>(), 40000),
        (balancer::<proxy_common::layout::V6>(), 80),
    );
    let mut bytes = wrapped(call.link, &call.bytes()[14..], other_node::<V4>(), local(1));
    bytes[23] = protocol::IPV6;
    let sum =
        u16::from_be_bytes([bytes[24], bytes[25]]).wrapping_sub(u16::from(protocol::IPV6 - protocol::IPV4));
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(run(&stage, &bytes, PASS).packet, bytes);
}
