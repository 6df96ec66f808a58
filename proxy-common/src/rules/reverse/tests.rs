//! Replies: where they are translated, and where they must not be.

use crate::layout::{Counter, Direction, protocol};
use crate::rules::Decision;
use crate::rules::headers::tcp;
use crate::rules::scene::*;

in_both_families!(
    a_reply_that_goes_through_the_stack_is_translated_behind_it_only,
    a_reply_of_a_redirected_flow_is_translated_at_ingress_only,
    a_reply_of_a_dead_backend_is_translated,
    a_reply_without_a_flow_passes_and_counts,
    a_reply_from_another_port_or_address_passes,
    a_port_is_free_for_the_backends_own_address_once_its_flow_is_over,
);

/// Rule 1: the stack sees client and backend in both directions. A client's own port may well be of the SNAT range.
fn a_reply_that_goes_through_the_stack_is_translated_behind_it_only<A: Spoken>() {
    for make in [Packet::syn, Packet::udp, Packet::init] {
        let cases = [
            (LOCAL, POD, Hook::FromPod, Hook::FromPod, Hook::ToPod),
            (REMOTE, POD, Hook::FromPod, Hook::FromNetwork, Hook::ToPod),
            (LOCAL, CLIENT, Hook::FromNetwork, Hook::FromPod, Hook::ToNetwork),
        ];
        for (backend, client, call, before, behind) in cases {
            let mut scene = Scene::<A>::new(&[backend]);
            let packet = make((client, CONFIG.snat_first + 7), (LOAD_BALANCER, 80));
            let seen = scene.translated(call, packet);
            let reply = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
            assert_eq!(scene.send(before, reply), Decision::Pass, "{before:?}");
            let shown = scene.translated(behind, reply);
            assert_eq!(
                (shown.source, shown.destination),
                (packet.destination, packet.source)
            );
        }
    }
}

fn a_reply_of_a_redirected_flow_is_translated_at_ingress_only<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    let call = Packet::udp((CLIENT, 1), (LOAD_BALANCER, 80));
    let seen = scene.translated(Hook::FromNetwork, call);
    let shown = scene.translated(Hook::FromNetwork, seen.turned());
    assert_eq!((shown.source, shown.destination), (call.destination, call.source));
}

fn a_reply_of_a_dead_backend_is_translated<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let call = Packet::udp((POD, 1), (CLUSTER_IP, 80));
    let seen = scene.translated(Hook::FromPod, call);
    scene.node.kill_backend(Scene::<A>::id(protocol::UDP, 1));
    assert_eq!(
        scene.translated(Hook::ToPod, seen.turned()).source,
        call.destination
    );
}

fn a_reply_without_a_flow_passes_and_counts<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let reply = Packet::udp((LOCAL, TARGET_PORT), (POD, 1));
    assert_eq!(scene.send(Hook::ToPod, reply), Decision::Pass);
    assert_eq!(scene.send(Hook::ToNetwork, reply), Decision::Pass);
    assert_eq!(scene.counted(Counter::ReverseWithoutFlow), 2);
}

fn a_reply_from_another_port_or_address_passes<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    scene.node.script([0]);
    let seen = scene.translated(Hook::FromPod, Packet::udp((POD, 1), (CLUSTER_IP, 80)));
    for reply in [
        Packet {
            source: (A::of(LOCAL + 1), TARGET_PORT),
            ..seen.turned()
        },
        Packet {
            source: (A::of(LOCAL), TARGET_PORT + 1),
            ..seen.turned()
        },
        Packet {
            destination: (A::of(POD), 2),
            ..seen.turned()
        },
        Packet {
            protocol: protocol::TCP,
            flags: tcp::ACK,
            ..seen.turned()
        },
    ] {
        assert_eq!(scene.send(Hook::ToPod, reply), Decision::Pass);
    }
    assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (true, false));
}

/// The client's kernel gives the same port to a connection to a frontend and then to one to the backend itself.
fn a_port_is_free_for_the_backends_own_address_once_its_flow_is_over<A: Spoken>() {
    let fin = tcp::FIN | tcp::ACK;
    for closing in [[tcp::RST, tcp::RST], [fin, fin]] {
        let mut scene = Scene::<A>::new(&[LOCAL]);
        let (syn, seen) = scene.establish(
            Hook::FromNetwork,
            Packet::syn((CLIENT, 40000), (LOAD_BALANCER, 80)),
        );
        let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(7000, 2001);
        scene.translated(Hook::ToNetwork, answer);
        scene.translated(Hook::FromNetwork, syn.with_flags(closing[0]));
        scene.translated(Hook::ToNetwork, seen.turned().with_flags(closing[1]));
        assert_eq!(
            scene.send(Hook::FromNetwork, seen),
            Decision::Pass,
            "the backend's own address"
        );
        assert_eq!(scene.send(Hook::ToNetwork, answer), Decision::Pass, "its answer");
        assert_eq!(scene.tables(&syn, Direction::Forward), (false, false));
        assert_eq!(scene.tables(&answer, Direction::Reverse), (false, false));
        let data = seen.turned().with_flags(tcp::ACK).with_payload(9);
        assert_eq!(scene.send(Hook::ToNetwork, data), Decision::Pass);
    }
}
