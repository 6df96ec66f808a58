//! Fragments of calls and of replies.

use crate::layout::{Counter, Direction, V6, protocol};
use crate::rules::Decision;
use crate::rules::scene::*;

in_both_families!(
    later_fragments_follow_the_first,
    fragments_of_replies_follow_the_first,
    a_later_fragment_without_the_first_is_dropped_where_it_would_go_astray,
    fragments_of_strangers_pass_and_are_not_remembered,
    identifications_keep_datagrams_apart,
    fragments_to_a_node_port_follow_the_first,
    later_fragments_of_another_datagram_do_not_make_flows,
);

const ALL: [Hook; 4] = [Hook::FromPod, Hook::ToPod, Hook::FromNetwork, Hook::ToNetwork];

fn first<A: Spoken>(packet: Packet<A>, id: u16) -> Packet<A> {
    Packet {
        fragment: Some((id, 0, true)),
        payload: 32,
        ..packet
    }
}

fn later<A: Spoken>(packet: Packet<A>, id: u16) -> Packet<A> {
    Packet {
        fragment: Some((id, 40, false)),
        ..packet
    }
}

fn later_fragments_follow_the_first<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1, LOCAL + 2]);
    for id in 0..20 {
        let call = Packet::udp((POD, 1000 + id), (CLUSTER_IP, 80));
        let seen = scene.translated(Hook::FromPod, first(call, id));
        let tail = scene.translated(Hook::FromPod, later(call, id));
        assert_eq!((tail.source, tail.destination), (seen.source, seen.destination));
        assert_eq!(scene.tables(&call, Direction::Forward), (true, false));
    }
    assert_eq!(scene.counted(Counter::FlowCreated), 20);
}

fn fragments_of_replies_follow_the_first<A: Spoken>() {
    for (backend, back) in [(LOCAL, Hook::ToNetwork), (REMOTE, Hook::FromNetwork)] {
        let mut scene = Scene::<A>::new(&[backend]);
        let call = Packet::udp((CLIENT, 1000), (LOAD_BALANCER, 80));
        let seen = scene.translated(Hook::FromNetwork, call);
        for packet in [first(seen.turned(), 7), later(seen.turned(), 7)] {
            let shown = scene.translated(back, packet);
            assert_eq!((shown.source, shown.destination), (call.destination, call.source));
        }
    }
}

fn a_later_fragment_without_the_first_is_dropped_where_it_would_go_astray<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let dropped = Decision::Drop(Counter::FragmentWithoutFirst);
    let to_frontend = Packet::udp((POD, 1), (CLUSTER_IP, 80));
    let of_backend = Packet::udp((LOCAL, TARGET_PORT), (POD, 1));
    for at in ALL {
        assert_eq!(scene.send(at, later(to_frontend, 1)), dropped);
        assert_eq!(scene.send(at, later(of_backend, 1)), dropped);
        // It may be a NodePort's; else the stack puts it together and knows what it is for.
        assert_eq!(
            scene.send(at, later(Packet::udp((CLIENT, 1), (NODE, 53)), 1)),
            Decision::AwaitFirst
        );
    }
}

fn fragments_of_strangers_pass_and_are_not_remembered<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let packet = Packet::udp((POD, 1), (CLIENT, 53));
    for at in ALL {
        assert_eq!(scene.send(at, later(packet, 1)), Decision::Pass);
        assert_eq!(scene.send(at, first(packet, 1)), Decision::Pass);
    }
    assert!(scene.node.fragments.borrow().is_empty());
}

fn identifications_keep_datagrams_apart<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let call = |port| Packet::<A>::udp((POD, port), (CLUSTER_IP, 80));
    scene.translated(Hook::FromPod, first(call(1), 1));
    scene.translated(Hook::FromPod, first(call(2), 2));
    for id in [1, 2] {
        assert_eq!(scene.translated(Hook::FromPod, later(call(9), id)).source.1, id);
    }
    let other_protocol = Packet {
        protocol: protocol::TCP,
        ..later(call(1), 1)
    };
    let dropped = Decision::Drop(Counter::FragmentWithoutFirst);
    // In IPv6 the identification alone counts (RFC 8200 §4.5).
    if A::FAMILY == crate::layout::Family::V4 {
        assert_eq!(scene.send(Hook::FromPod, other_protocol), dropped);
    }
    assert_eq!(scene.send(Hook::FromPod, later(call(1), 3)), dropped);
}

fn fragments_to_a_node_port_follow_the_first<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    let call = Packet::udp((CLIENT, 1), (NODE, NODE_PORT));
    let seen = scene.translated(Hook::FromNetwork, first(call, 5));
    let tail = scene.translated(Hook::FromNetwork, later(call, 5));
    assert_eq!((tail.source, tail.destination), (seen.source, seen.destination));
}

/// A fragmented TCP segment's tail carries no flags: it follows a flow and makes none.
fn later_fragments_of_another_datagram_do_not_make_flows<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let call = Packet::syn((POD, 1), (CLUSTER_IP, 80));
    let seen = scene.translated(Hook::FromPod, first(call, 1));
    assert_eq!(
        scene.translated(Hook::FromPod, later(call, 1)).destination,
        seen.destination
    );
    scene.node.flows.borrow_mut().clear();
    assert_eq!(scene.send(Hook::FromPod, later(call, 1)), Decision::Pass);
    assert!(scene.node.flows.borrow().is_empty());
}

/// Of a chain behind the fragment header the later fragments name the first header only (RFC 8200 §4.5).
#[test]
fn destination_options_behind_the_fragment_header_hide_no_later_fragment() {
    let mut scene = Scene::<V6>::new(&[LOCAL]);
    let call = Packet::<V6>::udp((POD, 1), (CLUSTER_IP, 80));
    let mut head = first(call, 1).bytes();
    let rest = head.split_off(48);
    for next in [43, 60] {
        head[40] = next;
        let with_options = [&head[..], &[protocol::UDP, 0, 1, 4, 0, 0, 0, 0], &rest].concat();
        let length = (with_options.len() as u16 - 40).to_be_bytes();
        let with_options = [&with_options[..4], &length, &with_options[6..]].concat();
        let verdict = scene.verdict(Hook::FromPod, &with_options).decision();
        assert!(matches!(verdict, Decision::Translate(_)), "{verdict:?}");
        let seen = scene.work.flow;
        let mut tail = later(call, 1).bytes();
        tail[40] = next;
        let verdict = scene.verdict(Hook::FromPod, &tail).decision();
        assert!(matches!(verdict, Decision::Translate(_)), "{verdict:?}");
        assert!(scene.work.flow.same_tuple(&seen));
        scene.node.fragments.borrow_mut().clear();
        let dropped = Decision::Drop(Counter::FragmentWithoutFirst);
        assert_eq!(scene.verdict(Hook::FromPod, &tail).decision(), dropped);
    }
}
