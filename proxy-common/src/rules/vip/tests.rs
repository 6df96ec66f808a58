//! Ping, unknown ports, and addresses that no Service has.

use std::vec::Vec;

use crate::layout::{CONFIG_NO_PING, Counter, Family, Network, NetworkList, protocol};
use crate::rules::headers::{echo, tcp};
use crate::rules::scene::*;
use crate::rules::{Decision, Verdict};

in_both_families!(
    a_services_address_answers_ping_wherever_it_is_met,
    ping_is_not_answered_without_endpoints_or_when_it_is_switched_off,
    an_address_of_the_node_itself_answers_by_its_own_stack,
    parts_of_a_long_ping_are_answered_each,
    an_unknown_port_of_a_cluster_address_is_refused_where_it_leaves,
    an_unknown_port_of_a_load_balancer_only_may_not_turn_back,
    an_address_that_no_service_has_is_dropped_where_it_leaves,
    without_service_cidrs_the_addresses_of_services_are_known_by_themselves,
    whatever_protocol_is_refused_at_a_cluster_address_but_icmp_is_not_told_of_icmp,
    icmp_without_a_flow_does_not_turn_back_either,
    what_is_everybody_elses_passes,
);

/// An address of the scene's ServiceCIDR that no Service has.
const NOBODYS: u16 = 0x10ff;
const INWARDS: [Hook; 2] = [Hook::FromPod, Hook::FromNetwork];
const OUTWARDS: [Hook; 2] = [Hook::ToNetwork, Hook::BackToNetwork];

fn scene<A: Spoken>(answers: bool) -> Scene<A> {
    let mut scene = Scene::<A>::new(&[LOCAL, REMOTE]);
    for (address, is_cluster) in [(CLUSTER_IP, true), (OTHER_IP, true), (LOAD_BALANCER, false)] {
        scene.node.set_vip(A::of(address), is_cluster, answers);
    }
    let bits = if A::FAMILY == Family::V4 { 24 } else { 120 };
    scene.node.service_networks = NetworkList::of([Network::new(A::of(0x1000), bits)]);
    scene
}

fn raw<A: Spoken>(
    from: u16,
    to: u16,
    ip_protocol: u8,
    fragment: Option<(u16, u16, bool)>,
    rest: &[u8],
) -> Vec<u8> {
    let packet = Packet {
        protocol: ip_protocol,
        fragment,
        ..Packet::<A>::udp((from, 0), (to, 0))
    };
    A::wrap(&packet, rest)
}

fn icmp<A: Spoken>() -> u8 {
    match A::FAMILY {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    }
}

fn ping<A: Spoken>(from: u16, to: u16) -> Vec<u8> {
    let request = [echo::request(A::FAMILY), 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4];
    raw::<A>(from, to, icmp::<A>(), None, &request)
}

fn see<A: Spoken>(scene: &mut Scene<A>, at: Hook, bytes: &[u8]) -> Decision {
    Verdict::decision(scene.verdict(at, bytes))
}

fn a_services_address_answers_ping_wherever_it_is_met<A: Spoken>() {
    let mut scene = scene::<A>(true);
    for to in [CLUSTER_IP, LOAD_BALANCER] {
        for at in INWARDS.into_iter().chain(OUTWARDS) {
            assert_eq!(
                see(&mut scene, at, &ping::<A>(CLIENT, to)),
                Decision::AnswerEcho,
                "{at:?}"
            );
        }
    }
    assert_eq!(scene.counted(Counter::PingAnswered), 8);
    assert_eq!(
        see(&mut scene, Hook::ToPod, &ping::<A>(CLIENT, CLUSTER_IP)),
        Decision::Pass
    );
}

fn ping_is_not_answered_without_endpoints_or_when_it_is_switched_off<A: Spoken>() {
    let mut silent = scene::<A>(true);
    silent.node.config.flags |= CONFIG_NO_PING;
    for mut scene in [silent, scene::<A>(false)] {
        for to in [CLUSTER_IP, LOAD_BALANCER] {
            for at in INWARDS {
                assert_eq!(see(&mut scene, at, &ping::<A>(POD, to)), Decision::Pass);
            }
        }
        let refused = Decision::Reject(Counter::UnknownPort);
        assert_eq!(
            see(&mut scene, Hook::ToNetwork, &ping::<A>(POD, CLUSTER_IP)),
            refused
        );
        let back = see(&mut scene, Hook::BackToNetwork, &ping::<A>(CLIENT, LOAD_BALANCER));
        assert_eq!(back, Decision::Drop(Counter::TurnedBack));
        assert_eq!(scene.counted(Counter::PingAnswered), 0);
    }
}

fn an_address_of_the_node_itself_answers_by_its_own_stack<A: Spoken>() {
    let mut scene = scene::<A>(true);
    scene.node.node_addresses.insert(A::of(LOAD_BALANCER));
    assert_eq!(
        see(&mut scene, Hook::FromNetwork, &ping::<A>(CLIENT, LOAD_BALANCER)),
        Decision::Pass
    );
}

fn parts_of_a_long_ping_are_answered_each<A: Spoken>() {
    let mut scene = scene::<A>(true);
    let first = [echo::request(A::FAMILY), 0, 0, 0, 0, 1, 0, 1];
    for (fragment, rest) in [((7, 0, true), &first[..]), ((7, 8, false), &[0xab; 8])] {
        let part = raw::<A>(CLIENT, CLUSTER_IP, icmp::<A>(), Some(fragment), rest);
        assert_eq!(see(&mut scene, Hook::FromNetwork, &part), Decision::AnswerEcho);
        let elsewhere = raw::<A>(CLIENT, POD, icmp::<A>(), Some(fragment), rest);
        assert_eq!(see(&mut scene, Hook::FromNetwork, &elsewhere), Decision::Pass);
    }
}

fn an_unknown_port_of_a_cluster_address_is_refused_where_it_leaves<A: Spoken>() {
    let mut scene = scene::<A>(true);
    for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
        let call = make((POD, 33000), (CLUSTER_IP, 81));
        for at in INWARDS {
            assert_eq!(scene.send(at, call), Decision::Pass);
        }
        for at in OUTWARDS {
            assert_eq!(scene.send(at, call), Decision::Reject(Counter::UnknownPort));
            assert_eq!(
                scene.send(at, make((POD, 33000), (CLUSTER_IP, 80))),
                Decision::Reject(Counter::HostUntranslated)
            );
        }
    }
    // A NodePort's number is no port of a cluster address.
    let call = Packet::syn((POD, 33000), (CLUSTER_IP, NODE_PORT));
    assert_eq!(
        scene.send(Hook::ToNetwork, call),
        Decision::Reject(Counter::UnknownPort)
    );
}

fn an_unknown_port_of_a_load_balancer_only_may_not_turn_back<A: Spoken>() {
    let mut scene = scene::<A>(true);
    for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
        let call = make((CLIENT, 33000), (LOAD_BALANCER, 81));
        assert_eq!(scene.send(Hook::ToNetwork, call), Decision::Pass);
        assert_eq!(
            scene.send(Hook::BackToNetwork, call),
            Decision::Drop(Counter::TurnedBack)
        );
    }
}

fn an_address_that_no_service_has_is_dropped_where_it_leaves<A: Spoken>() {
    let mut scene = scene::<A>(true);
    let dropped = Decision::Drop(Counter::UnallocatedAddress);
    for at in OUTWARDS {
        for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
            assert_eq!(scene.send(at, make((POD, 33000), (NOBODYS, 80))), dropped);
        }
        assert_eq!(see(&mut scene, at, &ping::<A>(POD, NOBODYS)), dropped);
    }
    for at in INWARDS {
        assert_eq!(
            scene.send(at, Packet::syn((POD, 33000), (NOBODYS, 80))),
            Decision::Pass
        );
        assert_eq!(see(&mut scene, at, &ping::<A>(POD, NOBODYS)), Decision::Pass);
    }
}

fn without_service_cidrs_the_addresses_of_services_are_known_by_themselves<A: Spoken>() {
    let mut scene = scene::<A>(true);
    scene.node.service_networks = NetworkList::default();
    let call = Packet::syn((POD, 33000), (CLUSTER_IP, 81));
    assert_eq!(
        scene.send(Hook::ToNetwork, call),
        Decision::Reject(Counter::UnknownPort)
    );
    let call = Packet::syn((POD, 33000), (NOBODYS, 80));
    assert_eq!(scene.send(Hook::ToNetwork, call), Decision::Pass);
}

fn whatever_protocol_is_refused_at_a_cluster_address_but_icmp_is_not_told_of_icmp<A: Spoken>() {
    const GRE: u8 = 47;
    let mut scene = scene::<A>(true);
    let gre = raw::<A>(POD, CLUSTER_IP, GRE, None, &[0; 16]);
    assert_eq!(see(&mut scene, Hook::FromPod, &gre), Decision::Pass);
    assert_eq!(
        see(&mut scene, Hook::ToNetwork, &gre),
        Decision::Reject(Counter::UnknownPort)
    );
    let reply = [echo::reply(A::FAMILY), 0, 0, 0, 0, 1, 0, 1];
    let reply = raw::<A>(POD, CLUSTER_IP, icmp::<A>(), None, &reply);
    let dropped = Decision::Drop(Counter::UnknownPort);
    assert_eq!(see(&mut scene, Hook::ToNetwork, &reply), dropped);
}

/// Messages of ICMP that are no requests: a reply, an error whole and in part, and one that is cut off.
fn messages<A: Spoken>(from: u16, to: u16) -> [Vec<u8>; 5] {
    let reply = [echo::reply(A::FAMILY), 0, 0, 0, 0, 1, 0, 1];
    let unreachable = match A::FAMILY {
        Family::V4 => [3, 3, 0, 0, 0, 0, 0, 0],
        Family::V6 => [1, 4, 0, 0, 0, 0, 0, 0],
    };
    // About a datagram that the receiver sent, and about nothing.
    let sent = A::wrap(
        &Packet::<A>::udp((to, 80), (from, 33000)),
        &[0, 80, 128, 232, 0, 8, 0, 0],
    );
    let error = [&unreachable[..], &sent].concat();
    let of = |fragment, rest: &[u8]| raw::<A>(from, to, icmp::<A>(), fragment, rest);
    [
        of(None, &reply),
        of(None, &error),
        of(None, &unreachable),
        of(Some((7, 0, true)), &error[..16]),
        of(None, &[]),
    ]
}

fn icmp_without_a_flow_does_not_turn_back_either<A: Spoken>() {
    let mut scene = scene::<A>(true);
    for message in messages::<A>(CLIENT, LOAD_BALANCER) {
        for at in INWARDS.into_iter().chain([Hook::ToNetwork, Hook::ToPod]) {
            assert_eq!(
                see(&mut scene, at, &message),
                Decision::Pass,
                "{at:?} {message:?}"
            );
        }
        let turned = Decision::Drop(Counter::TurnedBack);
        assert_eq!(
            see(&mut scene, Hook::BackToNetwork, &message),
            turned,
            "{message:?}"
        );
    }
    for (to, counter) in [
        (CLUSTER_IP, Counter::UnknownPort),
        (NOBODYS, Counter::UnallocatedAddress),
    ] {
        for message in messages::<A>(POD, to) {
            for at in OUTWARDS {
                assert_eq!(
                    see(&mut scene, at, &message),
                    Decision::Drop(counter),
                    "{message:?}"
                );
            }
            for at in INWARDS {
                assert_eq!(see(&mut scene, at, &message), Decision::Pass, "{message:?}");
            }
        }
    }
    for message in messages::<A>(POD, CLIENT) {
        for at in OUTWARDS {
            assert_eq!(see(&mut scene, at, &message), Decision::Pass, "{message:?}");
        }
    }
}

fn what_is_everybody_elses_passes<A: Spoken>() {
    let mut scene = scene::<A>(true);
    for at in INWARDS.into_iter().chain(OUTWARDS) {
        assert_eq!(see(&mut scene, at, &ping::<A>(POD, CLIENT)), Decision::Pass);
        let call = Packet::tcp((POD, 33000), (CLIENT, 80), tcp::SYN);
        assert_eq!(scene.send(at, call), Decision::Pass);
    }
}
