//! What passes untouched, and what is refused before any flow is looked at.

use crate::layout::{Counter, FilterBit, FrontendKey, FrontendKind, Port, ServiceId, protocol};
use crate::rules::Decision;
use crate::rules::headers::tcp;
use crate::rules::scene::*;

in_both_families!(
    what_the_prefilter_denies_passes_without_a_look_at_a_table,
    a_false_yes_of_the_prefilter_changes_nothing,
    a_node_port_answers_at_node_addresses_only,
    a_silent_address_has_no_node_ports_but_stays_the_nodes_own,
    other_protocols_pass,
    a_malformed_packet_to_a_frontends_address_is_dropped,
    an_untranslated_cluster_ip_does_not_leave_the_node,
    a_packet_to_a_load_balancer_does_not_turn_back,
    replies_are_not_taken_for_calls,
);

const ALL: [Hook; 4] = [Hook::FromPod, Hook::ToPod, Hook::FromNetwork, Hook::ToNetwork];

fn what_the_prefilter_denies_passes_without_a_look_at_a_table<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, REMOTE]);
    for at in ALL {
        for make in [Packet::syn, Packet::udp, Packet::init] {
            // Neither a frontend's nor a backend's; a port of the SNAT range, too.
            for (source, destination) in [((POD, 1), (CLIENT, 80)), ((CLIENT, 80), (NODE, 45000))] {
                let packet = make(source, destination);
                for flags in [tcp::SYN, tcp::ACK] {
                    assert_eq!(scene.send(at, packet.with_flags(flags)), Decision::Pass);
                }
            }
        }
    }
    assert_eq!(scene.node.accesses.get(), 0);
    for counter in Counter::ALL {
        assert_eq!(scene.counted(*counter), 0, "{counter:?}");
    }
}

fn a_false_yes_of_the_prefilter_changes_nothing<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for word in 0..crate::layout::PREFILTER_WORDS {
        scene.node.filter.insert(word, u64::MAX);
    }
    for at in ALL {
        for make in [Packet::syn, Packet::udp, Packet::init] {
            assert_eq!(scene.send(at, make((POD, 1), (CLIENT, 80))), Decision::Pass);
            assert_eq!(scene.send(at, make((CLIENT, 80), (NODE, 45000))), Decision::Pass);
        }
    }
    assert!(scene.node.flows.borrow().is_empty());
}

fn a_node_port_answers_at_node_addresses_only<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for address in [NODE, EGRESS] {
        scene.translated(
            Hook::FromNetwork,
            Packet::syn((CLIENT, address), (address, NODE_PORT)),
        );
        scene.translated(Hook::FromPod, Packet::udp((POD, address), (address, NODE_PORT)));
    }
    for address in [POD, CLIENT, CLUSTER_IP, LOAD_BALANCER] {
        let call = Packet::syn((CLIENT, 9), (address, NODE_PORT));
        assert_eq!(scene.send(Hook::FromNetwork, call), Decision::Pass);
    }
    let call = Packet::syn((CLIENT, 9), (NODE, NODE_PORT + 1));
    assert_eq!(scene.send(Hook::FromNetwork, call), Decision::Pass);
}

fn a_silent_address_has_no_node_ports_but_stays_the_nodes_own<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    scene.node.silent_addresses.insert(A::of(EGRESS));
    for make in [Packet::syn, Packet::udp] {
        let call = make((CLIENT, 7), (EGRESS, NODE_PORT));
        assert_eq!(scene.send(Hook::FromNetwork, call), Decision::Pass);
        let call = make((POD, 7), (EGRESS, NODE_PORT));
        assert_eq!(scene.send(Hook::FromPod, call), Decision::Pass);
        // What this node asks in the silent address's name still finds its way back.
        let asked = scene.translated(Hook::FromNetwork, make((CLIENT, 7), (NODE, NODE_PORT)));
        assert_eq!(asked.source.0, A::of(EGRESS));
        let answer = if asked.flags == 0 {
            asked.turned()
        } else {
            asked.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001)
        };
        scene.translated(Hook::FromNetwork, answer);
    }
}

fn other_protocols_pass<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for number in [protocol::ICMP, protocol::ICMPV6, 50, 51, 135, 255] {
        for at in ALL {
            let packet = Packet {
                protocol: number,
                ..Packet::udp((POD, 1), (CLUSTER_IP, 80))
            };
            assert_eq!(scene.send(at, packet), Decision::Pass, "{number}");
        }
    }
    assert!(scene.node.flows.borrow().is_empty());
}

fn a_malformed_packet_to_a_frontends_address_is_dropped<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
        for at in [Hook::FromPod, Hook::FromNetwork] {
            for (destination, decision) in [
                (CLUSTER_IP, Decision::Drop(Counter::Malformed)),
                (LOAD_BALANCER, Decision::Drop(Counter::Malformed)),
                (CLIENT, Decision::Pass),
            ] {
                let mut bytes = make((POD, 1), (destination, 80)).bytes();
                bytes.pop();
                assert_eq!(scene.verdict(at, &bytes).decision(), decision);
            }
        }
    }
}

fn an_untranslated_cluster_ip_does_not_leave_the_node<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for make in [Packet::syn, Packet::udp, Packet::init] {
        for source in [NODE, POD] {
            for at in [Hook::ToNetwork, Hook::BackToNetwork] {
                let call = make((source, 33000), (CLUSTER_IP, 80));
                assert_eq!(scene.send(at, call), Decision::Reject(Counter::HostUntranslated));
                // Another port of the address is not ours to judge.
                assert_eq!(
                    scene.send(at, make((source, 33000), (CLUSTER_IP, 81))),
                    Decision::Pass
                );
            }
        }
    }
}

/// What other nodes may answer goes to them, but not back to where it came from.
fn a_packet_to_a_load_balancer_does_not_turn_back<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let key = FrontendKey::new(A::of(OTHER_IP), Port::new(443), protocol::TCP);
    scene
        .node
        .add_frontend(key, FrontendKind::ExternalIp, ServiceId(1), TAG);
    for destination in [(LOAD_BALANCER, 80), (OTHER_IP, 443)] {
        let segment = Packet::tcp((CLIENT, 33000), destination, tcp::ACK);
        assert_eq!(scene.send(Hook::ToNetwork, segment), Decision::Pass);
        assert_eq!(
            scene.send(Hook::BackToNetwork, segment),
            Decision::Drop(Counter::TurnedBack)
        );
    }
    let to_node_port = Packet::tcp((CLIENT, 33000), (NODE, NODE_PORT), tcp::ACK);
    assert_eq!(scene.send(Hook::BackToNetwork, to_node_port), Decision::Pass);
}

/// A backend that is a client itself calls from any port, the one it serves at as well.
fn replies_are_not_taken_for_calls<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let call = Packet::udp((LOCAL, TARGET_PORT), (OTHER_IP, 50000));
    let key = FrontendKey::new(A::of(OTHER_IP), Port::new(50000), protocol::UDP);
    scene
        .node
        .add_frontend(key, FrontendKind::LoadBalancer, ServiceId(2), TAG);
    assert!(scene.node.filter.values().any(|word| *word != 0));
    let bit = FilterBit::reverse(&A::of(LOCAL), Port::new(TARGET_PORT), protocol::UDP);
    assert!(crate::rules::Directory::<A>::filter(&scene.node, bit));
    let seen = scene.translated(Hook::FromPod, call);
    assert_eq!(seen.destination, (A::of(LOCAL), TARGET_PORT));
}
