//! ICMP errors through the programs: what they say, whom they reach, and every checksum, also the one that a NIC took
//! over the packet.

use lab::in_both_families;
use lab::packet::stage::*;
use lab::packet::{Context, Error, Frame, Kin, PASS, REDIRECT, SHOT, Transport};
use proxy_common::layout::{Counter, Family, names::program};
use proxy_common::rules::headers::tcp;

in_both_families!(
    an_error_about_a_pods_call_reaches_it,
    an_error_of_a_local_backend_leaves_in_the_frontends_name,
    an_error_about_a_redirected_call_reaches_its_client,
    a_clients_error_reaches_the_backend,
    errors_about_a_hairpin_go_back_to_the_pod,
    options_of_both_headers_are_stepped_over,
    a_quote_is_translated_wherever_it_is_cut,
    an_error_at_its_last_hop_is_dropped_in_silence,
    an_error_without_a_way_is_dropped,
    an_error_too_big_for_the_next_hop_is_dropped,
    a_wrong_checksum_stays_wrong,
    what_is_not_ours_passes_unchanged,
);

/// Port unreachable, of the family.
fn kind<A: Kin>() -> (u8, u8) {
    match A::FAMILY {
        Family::V4 => (3, 3),
        Family::V6 => (1, 4),
    }
}

fn header<A: Kin>() -> usize {
    match A::FAMILY {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// A router, in a network that leads there.
fn router<A: Kin>() -> A {
    A::of(5, 0x999)
}

/// What somebody who was handed a packet says to its sender.
fn about<A: Kin>(seen: &Frame, sender: A) -> Error {
    Error {
        link: Frame::udp((sender, 0), (sender, 0)).link,
        source: sender.into(),
        destination: seen.source.ip(),
        hop_limit: 64,
        options: 0,
        kind: kind::<A>(),
        word: 0,
        quoted: seen.bytes()[14..].to_vec(),
    }
}

/// The error that its receiver must get: it quotes what the receiver sent, with the transport checksum and hop limit of
/// the packet that came through.
fn expected<A: Kin>(error: &Error, sender: A, original: &Frame) -> Error {
    let mut quoted = Frame {
        hop_limit: match A::FAMILY {
            Family::V4 => error.quoted[8],
            Family::V6 => error.quoted[7],
        },
        ..original.clone()
    }
    .bytes()[14..]
        .to_vec();
    let (offset, size) = match original.transport {
        Transport::Tcp(..) => (16, 2),
        Transport::Udp(_) => (6, 2),
        Transport::Sctp(..) => (8, 4),
    };
    let field = header::<A>() + usize::from(original.options) * (header::<A>() / 5) + offset;
    quoted.truncate(error.quoted.len());
    let end = quoted.len().min(field + size);
    if field < end {
        quoted[field..end].copy_from_slice(&error.quoted[field..end]);
    }
    Error {
        source: sender.into(),
        destination: original.source.ip(),
        quoted,
        ..error.clone()
    }
}

/// Runs a program on an error, under CHECKSUM_COMPLETE and without.
#[track_caller]
fn run<A: Kin>(stage: &Stage<A>, name: &str, bytes: &[u8], verdict: i32) -> Vec<u8> {
    let context = |is_summed| Context {
        interface: stage.interface(name),
        is_summed,
        ..Context::default()
    };
    let output = stage.run_in(name, bytes, context(false));
    assert_eq!(output.verdict, verdict, "{name}");
    assert_eq!(stage.run_in(name, bytes, context(true)), output, "{name}");
    output.packet
}

#[track_caller]
fn send<A: Kin>(stage: &Stage<A>, name: &str, error: &Error, verdict: i32) -> Error {
    Error::read(&run(stage, name, &error.bytes(), verdict))
}

#[track_caller]
fn passes<A: Kin>(stage: &Stage<A>, name: &str, error: &Error) {
    assert_eq!(run(stage, name, &error.bytes(), PASS), error.bytes(), "{name}");
}

fn answer(seen: &Frame) -> Frame {
    seen.clone().turned().numbered(tcp::SYN | tcp::ACK, 5000, 1001)
}

fn an_error_about_a_pods_call_reaches_it<A: Kin>() {
    for backend in [local(1), remote(1)] {
        let stage = Stage::<A>::new(&[backend]);
        for call in calls((pod::<A>(), 40000), (cluster_ip(), 80)) {
            let seen = stage.send(program::FROM_POD, &call, PASS);
            for (sender, shown) in [
                (backend, cluster_ip::<A>()),
                (router(), router()),
                (node(), node()),
            ] {
                let error = about(&seen, sender);
                passes(&stage, program::FROM_NETWORK, &error);
                let shown = expected(&error, shown, &call);
                assert_eq!(send(&stage, program::TO_POD, &error, PASS), shown);
            }
            // The pod's own, about the reply.
            let reply = answer(&seen);
            let error = about(&stage.send(program::TO_POD, &reply, PASS), pod::<A>());
            let told = expected(&error, pod::<A>(), &reply);
            assert_eq!(send(&stage, program::FROM_POD, &error, PASS), told);
        }
    }
}

fn an_error_of_a_local_backend_leaves_in_the_frontends_name<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for frontend in [(node::<A>(), NODE_PORT), (balancer(), 80)] {
        for call in calls((client::<A>(), 40000), frontend) {
            let seen = stage.send(program::FROM_NETWORK, &call, PASS);
            for (sender, shown) in [
                (local::<A>(1), frontend.0),
                (router(), router()),
                (node(), node()),
            ] {
                let error = about(&seen, sender);
                passes(&stage, program::FROM_POD, &error);
                let shown = expected(&error, shown, &call);
                assert_eq!(send(&stage, program::TO_NETWORK, &error, PASS), shown);
            }
        }
    }
}

fn lowered(error: Error) -> Error {
    Error {
        hop_limit: error.hop_limit - 1,
        ..error
    }
}

fn an_error_about_a_redirected_call_reaches_its_client<A: Kin>() {
    let mut stage = Stage::<A>::new(&[remote(1)]);
    for frontend in [(node::<A>(), NODE_PORT), (balancer(), 80)] {
        for call in calls((client::<A>(), 40000), frontend) {
            let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
            let before = stage.kernel.flows::<A>();
            let counted = stage.kernel.counted(Counter::ErrorTranslated);
            for sender in [remote::<A>(1), router()] {
                let error = about(&seen, sender);
                let shown = lowered(expected(&error, frontend.0, &call));
                assert_eq!(send(&stage, program::FROM_NETWORK, &error, REDIRECT), shown);
            }
            assert_eq!(stage.kernel.counted(Counter::ErrorTranslated), counted + 4);
            assert_eq!(stage.kernel.flows::<A>().len(), before.len());
            for flow in before {
                assert_eq!(stage.kernel.flow(flow.0, &flow.1), Some(flow.2), "it was noted");
            }
        }
    }
}

fn a_clients_error_reaches_the_backend<A: Kin>() {
    for (backend, verdict, back) in [
        (local(1), PASS, program::TO_NETWORK),
        (remote(1), REDIRECT, program::FROM_NETWORK),
    ] {
        let stage = Stage::<A>::new(&[backend]);
        for call in calls((client::<A>(), 40000), (node(), NODE_PORT)) {
            let seen = stage.send(program::FROM_NETWORK, &call, verdict);
            let reply = answer(&seen);
            let shown = stage.send(back, &reply, verdict);
            for sender in [client::<A>(), router()] {
                let error = about(&shown, sender);
                let told = if verdict == PASS {
                    expected(&error, sender, &reply)
                } else {
                    lowered(expected(&error, node::<A>(), &reply))
                };
                assert_eq!(send(&stage, program::FROM_NETWORK, &error, verdict), told);
            }
        }
    }
}

fn errors_about_a_hairpin_go_back_to_the_pod<A: Kin>() {
    let stage = Stage::<A>::new(&[local(1)]);
    for call in calls((local::<A>(1), 40000), (cluster_ip(), 80)) {
        let seen = stage.send(program::FROM_POD, &call, REDIRECT);
        let reply = answer(&seen);
        let shown = stage.send(program::FROM_POD, &reply, REDIRECT);
        for (passed_on, original, sender) in [(seen, call, cluster_ip::<A>()), (shown, reply, node())] {
            let error = about(&passed_on, local::<A>(1));
            let told = lowered(expected(&error, sender, &original));
            let told = Error {
                link: [told.link[1], told.link[0]],
                ..told
            };
            assert_eq!(send(&stage, program::FROM_POD, &error, REDIRECT), told);
        }
    }
}

fn options_of_both_headers_are_stepped_over<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    for options in 0..=10 {
        for call in calls((client::<A>(), 40000), (node(), NODE_PORT)) {
            let call = Frame { options, ..call };
            let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
            for outside in [0, 1, 10] {
                let error = Error {
                    options: outside,
                    ..about(&seen, remote::<A>(1))
                };
                let shown = lowered(expected(&error, node::<A>(), &call));
                assert_eq!(send(&stage, program::FROM_NETWORK, &error, REDIRECT), shown);
            }
        }
    }
}

/// From what RFC 792 asks for to more than a program reads at once; also an odd number of bytes.
fn a_quote_is_translated_wherever_it_is_cut<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    for call in calls((client::<A>(), 40000), (node(), NODE_PORT)) {
        let call = Frame {
            payload: vec![7; 600],
            ..call
        };
        let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
        let whole = about(&seen, remote::<A>(1));
        for length in (0..header::<A>() + 40).chain([500, whole.quoted.len()]) {
            let mut error = whole.clone();
            error.quoted.truncate(length);
            if length < header::<A>() + 4 {
                passes(&stage, program::FROM_NETWORK, &error);
                continue;
            }
            let shown = lowered(expected(&error, node::<A>(), &call));
            assert_eq!(
                send(&stage, program::FROM_NETWORK, &error, REDIRECT),
                shown,
                "{length}"
            );
        }
        // The frame itself may be cut short anywhere: a program must not stumble.
        let bytes = whole.bytes();
        for length in 14 + header::<A>()..200 {
            stage.run(program::FROM_NETWORK, &bytes[..length]);
        }
    }
}

#[track_caller]
fn is_dropped<A: Kin>(stage: &Stage<A>, error: &Error, reason: Counter) {
    let before = [reason, Counter::ErrorSent].map(|counter| stage.kernel.counted(counter));
    run(stage, program::FROM_NETWORK, &error.bytes(), SHOT);
    let after = [reason, Counter::ErrorSent].map(|counter| stage.kernel.counted(counter));
    assert_eq!(after, [before[0] + 2, before[1]], "{}", reason.name());
}

fn an_error_at_its_last_hop_is_dropped_in_silence<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    let call = Frame::udp((client::<A>(), 40000), (node::<A>(), NODE_PORT));
    let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
    for hop_limit in [0, 1] {
        let error = Error {
            hop_limit,
            ..about(&seen, remote::<A>(1))
        };
        is_dropped(&stage, &error, Counter::HopLimit);
    }
}

fn an_error_without_a_way_is_dropped<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    let call = Frame::udp((A::of(9, 1), 40000), (node::<A>(), NODE_PORT));
    let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
    is_dropped(&stage, &about(&seen, remote::<A>(1)), Counter::NoRoute);
}

/// A client behind an interface with an MTU of 1280.
fn an_error_too_big_for_the_next_hop_is_dropped<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    let call = Frame {
        payload: vec![7; 1400],
        ..Frame::udp((A::of(6, 2), 40000), (node::<A>(), NODE_PORT))
    };
    let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
    let with = |length: usize| {
        let mut error = about(&seen, remote::<A>(1));
        error.quoted.truncate(length - header::<A>() - 8);
        error
    };
    let fits = with(1280);
    let shown = lowered(expected(&fits, node::<A>(), &call));
    assert_eq!(send(&stage, program::FROM_NETWORK, &fits, REDIRECT), shown);
    is_dropped(&stage, &with(1281), Counter::TooBig);
}

/// Who translates must not make a broken message look whole.
fn a_wrong_checksum_stays_wrong<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    let call = Frame::udp((client::<A>(), 40000), (node::<A>(), NODE_PORT));
    let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
    let mut bytes = about(&seen, remote::<A>(1)).bytes();
    bytes[14 + header::<A>() + 2] ^= 0x40;
    let broken = run(&stage, program::FROM_NETWORK, &bytes, REDIRECT);
    let result = std::panic::catch_unwind(|| Error::read(&broken));
    assert!(result.is_err(), "the checksum was made right");
}

fn what_is_not_ours_passes_unchanged<A: Kin>() {
    let stage = Stage::<A>::new(&[remote(1)]);
    let call = Frame::udp((client::<A>(), 40000), (node::<A>(), NODE_PORT));
    let seen = stage.send(program::FROM_NETWORK, &call, REDIRECT);
    let ours = about(&seen, remote::<A>(1));
    let programs = [
        program::FROM_POD,
        program::TO_POD,
        program::FROM_NETWORK,
        program::TO_NETWORK,
    ];
    let stranger = Frame::udp((node::<A>(), 33000), (remote::<A>(1), TARGET));
    for name in programs {
        // Echo, and neighbour discovery in IPv6.
        for kind in [0, 8, 128, 129, 133, 134, 135, 136] {
            let other = Error {
                kind: (kind, 0),
                ..ours.clone()
            };
            passes(&stage, name, &other);
        }
        passes(&stage, name, &about(&stranger, remote::<A>(1)));
        let for_another = Error {
            destination: client::<A>().into(),
            ..ours.clone()
        };
        passes(&stage, name, &for_another);
    }
}
