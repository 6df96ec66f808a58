//! ICMP errors of both ends and of routers between, at every hook, about packets of every way.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::layout::{FlowTable, V4, V6, protocol};
use crate::rules::Decision;
use crate::rules::headers::tcp;
use crate::rules::scene::*;

in_both_families!(
    an_error_about_a_pods_call_reaches_the_pod,
    an_error_about_a_call_to_a_local_backend_is_translated_behind_the_stack_only,
    an_error_about_a_redirected_call_reaches_the_client,
    errors_about_what_goes_around_the_stack_go_around_it,
    a_clients_error_about_a_reply_reaches_the_backend,
    a_pods_error_about_a_reply_reaches_the_backend,
    errors_about_a_hairpin_go_back_to_the_pod,
    the_flow_does_not_notice,
    without_a_live_flow_an_error_passes,
    a_foreign_flow_is_left_alone,
    eight_bytes_of_the_transport_header_are_enough,
    bytes_behind_the_error_do_not_count,
    a_later_fragment_has_no_ports,
    a_first_fragment_has_ports,
    an_error_for_somebody_else_passes,
    other_messages_pass,
    errors_about_errors_pass,
);

const ALL: [Hook; 4] = [Hook::FromPod, Hook::ToPod, Hook::FromNetwork, Hook::ToNetwork];
const ROUTER: u16 = 0x2999;

fn number<A: Spoken>() -> u8 {
    match A::FAMILY {
        crate::layout::Family::V4 => protocol::ICMP,
        crate::layout::Family::V6 => protocol::ICMPV6,
    }
}

/// Types of messages that are errors about packets.
fn errors<A: Spoken>() -> &'static [u8] {
    match A::FAMILY {
        crate::layout::Family::V4 => &[3, 11, 12],
        crate::layout::Family::V6 => &[1, 2, 3, 4],
    }
}

fn message<A: Spoken>(kind: u8, sender: A, receiver: A, quoted: &[u8]) -> Vec<u8> {
    let outer = Packet {
        protocol: number::<A>(),
        source: (sender, 0),
        destination: (receiver, 0),
        ..Packet::udp((0, 0), (0, 0))
    };
    A::wrap(&outer, &[&[kind, 0, 0, 0, 0, 0, 0, 0], quoted].concat())
}

/// What somebody who was handed a packet says to its sender.
fn about<A: Spoken>(packet: &Packet<A>, sender: A) -> Vec<u8> {
    message(errors::<A>()[0], sender, packet.source.0, &packet.bytes())
}

/// An error as it leaves a hook.
#[derive(Debug, PartialEq, Eq)]
struct Seen<A> {
    action: Action,
    outer: (A, A),
    quoted: ((A, u16), (A, u16)),
}

#[track_caller]
fn translated<A: Spoken>(scene: &mut Scene<A>, at: Hook, bytes: &[u8]) -> Seen<A> {
    let decision = scene.verdict(at, bytes).decision();
    let Decision::TranslateError(action) = decision else {
        panic!("{decision:?} at {at:?}");
    };
    let error = scene.work.error_after();
    Seen {
        action,
        outer: (*error.outer.0, *error.outer.1),
        quoted: (
            (*error.addresses.0, error.ports.0.number()),
            (*error.addresses.1, error.ports.1.number()),
        ),
    }
}

#[track_caller]
fn passes<A: Spoken>(scene: &mut Scene<A>, at: Hook, bytes: &[u8]) {
    assert_eq!(scene.verdict(at, bytes).decision(), Decision::Pass, "{at:?}");
}

/// The packet as `original`'s sender sent it, `far` in the place of a sender that is the far end.
fn seen<A: Spoken>(action: Action, sender: A, original: &Packet<A>) -> Seen<A> {
    Seen {
        action,
        outer: (sender, original.source.0),
        quoted: (original.source, original.destination),
    }
}

/// From the pod, or a router before it, to the client; and from the client to the pod.
fn errors_about_what_goes_around_the_stack_go_around_it<A: Spoken>() {
    for (at, client) in [(Hook::FromNetwork, CLIENT), (Hook::FromPod, POD)] {
        let mut scene = Scene::<A>::new(&[LOCAL]);
        scene.node.config.flags = crate::layout::CONFIG_FAST;
        scene.node.ways.insert(A::of(LOCAL), crate::rules::Origin::Pod);
        for call in both((client, 1000), (CLUSTER_IP, 80)) {
            let there = scene.translated(at, call);
            assert_eq!(
                translated(&mut scene, Hook::FromPod, &about(&there, A::of(LOCAL))),
                seen(Action::Bypass, A::of(CLUSTER_IP), &call)
            );
            assert_eq!(
                translated(&mut scene, Hook::FromPod, &about(&there, A::of(ROUTER))),
                seen(Action::Bypass, A::of(ROUTER), &call)
            );
            let reply = there.turned();
            let shown = scene.translated(Hook::FromPod, reply);
            assert_eq!(
                translated(&mut scene, at, &about(&shown, A::of(client))),
                seen(Action::Bypass, A::of(client), &reply)
            );
        }
    }
}

fn both<A: Spoken>(source: (u16, u16), destination: (u16, u16)) -> [Packet<A>; 2] {
    [Packet::syn(source, destination), Packet::udp(source, destination)]
}

fn an_error_about_a_pods_call_reaches_the_pod<A: Spoken>() {
    for backend in [LOCAL, REMOTE] {
        let mut scene = Scene::<A>::new(&[backend]);
        for call in both((POD, 1000), (CLUSTER_IP, 80)) {
            let there = scene.translated(Hook::FromPod, call);
            let from_backend = about(&there, A::of(backend));
            for at in [Hook::FromPod, Hook::FromNetwork] {
                passes(&mut scene, at, &from_backend);
            }
            assert_eq!(
                translated(&mut scene, Hook::ToPod, &from_backend),
                seen(Action::Stack, A::of(CLUSTER_IP), &call)
            );
            // The node itself, whose way to the backend is narrow, or a router.
            for router in [NODE, ROUTER] {
                assert_eq!(
                    translated(&mut scene, Hook::ToPod, &about(&there, A::of(router))),
                    seen(Action::Stack, A::of(router), &call)
                );
            }
        }
    }
}

fn an_error_about_a_call_to_a_local_backend_is_translated_behind_the_stack_only<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for destination in [(NODE, NODE_PORT), (LOAD_BALANCER, 80)] {
        for call in both((CLIENT, 1000), destination) {
            let there = scene.translated(Hook::FromNetwork, call);
            for (sender, shown) in [(LOCAL, destination.0), (NODE, NODE), (ROUTER, ROUTER)] {
                let error = about(&there, A::of(sender));
                passes(&mut scene, Hook::FromPod, &error);
                passes(&mut scene, Hook::FromNetwork, &error);
                assert_eq!(
                    translated(&mut scene, Hook::ToNetwork, &error),
                    seen(Action::Stack, A::of(shown), &call)
                );
            }
        }
    }
}

fn an_error_about_a_redirected_call_reaches_the_client<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    for destination in [(NODE, NODE_PORT), (LOAD_BALANCER, 80)] {
        for call in both((CLIENT, 1000), destination) {
            let there = scene.translated(Hook::FromNetwork, call);
            for sender in [REMOTE, ROUTER] {
                let error = about(&there, A::of(sender));
                // It is answered in the name that the client called.
                assert_eq!(
                    translated(&mut scene, Hook::FromNetwork, &error),
                    seen(Action::Redirect, A::of(destination.0), &call)
                );
                passes(&mut scene, Hook::ToNetwork, &error);
                passes(&mut scene, Hook::ToPod, &error);
            }
        }
    }
}

fn a_clients_error_about_a_reply_reaches_the_backend<A: Spoken>() {
    for (backend, action, back) in [
        (LOCAL, Action::Stack, Hook::ToNetwork),
        (REMOTE, Action::Redirect, Hook::FromNetwork),
    ] {
        let mut scene = Scene::<A>::new(&[backend]);
        for call in both((CLIENT, 1000), (NODE, NODE_PORT)) {
            let there = scene.translated(Hook::FromNetwork, call);
            let reply = there.turned().with_flags(tcp::SYN | tcp::ACK);
            let shown = scene.translated(back, reply);
            for sender in [CLIENT, ROUTER] {
                let error = about(&shown, A::of(sender));
                // A backend elsewhere knows this node alone.
                let outer = if action == Action::Stack {
                    A::of(sender)
                } else {
                    there.source.0
                };
                assert_eq!(
                    translated(&mut scene, Hook::FromNetwork, &error),
                    seen(action, outer, &reply)
                );
                passes(&mut scene, Hook::ToNetwork, &error);
            }
        }
    }
}

fn a_pods_error_about_a_reply_reaches_the_backend<A: Spoken>() {
    for backend in [LOCAL, REMOTE] {
        let mut scene = Scene::<A>::new(&[backend]);
        for call in both((POD, 1000), (CLUSTER_IP, 80)) {
            let reply = scene.translated(Hook::FromPod, call).turned();
            let shown = scene.translated(Hook::ToPod, reply);
            assert_eq!(
                translated(&mut scene, Hook::FromPod, &about(&shown, A::of(POD))),
                seen(Action::Stack, A::of(POD), &reply)
            );
        }
    }
}

fn errors_about_a_hairpin_go_back_to_the_pod<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for call in both((LOCAL, 1000), (CLUSTER_IP, 80)) {
        let there = scene.translated(Hook::FromPod, call);
        assert_eq!(
            translated(&mut scene, Hook::FromPod, &about(&there, A::of(LOCAL))),
            seen(Action::Hairpin, A::of(CLUSTER_IP), &call)
        );
        let reply = there.turned();
        let shown = scene.translated(Hook::FromPod, reply);
        assert_eq!(
            translated(&mut scene, Hook::FromPod, &about(&shown, A::of(LOCAL))),
            seen(Action::Hairpin, A::of(NODE), &reply)
        );
    }
}

/// Anyone can send an error: it must neither prolong nor promote nor end what it is about.
fn the_flow_does_not_notice<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let udp = Packet::udp((POD, 1000), (CLUSTER_IP, 80));
    let there = scene.translated(Hook::FromPod, udp);
    let shown = scene.translated(Hook::ToPod, there.turned());
    let (_, established) = scene.establish(Hook::FromPod, Packet::syn((POD, 1001), (CLUSTER_IP, 80)));
    let before = scene.node.flows.borrow().clone();
    scene.node.advance(5 * SECOND);
    for (at, error) in [
        (Hook::ToPod, about(&there, A::of(LOCAL))),
        (Hook::FromPod, about(&shown, A::of(POD))),
        (Hook::ToPod, about(&established, A::of(ROUTER))),
    ] {
        for kind in errors::<A>() {
            let mut error = error.clone();
            error[A::wrap(&udp, &[]).len()] = *kind;
            translated(&mut scene, at, &error);
        }
    }
    assert_eq!(*scene.node.flows.borrow(), before);
    assert_eq!(
        scene.counted(Counter::ErrorTranslated),
        3 * errors::<A>().len() as u64
    );
    assert_eq!(scene.tables(&udp, Direction::Forward), (true, false));
}

fn without_a_live_flow_an_error_passes<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let call = Packet::<A>::udp((POD, 1000), (CLUSTER_IP, 80));
    let never = Packet::<A>::udp((POD, 1000), (LOCAL, TARGET_PORT));
    for at in ALL {
        passes(&mut scene, at, &about(&never, A::of(LOCAL)));
        passes(&mut scene, at, &about(&call.turned(), A::of(POD)));
    }
    let there = scene.translated(Hook::FromPod, call);
    let error = about(&there, A::of(LOCAL));
    scene.node.advance(30 * SECOND);
    translated(&mut scene, Hook::ToPod, &error);
    scene.node.advance(1);
    passes(&mut scene, Hook::ToPod, &error);
    assert_eq!(scene.counted(Counter::ErrorTranslated), 1);
}

fn a_foreign_flow_is_left_alone<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    let foreign = Packet::udp((NODE, CONFIG.snat_first), (REMOTE, TARGET_PORT));
    assert_eq!(scene.send(Hook::ToNetwork, foreign), Decision::Pass);
    assert!(
        scene
            .node
            .entry(FlowTable::Embryos, &foreign.turned().key(Direction::Reverse))
            .is_some()
    );
    for at in ALL {
        passes(&mut scene, at, &about(&foreign, A::of(REMOTE)));
    }
}

fn eight_bytes_of_the_transport_header_are_enough<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    for call in both((CLIENT, 1000), (NODE, NODE_PORT)) {
        let there = scene.translated(Hook::FromNetwork, call);
        let whole = there.bytes();
        let header = A::wrap(&there, &[]).len();
        for length in 0..=whole.len() {
            let error = message(errors::<A>()[0], A::of(ROUTER), there.source.0, &whole[..length]);
            // The ports alone are looked at.
            if length < header + 4 {
                passes(&mut scene, Hook::FromNetwork, &error);
            } else {
                assert_eq!(
                    translated(&mut scene, Hook::FromNetwork, &error),
                    seen(Action::Redirect, A::of(NODE), &call)
                );
            }
        }
    }
}

/// Ethernet's padding is no quote.
fn bytes_behind_the_error_do_not_count<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    let there = scene.translated(Hook::FromNetwork, Packet::udp((CLIENT, 1000), (NODE, NODE_PORT)));
    let (quoted, cut) = (there.bytes(), A::wrap(&there, &[]).len() + 2);
    let mut error = message(errors::<A>()[0], A::of(ROUTER), there.source.0, &quoted[..cut]);
    error.extend(&quoted[cut..]);
    passes(&mut scene, Hook::FromNetwork, &error);
}

fn a_later_fragment_has_no_ports<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let call = Packet::udp((POD, 1000), (CLUSTER_IP, 80));
    let there = Packet {
        fragment: Some((7, 64, true)),
        ..scene.translated(Hook::FromPod, call)
    };
    passes(&mut scene, Hook::ToPod, &about(&there, A::of(LOCAL)));
    assert_eq!(scene.counted(Counter::ErrorWithoutPorts), 1);
    let strangers = Packet {
        fragment: Some((7, 64, true)),
        ..Packet::udp((POD, 1000), (CLIENT, 80))
    };
    passes(&mut scene, Hook::ToPod, &about(&strangers, A::of(CLIENT)));
    assert_eq!(scene.counted(Counter::ErrorWithoutPorts), 1);
}

fn a_first_fragment_has_ports<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let call = Packet::udp((POD, 1000), (CLUSTER_IP, 80));
    let there = Packet {
        fragment: Some((7, 0, true)),
        ..scene.translated(Hook::FromPod, call)
    };
    assert_eq!(
        translated(&mut scene, Hook::ToPod, &about(&there, A::of(LOCAL))),
        seen(Action::Stack, A::of(CLUSTER_IP), &call)
    );
}

/// An error goes to the sender of what it quotes, or is none.
fn an_error_for_somebody_else_passes<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let there = scene.translated(Hook::FromPod, Packet::udp((POD, 1000), (CLUSTER_IP, 80)));
    let error = message(errors::<A>()[0], A::of(LOCAL), A::of(CLIENT), &there.bytes());
    for at in ALL {
        passes(&mut scene, at, &error);
    }
}

fn other_messages_pass<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let there = scene.translated(Hook::FromPod, Packet::udp((POD, 1000), (CLUSTER_IP, 80)));
    let before = scene.node.accesses.get();
    for kind in (0..=255).filter(|kind| !errors::<A>().contains(kind)) {
        let other = message(kind, A::of(LOCAL), there.source.0, &there.bytes());
        for at in ALL {
            passes(&mut scene, at, &other);
        }
    }
    assert_eq!(scene.node.accesses.get(), before);
}

fn errors_about_errors_pass<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let there = scene.translated(Hook::FromPod, Packet::udp((POD, 1000), (CLUSTER_IP, 80)));
    let error = about(&there, A::of(LOCAL));
    let again = message(errors::<A>()[0], A::of(POD), A::of(LOCAL), &error);
    for at in ALL {
        passes(&mut scene, at, &again);
    }
}

fn quoting<A: Spoken>(inner: &[u8]) -> (Parsed, crate::rules::Headers<A>) {
    let mut packet = crate::rules::Headers::default();
    let parsed = A::parse_quoted(&inner, &mut packet);
    (parsed, packet)
}

#[test]
fn options_inside_are_stepped_over() {
    for words in 0..=10_u8 {
        let mut inner = Packet::<V4>::udp((1, 1000), (2, 80)).bytes();
        inner[0] = 0x45 + words;
        let options = std::iter::repeat_n(1, usize::from(words) * 4);
        let rest = inner.split_off(20);
        inner.extend(options);
        inner.extend(rest);
        let (parsed, packet) = quoting::<V4>(&inner);
        assert_eq!(parsed, Parsed::Transport);
        assert_eq!(
            (packet.source_port.number(), packet.destination_port.number()),
            (1000, 80)
        );
        assert_eq!(packet.transport, 20 + u32::from(words) * 4);
    }
}

#[test]
fn extension_headers_inside_are_stepped_over() {
    for (chain, known) in [
        (&[60_u8][..], true),
        (&[0, 43, 60], true),
        (&[44], true),
        (&[60, 44], true),
        (&[50], false),
        (&[60, 59], false),
    ] {
        let call = Packet::<V6>::udp((1, 1000), (2, 80));
        let mut inner = call.bytes();
        let rest = inner.split_off(40);
        inner[6] = chain[0];
        for next in chain[1..].iter().copied().chain([protocol::UDP]) {
            inner.extend([next, 0, 0, 0, 0, 0, 0, 0]);
        }
        inner.extend(rest);
        let (parsed, packet) = quoting::<V6>(&inner);
        assert_eq!(parsed == Parsed::Transport, known, "{chain:?}");
        if known {
            assert_eq!(
                (packet.source_port.number(), packet.protocol),
                (1000, protocol::UDP)
            );
            assert_eq!(packet.transport as usize, 40 + chain.len() * 8);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whoever calls whom by whatever: what comes back quotes what was sent, in both directions.
    #[test]
    fn an_error_quotes_what_its_receiver_sent(
        is_tcp: bool,
        is_pods: bool,
        port in 1_u16..,
        backends in proptest::collection::vec(prop_oneof![LOCAL..LOCAL + 3, REMOTE..REMOTE + 3], 1..4),
        frontend in prop_oneof![Just((CLUSTER_IP, 80)), Just((LOAD_BALANCER, 80)), Just((NODE, NODE_PORT))],
        from_far_end: bool,
        caller in prop_oneof![Just(POD), Just(LOCAL)],
    ) {
        let source = if is_pods { caller } else { CLIENT };
        round_trip::<V4>(is_tcp, is_pods, (source, port), frontend, &backends, from_far_end)?;
        round_trip::<V6>(is_tcp, is_pods, (source, port), frontend, &backends, from_far_end)?;
    }
}

fn round_trip<A: Spoken>(
    is_tcp: bool,
    is_pods: bool,
    source: (u16, u16),
    frontend: (u16, u16),
    backends: &[u16],
    from_far_end: bool,
) -> Result<(), TestCaseError> {
    let mut scene = Scene::<A>::new(backends);
    let call = if is_tcp {
        Packet::<A>::syn(source, frontend)
    } else {
        Packet::udp(source, frontend)
    };
    let there_at = if is_pods { Hook::FromPod } else { Hook::FromNetwork };
    let there = scene.translated(there_at, call);
    let action = scene.work.flow.action;
    let back_at = match Action::from_byte(action) {
        Some(Action::Stack) if is_pods => Hook::ToPod,
        Some(Action::Stack) => Hook::ToNetwork,
        _ => there_at,
    };
    let reply = there.turned().with_flags(tcp::SYN | tcp::ACK);
    let shown = scene.translated(back_at, reply);
    for (at, passed_on, original) in [(back_at, there, call), (there_at, shown, reply)] {
        let sender = if from_far_end {
            passed_on.destination.0
        } else {
            A::of(ROUTER)
        };
        let error = translated(&mut scene, at, &about(&passed_on, sender));
        prop_assert_eq!(error.quoted, (original.source, original.destination));
        prop_assert_eq!(error.outer.1, original.source.0);
        prop_assert_eq!(error.action as u8, action);
        let is_routers = !from_far_end && action == Action::Stack as u8;
        let expected = if is_routers {
            A::of(ROUTER)
        } else {
            original.destination.0
        };
        prop_assert_eq!(error.outer.0, expected);
    }
    Ok(())
}
