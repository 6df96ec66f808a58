//! New flows: who is chosen, by which source address and port, and what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use crate::layout::{
    Action, Counter, Direction, Family, FlowTable, ListWord, Network, NetworkList, When, protocol,
};
use crate::rules::headers::tcp;
use crate::rules::scene::*;
use crate::rules::{Decision, Origin};

const OUTSIDE: (u16, u16) = (CLIENT, 33000);
const BALANCER: (u16, u16) = (LOAD_BALANCER, 80);

in_both_families!(
    a_remote_backend_is_reached_in_the_nodes_name,
    both_entries_of_a_redirected_flow_name_the_uplink_of_the_call,
    a_local_backend_sees_the_clients_address,
    a_pod_reaches_a_remote_backend_in_its_own_name,
    a_clients_port_inside_the_range_is_kept,
    source_ports_stay_in_the_range_and_are_never_shared,
    exhausted_source_ports_are_counted,
    a_flood_takes_source_ports_from_itself_alone,
    the_port_that_waited_longest_of_some_is_taken,
    no_port_is_taken_whose_datagram_may_still_be_answered,
    without_a_range_nothing_is_sent_in_the_nodes_name,
    a_hairpin_goes_by_the_primary_address,
    a_hairpin_without_a_primary_address_is_dropped,
    no_route_is_counted,
    a_taken_reverse_key_means_another_backend,
    a_taken_reverse_key_of_the_only_backend_means_another_port,
    ports_are_tried_after_a_collision_whatever_the_last_draw_was,
    a_draw_that_fails_half_way_leaves_nothing_of_its_own,
    an_expired_reverse_entry_is_no_obstacle,
    a_port_that_its_client_uses_again_is_free_once_the_connection_is_over,
    a_flow_that_lost_its_forward_entry_takes_its_own_reverse_entry,
    a_promoted_flow_that_lost_its_forward_entry_takes_its_own_reverse_entry,
    the_local_list_is_for_the_network_and_the_shortcut_for_pods,
    ranges_of_pods_say_who_takes_the_shortcut,
    no_endpoint_is_refused_and_no_local_one_dropped,
    without_endpoints_packets_go_on_as_they_are_if_the_service_asks,
    only_dead_backends_drop_and_count,
    a_dead_backend_is_drawn_around,
    a_list_of_another_owner_is_refused,
    a_segment_without_syn_and_flow_passes,
    a_full_table_drops_and_leaves_nothing_behind,
    the_loser_of_a_race_uses_the_winners_flow,
    netfilters_use_of_a_port_of_the_range_is_entered,
    a_foreign_tuple_stays_while_it_is_used,
    a_reset_of_the_nodes_own_takes_no_port,
    a_guarded_address_is_for_its_ranges_alone,
    the_longest_range_says_whose_it_is,
);

fn a_guarded_address_is_for_its_ranges_alone<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, REMOTE]);
    scene.guard(&[CLIENT, POD]);
    let refused = Decision::Drop(Counter::SourceNotAllowed);
    for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
        for (at, inside, outside) in [
            (Hook::FromNetwork, CLIENT, CLIENT + 1),
            (Hook::FromPod, POD, POD + 1),
        ] {
            scene.translated(at, make((inside, 33000), BALANCER));
            assert_eq!(scene.send(at, make((outside, 33000), BALANCER)), refused);
            // The other frontends are open to everyone.
            for to in [(CLUSTER_IP, 80), (NODE, NODE_PORT)] {
                scene.translated(at, make((outside, 33001 + to.0), to));
            }
        }
    }
    // No mid-flow packet gets by either, whoever might own it.
    let segment = Packet::tcp((CLIENT + 1, 33000), BALANCER, tcp::ACK);
    assert_eq!(scene.send(Hook::FromNetwork, segment), refused);
    // Ranges are for new flows.
    scene.guard(&[]);
    for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
        scene.translated(Hook::FromNetwork, make((CLIENT, 33000), BALANCER));
        assert_eq!(
            scene.send(Hook::FromNetwork, make((CLIENT, 33009), BALANCER)),
            refused
        );
    }
    // Refusals of Services without endpoints tell nobody outside the ranges anything.
    scene.empty_lists(When::Reject);
    assert_eq!(
        scene.send(Hook::FromNetwork, Packet::syn((CLIENT, 33010), BALANCER)),
        refused
    );
    assert_eq!(
        scene.send(Hook::BackToNetwork, Packet::syn(OUTSIDE, BALANCER)),
        Decision::Drop(Counter::TurnedBack)
    );
}

fn the_longest_range_says_whose_it_is<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    scene.guard(&[]);
    let service = crate::layout::ServiceId(1);
    scene.node.source_ranges.push((service, TAG, A::of(CLIENT), 8));
    scene.translated(Hook::FromNetwork, Packet::syn(OUTSIDE, BALANCER));
    // What an earlier owner of the id has left lets nobody in.
    let neighbours = if A::FAMILY == Family::V4 { 24 } else { 120 };
    let strangers = (service, TAG + 1, A::of(CLIENT), neighbours);
    scene.node.source_ranges.push(strangers);
    let refused = scene.send(Hook::FromNetwork, Packet::syn((CLIENT, 33001), BALANCER));
    assert_eq!(refused, Decision::Drop(Counter::SourceNotAllowed));
    scene.node.source_ranges.push((service, TAG, A::UNSPECIFIED, 0));
    scene.translated(Hook::FromPod, Packet::syn((POD, 33002), BALANCER));
}

fn a_remote_backend_is_reached_in_the_nodes_name<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    let (syn, seen) = {
        let syn = Packet::syn(OUTSIDE, BALANCER);
        (syn, scene.translated(Hook::FromNetwork, syn))
    };
    assert_eq!(scene.work.flow.action, Action::Redirect as u8);
    assert_eq!(seen.source.0, A::of(EGRESS));
    assert_eq!(seen.destination, (A::of(REMOTE), TARGET_PORT));
    // The reply comes in by the uplink and goes back to the client, as the frontend's.
    let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
    let shown = scene.translated(Hook::FromNetwork, answer);
    assert_eq!((shown.source, shown.destination), (syn.destination, syn.source));
    scene.translated(Hook::FromNetwork, syn.with_flags(tcp::ACK).numbers(1001, 5001));
    assert_eq!(scene.tables(&syn, Direction::Forward), (false, true));
    assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (false, true));
}

fn both_entries_of_a_redirected_flow_name_the_uplink_of_the_call<A: Spoken>() {
    for (backend, via) in [(REMOTE, 7), (LOCAL, 0)] {
        let mut scene = Scene::<A>::new(&[backend]);
        scene.node.came_in_by = 7;
        let syn = Packet::syn(OUTSIDE, BALANCER);
        let seen = scene.translated(Hook::FromNetwork, syn);
        assert_eq!(scene.work.flow.via.interface(), via);
        assert_eq!(scene.work.way_back(), 0, "calls go as the routing table says");
        // Its packets may come in by another one later, and the backend's by a third.
        scene.node.came_in_by = 9;
        let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
        let back = if via == 0 {
            Hook::ToNetwork
        } else {
            Hook::FromNetwork
        };
        scene.translated(back, answer);
        assert_eq!(scene.work.way_back(), via);
        scene.translated(Hook::FromNetwork, syn.with_flags(tcp::ACK).numbers(1001, 5001));
        // The same once a lost entry has been put back from the other one.
        let key = seen.turned().key(Direction::Reverse);
        scene.node.flows.borrow_mut().remove(&(FlowTable::Flows, key));
        scene.node.advance(2 * SECOND);
        scene.translated(Hook::FromNetwork, syn.with_flags(tcp::ACK));
        let flow = scene.node.entry(FlowTable::Flows, &key).unwrap();
        assert_eq!(flow.via.interface(), via);
    }
}

fn a_local_backend_sees_the_clients_address<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let syn = Packet::syn(OUTSIDE, BALANCER);
    let seen = scene.translated(Hook::FromNetwork, syn);
    assert_eq!(scene.work.flow.action, Action::Stack as u8);
    assert_eq!(seen.source, syn.source);
    let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK);
    let shown = scene.translated(Hook::ToNetwork, answer);
    assert_eq!((shown.source, shown.destination), (syn.destination, syn.source));
}

fn a_pod_reaches_a_remote_backend_in_its_own_name<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    for frontend in [(CLUSTER_IP, 80), BALANCER, (NODE, NODE_PORT)] {
        let syn = Packet::syn((POD, 33000 + frontend.0), frontend);
        let seen = scene.translated(Hook::FromPod, syn);
        assert_eq!(seen.source, syn.source);
        assert_eq!(scene.work.flow.action, Action::Stack as u8);
    }
}

fn a_clients_port_inside_the_range_is_kept<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    let last = CONFIG.snat_first + CONFIG.snat_count - 1;
    for port in [CONFIG.snat_first, 50000, last] {
        let seen = scene.translated(Hook::FromNetwork, Packet::syn((CLIENT, port), BALANCER));
        assert_eq!(seen.source.1, port);
    }
    for port in [1, CONFIG.snat_first - 1, last + 1, u16::MAX] {
        let seen = scene.translated(Hook::FromNetwork, Packet::syn((CLIENT, port), BALANCER));
        assert_ne!(seen.source.1, port);
    }
}

fn source_ports_stay_in_the_range_and_are_never_shared<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE, REMOTE + 1]);
    scene.node.config.snat_count = 400;
    let range = CONFIG.snat_first..CONFIG.snat_first + 400;
    let mut used = BTreeMap::<bool, BTreeSet<u16>>::new();
    for port in 1..=500 {
        let syn = Packet::syn((CLIENT, port), BALANCER);
        scene.send(Hook::FromNetwork, syn);
        if scene.counted(Counter::SourcePortReclaimed) > 0 {
            break;
        }
        let seen = scene.translated(Hook::FromNetwork, syn);
        assert!(range.contains(&seen.source.1), "{}", seen.source.1);
        let is_new = used
            .entry(seen.destination.0 == A::of(REMOTE))
            .or_default()
            .insert(seen.source.1);
        assert!(is_new, "{} towards one backend twice", seen.source.1);
    }
    assert!(scene.counted(Counter::ReverseCollision) > 0);
    assert!(used.values().all(|ports| ports.len() > 100));
}

fn exhausted_source_ports_are_counted<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    scene.node.config.snat_count = 1;
    exchange(&mut scene, OUTSIDE);
    let entries = scene.node.flows.borrow().len();
    let refused = scene.send(Hook::FromNetwork, Packet::udp((CLIENT, 2), BALANCER));
    assert_eq!(refused, Decision::Drop(Counter::SourcePortsExhausted));
    assert_eq!(scene.node.flows.borrow().len(), entries);
    // Another protocol has ports of its own; and a port is free again when its flow has expired.
    scene.translated(Hook::FromNetwork, Packet::syn((CLIENT, 2), BALANCER));
    scene.node.advance(CONFIG.udp_established + 1);
    scene.translated(Hook::FromNetwork, Packet::udp((CLIENT, 2), BALANCER));
}

/// A query from outside, its answer, and a second query.
fn exchange<A: Spoken>(scene: &mut Scene<A>, client: (u16, u16)) -> Packet<A> {
    let call = Packet::udp(client, BALANCER);
    let seen = scene.translated(Hook::FromNetwork, call);
    scene.translated(Hook::FromNetwork, seen.turned());
    scene.translated(Hook::FromNetwork, call);
    assert_eq!(scene.tables(&call, Direction::Forward), (false, true));
    seen
}

fn a_flood_takes_source_ports_from_itself_alone<A: Spoken>() {
    const PORTS: u16 = 16;
    for make in [Packet::syn, Packet::udp, Packet::init] {
        let mut scene = Scene::<A>::new(&[REMOTE]);
        scene.node.config.snat_count = PORTS;
        let standing = if make(OUTSIDE, BALANCER).protocol == protocol::UDP {
            exchange(&mut scene, OUTSIDE)
        } else {
            scene.establish(Hook::FromNetwork, make(OUTSIDE, BALANCER)).1
        };
        for port in 1..=1000 {
            let call = make((CLIENT, port), BALANCER);
            let seen = scene.translated(Hook::FromNetwork, call);
            assert_ne!(seen.source.1, standing.source.1, "the port of what stands");
            let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK);
            let shown = scene.translated(Hook::FromNetwork, answer);
            assert_eq!(shown.destination, call.source, "the newest has its own");
        }
        assert!(scene.counted(Counter::SourcePortReclaimed) > 900);
        assert_eq!(scene.counted(Counter::SourcePortsExhausted), 0);
        // Both entries of a flow go: no forward entry leads to another's port.
        assert_eq!(scene.node.flows.borrow().len(), 2 * usize::from(PORTS));
        let shown = scene.translated(Hook::FromNetwork, standing.turned().with_flags(tcp::ACK));
        assert_eq!(shown.destination.1, OUTSIDE.1);
    }
}

/// A late answer would go to whoever has the port by then.
fn no_port_is_taken_whose_datagram_may_still_be_answered<A: Spoken>() {
    const PORTS: u16 = 4;
    const AWAITED: u32 = 5 * SECOND;
    let mut scene = Scene::<A>::new(&[REMOTE]);
    scene.node.config.snat_count = PORTS;
    let first = CONFIG.snat_first;
    let calls = [0, 1, 2, 3].map(|nth| Packet::udp((CLIENT, first + nth), BALANCER));
    let seen = calls.map(|call| scene.translated(Hook::FromNetwork, call));
    scene.node.advance(AWAITED - 1);
    let refused = scene.send(Hook::FromNetwork, Packet::udp(OUTSIDE, BALANCER));
    assert_eq!(refused, Decision::Drop(Counter::SourcePortsExhausted));
    // What was answered awaits nothing.
    scene.translated(Hook::FromNetwork, seen[2].turned());
    let taken = scene.translated(Hook::FromNetwork, Packet::udp(OUTSIDE, BALANCER));
    assert_eq!(taken.source, seen[2].source);
    scene.node.advance(1);
    scene.translated(Hook::FromNetwork, Packet::udp((CLIENT, 3), BALANCER));
    let there = calls.map(|call| scene.tables(&call, Direction::Forward).0);
    assert_eq!(there.iter().filter(|is_there| **is_there).count(), 2);
    assert_eq!(scene.counted(Counter::SourcePortReclaimed), 2);
}

/// Of those that wait, one that waits long gives its port before one that does not.
fn the_port_that_waited_longest_of_some_is_taken<A: Spoken>() {
    const PORTS: u16 = 4;
    let mut scene = Scene::<A>::new(&[REMOTE]);
    scene.node.config.snat_count = PORTS;
    let first = CONFIG.snat_first;
    let calls = [0, 1, 2, 3].map(|nth| Packet::syn((CLIENT, first + nth), BALANCER));
    for call in calls {
        scene.translated(Hook::FromNetwork, call);
        scene.node.advance(10);
    }
    // Three draws of the backend and a port, and eight of a port alone, meet the youngest's; then each port is looked at.
    let taken: Vec<u32> = [3; 14].into_iter().chain([3, 1, 0, 2]).collect();
    scene.node.script(taken);
    let late = Packet::syn(OUTSIDE, BALANCER);
    scene.translated(Hook::FromNetwork, late);
    let there = calls.map(|call| scene.tables(&call, Direction::Forward).0);
    assert_eq!(there, [false, true, true, true]);
    assert_eq!(scene.counted(Counter::SourcePortReclaimed), 1);
}

fn without_a_range_nothing_is_sent_in_the_nodes_name<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    scene.node.config.snat_count = 0;
    let refused = scene.send(Hook::FromNetwork, Packet::syn(OUTSIDE, BALANCER));
    assert_eq!(refused, Decision::Drop(Counter::SourcePortsExhausted));
    scene.translated(Hook::FromPod, Packet::syn((POD, 33000), BALANCER));
}

fn a_hairpin_goes_by_the_primary_address<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for make in [Packet::syn, Packet::udp, Packet::init] {
        let call = make((LOCAL, 40000), (CLUSTER_IP, 80));
        let seen = scene.translated(Hook::FromPod, call);
        assert_eq!(scene.work.flow.action, Action::Hairpin as u8);
        assert_eq!(seen.source.0, A::of(NODE));
        assert_eq!(seen.destination, (A::of(LOCAL), TARGET_PORT));
        let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK);
        let shown = scene.translated(Hook::FromPod, answer);
        assert_eq!((shown.source, shown.destination), (call.destination, call.source));
        assert_eq!(scene.work.flow.action, Action::Hairpin as u8);
    }
}

fn a_hairpin_without_a_primary_address_is_dropped<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    scene.node.primary = None;
    let refused = scene.send(Hook::FromPod, Packet::syn((LOCAL, 40000), (CLUSTER_IP, 80)));
    assert_eq!(refused, Decision::Drop(Counter::NoSourceAddress));
}

fn no_route_is_counted<A: Spoken>() {
    for why in [Counter::NoRoute, Counter::NoSourceAddress] {
        let mut scene = Scene::<A>::new(&[REMOTE]);
        scene.node.default_route = Err(why);
        assert_eq!(
            scene.send(Hook::FromNetwork, Packet::udp(OUTSIDE, BALANCER)),
            Decision::Drop(why)
        );
        assert!(scene.node.flows.borrow().is_empty());
    }
}

/// One client port to two frontends whose backends are the same.
fn a_taken_reverse_key_means_another_backend<A: Spoken>() {
    for make in [Packet::syn, Packet::udp, Packet::init] {
        let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
        scene.node.script([0]);
        let first = scene.translated(Hook::FromPod, make((POD, 40000), (CLUSTER_IP, 80)));
        scene.node.script([0, 0, 1]);
        let second = scene.translated(Hook::FromPod, make((POD, 40000), (OTHER_IP, 80)));
        assert_eq!(first.destination.0, A::of(LOCAL));
        assert_eq!(second.destination.0, A::of(LOCAL + 1));
        assert_eq!(second.source, first.source);
        assert_eq!(scene.counted(Counter::ReverseCollision), 2);
    }
}

fn a_taken_reverse_key_of_the_only_backend_means_another_port<A: Spoken>() {
    for make in [Packet::syn, Packet::udp, Packet::init] {
        let mut scene = Scene::<A>::new(&[LOCAL]);
        let frontends = [(CLUSTER_IP, 80), (OTHER_IP, 80), BALANCER];
        let calls = frontends.map(|frontend| make((POD, 40000), frontend));
        let seen = calls.map(|call| scene.translated(Hook::FromPod, call));
        let ports: BTreeSet<_> = seen.iter().map(|packet| packet.source.1).collect();
        assert_eq!(ports.len(), 3);
        assert!(seen.iter().all(|packet| packet.source.0 == A::of(POD)));
        for (call, seen) in calls.iter().zip(seen) {
            let shown = scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::SYN | tcp::ACK));
            assert_eq!((shown.source, shown.destination), (call.destination, call.source));
        }
    }
}

fn ports_are_tried_after_a_collision_whatever_the_last_draw_was<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    scene.node.script([0]);
    scene.translated(Hook::FromPod, Packet::syn((POD, 40000), (CLUSTER_IP, 80)));
    scene.node.kill_backend(Scene::<A>::id(protocol::TCP, 2));
    // A collision, then twice the dead backend.
    scene.node.script([0, 1, 1]);
    let seen = scene.translated(Hook::FromPod, Packet::syn((POD, 40000), (OTHER_IP, 80)));
    assert_eq!(seen.destination.0, A::of(LOCAL));
    assert_ne!(seen.source.1, 40000);
}

/// Nothing leaves half in the node's name, half in the client's.
fn a_draw_that_fails_half_way_leaves_nothing_of_its_own<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE, REMOTE + 1]);
    let call = |port, frontend| Packet::syn((CLIENT, port), frontend);
    scene.node.script([0]);
    let first = scene.translated(Hook::FromNetwork, call(CONFIG.snat_first, (CLUSTER_IP, 80)));
    scene.node.routes.insert(A::of(REMOTE + 1), Err(Counter::NoRoute));
    // A collision, then twice the backend that there is no way to.
    scene.node.script([0, 1, 1]);
    let second = scene.translated(Hook::FromNetwork, call(CONFIG.snat_first, BALANCER));
    assert_eq!(
        (second.source.0, second.destination),
        (A::of(EGRESS), first.destination)
    );
    assert_ne!(second.source.1, first.source.1);
}

fn a_port_that_its_client_uses_again_is_free_once_the_connection_is_over<A: Spoken>() {
    let call = |frontend| Packet::syn((POD, 40000), frontend);
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let (syn, _) = scene.establish(Hook::FromPod, call((CLUSTER_IP, 80)));
    // While it lives, another frontend's connection must take another port.
    assert_ne!(scene.translated(Hook::FromPod, call(BALANCER)).source.1, 40000);
    scene.translated(Hook::FromPod, syn.with_flags(tcp::RST));
    let (syn, seen) = scene.establish(Hook::FromPod, call((OTHER_IP, 80)));
    assert_eq!(seen.source, syn.source);
    let shown = scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::ACK));
    assert_eq!((shown.source, shown.destination), (syn.destination, syn.source));
}

fn an_expired_reverse_entry_is_no_obstacle<A: Spoken>() {
    for is_promoted in [false, true] {
        let mut scene = Scene::<A>::new(&[LOCAL]);
        let old = Packet::syn((POD, 40000), (CLUSTER_IP, 80));
        if is_promoted {
            scene.establish(Hook::FromPod, old);
            scene.node.advance(CONFIG.tcp_established + 1);
        } else {
            scene.translated(Hook::FromPod, old);
            scene.node.advance(CONFIG.tcp_embryo + 1);
        }
        let (syn, seen) = scene.establish(Hook::FromPod, Packet::syn((POD, 40000), (OTHER_IP, 80)));
        assert_eq!(seen.source, syn.source);
        assert_eq!(scene.counted(Counter::ReverseCollision), 0);
        assert_eq!(scene.tables(&syn, Direction::Forward), (false, true));
        let shown = scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::ACK));
        assert_eq!(shown.source, syn.destination);
    }
}

/// Its own reverse entry is not another flow's: the backend goes on seeing the same client port.
fn a_flow_that_lost_its_forward_entry_takes_its_own_reverse_entry<A: Spoken>() {
    for make in [Packet::syn, Packet::udp, Packet::init] {
        let mut scene = Scene::<A>::new(&[LOCAL]);
        let call = make((POD, 40000), (CLUSTER_IP, 80));
        let seen = scene.translated(Hook::FromPod, call);
        let key = (FlowTable::Embryos, call.key(Direction::Forward));
        scene.node.flows.borrow_mut().remove(&key);
        scene.node.advance(CONFIG.udp_embryo);
        assert_eq!(scene.translated(Hook::FromPod, call), seen);
        assert_eq!(scene.counted(Counter::ReverseCollision), 0);
        scene.node.advance(1);
        let shown = scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::SYN | tcp::ACK));
        assert_eq!(shown.source, call.destination);
    }
}

fn a_promoted_flow_that_lost_its_forward_entry_takes_its_own_reverse_entry<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let call = Packet::udp((POD, 40000), (CLUSTER_IP, 80));
    let seen = scene.translated(Hook::FromPod, call);
    scene.translated(Hook::ToPod, seen.turned());
    scene.translated(Hook::FromPod, call);
    let key = (FlowTable::Flows, call.key(Direction::Forward));
    assert!(scene.node.flows.borrow_mut().remove(&key).is_some());
    scene.node.advance(CONFIG.udp_established);
    assert_eq!(scene.translated(Hook::FromPod, call), seen);
    assert_eq!(scene.counted(Counter::ReverseCollision), 0);
    scene.node.advance(1);
    assert_eq!(
        scene.translated(Hook::ToPod, seen.turned()).source,
        call.destination
    );
}

fn the_local_list_is_for_the_network_and_the_shortcut_for_pods<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, REMOTE]);
    for ip_protocol in PROTOCOLS {
        let ids = [1, 2].map(|nth| Scene::<A>::id(ip_protocol, nth));
        let all = scene.node.add_list(&ids, TAG);
        let local = scene.node.add_list(&ids[..1], TAG);
        scene.set_lists(ip_protocol, all, local, all);
    }
    let (mut outside, mut inside) = (BTreeSet::new(), BTreeSet::new());
    for port in 1..100 {
        for frontend in [BALANCER, (NODE, NODE_PORT)] {
            for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
                let call = make((CLIENT, port), frontend);
                let octets = |packet: Packet<A>| packet.destination.0.to_mapped();
                outside.insert(octets(scene.translated(Hook::FromNetwork, call)));
                let call = make((POD, port), frontend);
                inside.insert(octets(scene.translated(Hook::FromPod, call)));
            }
        }
    }
    assert_eq!(
        outside.into_iter().collect::<Vec<_>>(),
        [A::of(LOCAL).to_mapped()]
    );
    assert_eq!(inside.len(), 2);
}

/// detectLocalMode ClusterCIDR and NodeCIDR: the address counts, not the interface.
fn ranges_of_pods_say_who_takes_the_shortcut<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, REMOTE]);
    for ip_protocol in PROTOCOLS {
        let local = scene.node.add_list(&[Scene::<A>::id(ip_protocol, 1)], TAG);
        let remote = scene.node.add_list(&[Scene::<A>::id(ip_protocol, 2)], TAG);
        scene.set_lists(ip_protocol, local, local, remote);
    }
    let bits = if A::FAMILY == Family::V4 { 24 } else { 120 };
    scene.node.local_networks = NetworkList::of([Network::new(A::of(POD), bits)]);
    for (at, caller, backend) in [
        (Hook::FromPod, POD, REMOTE),
        (Hook::FromPod, CLIENT, LOCAL),
        (Hook::FromNetwork, POD, REMOTE),
        (Hook::FromNetwork, CLIENT, LOCAL),
    ] {
        for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
            let sent = scene.translated(at, make((caller, 33000), BALANCER));
            assert_eq!(sent.destination.0, A::of(backend), "{at:?} {caller:x}");
        }
    }
}

fn no_endpoint_is_refused_and_no_local_one_dropped<A: Spoken>() {
    for make in [Packet::syn, Packet::udp, Packet::init] {
        for frontend in [BALANCER, (NODE, NODE_PORT), (CLUSTER_IP, 80)] {
            let mut scene = Scene::<A>::new(&[LOCAL]);
            let call = make(OUTSIDE, frontend);
            scene.empty_lists(When::Reject);
            let refused = Decision::Reject(Counter::NoEndpoint);
            assert_eq!(scene.send(Hook::FromNetwork, call), refused);
            assert_eq!(scene.send(Hook::FromPod, call), refused);
            scene.empty_lists(When::Drop);
            let dropped = Decision::Drop(Counter::NoLocalEndpoint);
            assert_eq!(scene.send(Hook::FromNetwork, call), dropped);
            assert!(scene.node.flows.borrow().is_empty());
        }
    }
}

fn without_endpoints_packets_go_on_as_they_are_if_the_service_asks<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    scene.empty_lists(When::Pass);
    let segment = |from, to| Packet::tcp(from, to, tcp::ACK);
    for make in [Packet::syn, Packet::udp, Packet::init, segment] {
        for frontend in [BALANCER, (NODE, NODE_PORT), (CLUSTER_IP, 80)] {
            let before = scene.node.counted(Counter::NoEndpointPassed);
            let call = make(OUTSIDE, frontend);
            assert_eq!(scene.send(Hook::FromNetwork, call), Decision::Pass);
            assert_eq!(scene.send(Hook::FromPod, call), Decision::Pass);
            assert_eq!(scene.node.counted(Counter::NoEndpointPassed), before + 2);
        }
        // On its way out: only a real load balancer can be there.
        let out = make((POD, 40000), BALANCER);
        assert_eq!(scene.send(Hook::ToNetwork, out), Decision::Pass);
        let out = make((POD, 40000), (CLUSTER_IP, 80));
        let refused = Decision::Reject(Counter::HostUntranslated);
        assert_eq!(scene.send(Hook::ToNetwork, out), refused);
    }
    assert_eq!(scene.node.counted(Counter::TcpWithoutFlow), 0);
    assert!(scene.node.flows.borrow().is_empty());
}

fn only_dead_backends_drop_and_count<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    for nth in [1, 2] {
        scene.node.kill_backend(Scene::<A>::id(protocol::UDP, nth));
    }
    let refused = scene.send(Hook::FromPod, Packet::udp((POD, 1), (CLUSTER_IP, 80)));
    assert_eq!(refused, Decision::Drop(Counter::NoEndpoint));
}

fn a_dead_backend_is_drawn_around<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    scene.node.kill_backend(Scene::<A>::id(protocol::UDP, 1));
    scene.node.script([0, 0, 1]);
    let seen = scene.translated(Hook::FromPod, Packet::udp((POD, 1), (CLUSTER_IP, 80)));
    assert_eq!(seen.destination.0, A::of(LOCAL + 1));
}

fn a_list_of_another_owner_is_refused<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let others = ListWord::new(0, 1, TAG + 1);
    scene.set_lists(protocol::TCP, others, others, others);
    for (at, source) in [(Hook::FromPod, POD), (Hook::FromNetwork, CLIENT)] {
        for frontend in [(CLUSTER_IP, 80), BALANCER] {
            let refused = scene.send(at, Packet::syn((source, 1), frontend));
            assert_eq!(refused, Decision::Reject(Counter::NoEndpoint));
        }
    }
}

fn a_segment_without_syn_and_flow_passes<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let all = [
        tcp::ACK,
        tcp::RST,
        tcp::FIN | tcp::ACK,
        tcp::SYN | tcp::ACK,
        tcp::SYN | tcp::RST,
        0,
    ];
    for flags in all {
        let segment = Packet::tcp((POD, 1), (CLUSTER_IP, 80), flags);
        assert_eq!(scene.send(Hook::FromPod, segment), Decision::Pass, "{flags:#x}");
    }
    assert_eq!(scene.counted(Counter::TcpWithoutFlow), all.len() as u64);
    assert!(scene.node.flows.borrow().is_empty());
}

fn a_full_table_drops_and_leaves_nothing_behind<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    scene.node.room.set(Some(1));
    let refused = scene.send(Hook::FromPod, Packet::syn((POD, 1), (CLUSTER_IP, 80)));
    assert_eq!(refused, Decision::Drop(Counter::FlowTableRefused));
    assert!(scene.node.flows.borrow().is_empty());
}

/// Two CPUs see the first packets of one flow at once: the second decides on what it read before the first wrote.
fn the_loser_of_a_race_uses_the_winners_flow<A: Spoken>() {
    for (slot, entries) in [(0, 2), (1, 2)] {
        let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
        let call = Packet::udp((POD, 1), (CLUSTER_IP, 80));
        scene.node.script([0]);
        let winner = scene.translated(Hook::FromPod, call);
        scene.node.script([slot]);
        scene.work.key = call.key(Direction::Forward);
        let verdict = super::decide(&scene.node, Origin::Pod, &mut scene.work);
        assert_eq!(verdict.decision(), Decision::Translate(Action::Stack));
        assert_eq!(scene.work.flow.destination, winner.destination.0);
        assert_eq!(scene.counted(Counter::LostRace), 1);
        assert_eq!(
            scene.node.flows.borrow().len(),
            entries,
            "no reverse entry is left behind"
        );
        let shown = scene.translated(Hook::ToPod, winner.turned());
        assert_eq!(shown.source, call.destination);
    }
}

fn netfilters_use_of_a_port_of_the_range_is_entered<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    scene.node.config.snat_count = 1;
    // A pod's call that netfilter masqueraded with our port.
    let masqueraded = Packet::syn((EGRESS, 45000), (REMOTE, TARGET_PORT));
    assert_eq!(scene.send(Hook::ToNetwork, masqueraded), Decision::Pass);
    assert_eq!(scene.send(Hook::ToNetwork, masqueraded), Decision::Pass);
    assert_eq!(scene.counted(Counter::ForeignPort), 1);
    let refused = scene.send(Hook::FromNetwork, Packet::syn(OUTSIDE, BALANCER));
    assert_eq!(refused, Decision::Drop(Counter::SourcePortsExhausted));
    // Its replies are netfilter's.
    let reply = masqueraded.turned().with_flags(tcp::SYN | tcp::ACK);
    assert_eq!(scene.send(Hook::FromNetwork, reply), Decision::Pass);
    // Ports outside the range and addresses that are not the node's are nobody's business.
    for source in [(EGRESS, 44999), (EGRESS, 45001), (CLIENT, 45000)] {
        assert_eq!(
            scene.send(Hook::ToNetwork, Packet::syn(source, (REMOTE, TARGET_PORT))),
            Decision::Pass
        );
    }
    assert_eq!(scene.counted(Counter::ForeignPort), 1);
}

/// What comes back to a flow of ours that was pushed out is answered by the node's own stack.
fn a_reset_of_the_nodes_own_takes_no_port<A: Spoken>() {
    for make in [Packet::<A>::syn, Packet::init] {
        let mut scene = Scene::<A>::new(&[REMOTE]);
        scene.node.config.snat_count = 1;
        let call = make(OUTSIDE, BALANCER);
        let seen = scene.translated(Hook::FromNetwork, call);
        scene.node.flows.borrow_mut().clear();
        let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK);
        assert_eq!(scene.send(Hook::FromNetwork, answer), Decision::Pass);
        let reset = seen.with_flags(tcp::RST);
        assert_eq!(scene.send(Hook::ToNetwork, reset), Decision::Pass);
        assert_eq!(scene.counted(Counter::ForeignPort), 0);
        assert_eq!(scene.translated(Hook::FromNetwork, call).source, seen.source);
    }
}

/// A connection that netfilter owns is in use through pauses as long as a connection's may be, and until it ends.
fn a_foreign_tuple_stays_while_it_is_used<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    scene.node.config.snat_count = 1;
    let masqueraded = Packet::syn((EGRESS, 45000), (REMOTE, TARGET_PORT));
    scene.send(Hook::ToNetwork, masqueraded);
    let data = masqueraded.with_flags(tcp::ACK).with_payload(1);
    let attempt = |scene: &mut Scene<A>| scene.send(Hook::FromNetwork, Packet::syn(OUTSIDE, BALANCER));
    let refused = Decision::Drop(Counter::SourcePortsExhausted);
    for packet in [data, data.turned(), data] {
        scene.node.advance(CONFIG.tcp_established);
        assert_eq!(attempt(&mut scene), refused);
        let at = if packet == data {
            Hook::ToNetwork
        } else {
            Hook::FromNetwork
        };
        assert_eq!(scene.send(at, packet), Decision::Pass);
    }
    let fin = masqueraded.with_flags(tcp::FIN | tcp::ACK);
    scene.send(Hook::ToNetwork, fin);
    scene.send(Hook::FromNetwork, fin.turned());
    scene.node.advance(CONFIG.tcp_closing);
    assert_eq!(attempt(&mut scene), refused);
    scene.node.advance(1);
    assert!(matches!(attempt(&mut scene), Decision::Translate(_)));
    assert_eq!(scene.counted(Counter::ForeignPort), 1);
}
