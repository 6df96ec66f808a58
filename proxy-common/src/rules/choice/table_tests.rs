//! Choice by a list's table, and by connections.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::*;
use crate::layout::{Counter, Direction, protocol};
use crate::rules::headers::tcp;
use crate::rules::scene::*;
use crate::rules::{Decision, socket};

in_both_families!(
    a_weighted_table_is_drawn_from_at_random,
    a_table_without_entries_is_the_list_itself,
    a_flow_has_one_place_in_the_table_and_another_at_the_next_attempt,
    a_dead_backend_of_a_table_is_drawn_around,
    the_backend_with_fewer_connections_is_taken,
    the_other_one_is_taken_if_that_is_dead,
    a_segment_of_an_unknown_connection_finds_its_local_backend_by_its_hash,
    a_connection_that_was_joined_is_safe_once_its_backend_has_answered,
    a_stranger_that_is_reset_stays_an_embryo,
    a_connection_that_opens_on_one_that_was_joined_has_to_be_proven,
    a_segment_for_another_nodes_backend_passes,
    a_pods_call_goes_by_packets_where_connections_are_counted,
    affinity_goes_before_the_table,
);

const OUTSIDE: (u16, u16) = (CLIENT, 33000);
const VIP: (u16, u16) = (CLUSTER_IP, 80);

/// Gives the TCP Service's backends, from 1 on, a table.
fn table<A: Spoken>(scene: &mut Scene<A>, rule: ChoiceRule, table: &[u32]) -> ListWord {
    let members: Vec<_> = scene.node.services[&ServiceId(1)].internal.into_members(scene);
    let table: Vec<_> = table.iter().map(|id| BackendId(*id)).collect();
    let list = scene.node.add_table(&members, rule, &table, TAG);
    scene.set_lists(protocol::TCP, list, list, list);
    list
}

trait Members {
    fn into_members<A: Spoken>(self, scene: &Scene<A>) -> Vec<BackendId>;
}

impl Members for ListWord {
    fn into_members<A: Spoken>(self, scene: &Scene<A>) -> Vec<BackendId> {
        let slots = self.first()..self.first() + self.count();
        slots.filter_map(|slot| scene.node.slot(slot)).collect()
    }
}

fn drawn<A: Spoken>(scene: &Scene<A>, list: ListWord) -> u32 {
    draw(&scene.node, list)
}

fn drawn_for<A: Spoken>(scene: &Scene<A>, list: ListWord, port: u16, attempt: u32) -> u32 {
    let packet = Packet::<A>::syn((CLIENT, port), VIP);
    let work = Work {
        key: packet.key(Direction::Forward),
        ..Work::default()
    };
    draw_for(&scene.node, list, &work, attempt)
}

fn a_weighted_table_is_drawn_from_at_random<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    let list = table(&mut scene, ChoiceRule::Weighted, &[1, 2, 2, 2]);
    scene.node.script([0, 1, 2, 3, 4, 5]);
    // What is known of the flow does not matter.
    let ids: Vec<_> = (0..6).map(|_| drawn_for(&scene, list, 7, 0)).collect();
    assert_eq!(ids, [1, 2, 2, 2, 1, 2]);
}

fn a_table_without_entries_is_the_list_itself<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    for rule in [ChoiceRule::Weighted, ChoiceRule::Maglev] {
        let list = table(&mut scene, rule, &[]);
        scene.node.script([0, 1, 2]);
        let ids: Vec<_> = (0..3).map(|_| drawn(&scene, list)).collect();
        assert_eq!(ids, [1, 2, 1], "{rule:?}");
    }
}

fn a_flow_has_one_place_in_the_table_and_another_at_the_next_attempt<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1, LOCAL + 2]);
    let list = table(&mut scene, ChoiceRule::Maglev, &[3, 1, 2, 2, 3, 1, 1]);
    let mut times = BTreeMap::<u32, u32>::new();
    let mut moved = 0;
    for port in 1..=700 {
        let id = drawn_for(&scene, list, port, 0);
        assert_eq!(id, drawn_for(&scene, list, port, 0));
        *times.entry(id).or_default() += 1;
        moved += u32::from(drawn_for(&scene, list, port, 1) != id);
    }
    // Of seven entries 3, 2 and 2; five standard deviations either way.
    for (id, expected) in [(1, 300), (2, 200), (3, 200)] {
        assert!(times[&id].abs_diff(expected) < 70, "{times:?}");
    }
    assert!(moved > 350, "{moved} of 700");
}

fn a_dead_backend_of_a_table_is_drawn_around<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    table(&mut scene, ChoiceRule::Maglev, &[1, 2, 1, 2, 1]);
    scene.node.kill_backend(BackendId(1));
    for port in 1..=40 {
        // Three attempts: half of the flows need a second one, and an eighth find nobody.
        let decision = scene.send(Hook::FromNetwork, Packet::syn((CLIENT, port), VIP));
        match decision {
            Decision::Translate(_) => assert_eq!(scene.work.flow.backend, BackendId(2)),
            other => assert_eq!(other, Decision::Drop(Counter::NoEndpoint)),
        }
    }
    assert!(scene.counted(Counter::FlowCreated) > 25);
}

fn the_backend_with_fewer_connections_is_taken<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1, LOCAL + 2]);
    let list = table(&mut scene, ChoiceRule::LeastConnections, &[]);
    for (loads, numbers, expected) in [
        ([5, 4, 3], [0, 1], 2),
        ([5, 4, 3], [2, 1], 3),
        ([5, 4, 3], [0, 0], 1),
        ([4, 4, 4], [1, 2], 2),
        ([0, -1, 0], [0, 1], 2),
    ] {
        for (id, load) in (1..).zip(loads) {
            scene.node.loads.borrow_mut().insert(BackendId(id), load);
        }
        scene.node.script(numbers);
        assert_eq!(drawn_for(&scene, list, 9, 0), expected, "{loads:?} {numbers:?}");
    }
    // By weights: the second stands three times in four.
    let list = table(&mut scene, ChoiceRule::LeastConnections, &[1, 2, 2, 2]);
    scene.node.script([2, 3]);
    assert_eq!(drawn(&scene, list), 2);
}

fn the_other_one_is_taken_if_that_is_dead<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    let list = table(&mut scene, ChoiceRule::LeastConnections, &[]);
    scene.node.loads.borrow_mut().insert(BackendId(2), 9);
    scene.node.kill_backend(BackendId(1));
    scene.node.script([0, 1]);
    assert_eq!(drawn(&scene, list), 2);
}

fn a_segment_of_an_unknown_connection_finds_its_local_backend_by_its_hash<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    table(&mut scene, ChoiceRule::Maglev, &[1, 2, 1, 2, 1]);
    for port in 1..=20 {
        let syn = Packet::syn((CLIENT, port), VIP);
        let seen = scene.translated(Hook::FromNetwork, syn);
        // Nobody remembers it any more, or another node had it.
        scene.node.flows.borrow_mut().clear();
        let segment = syn.with_flags(tcp::ACK).numbers(1001, 5001).with_payload(3);
        let again = scene.translated(Hook::FromNetwork, segment);
        assert_eq!((again.destination, again.source), (seen.destination, seen.source));
        let answer = again.turned().with_flags(tcp::ACK);
        let shown = scene.translated(Hook::ToNetwork, answer);
        assert_eq!((shown.source, shown.destination), (syn.destination, syn.source));
    }
    assert_eq!(scene.counted(Counter::TcpWithoutFlow), 0);
}

fn a_connection_that_was_joined_is_safe_once_its_backend_has_answered<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    table(&mut scene, ChoiceRule::Maglev, &[1, 2, 1, 2, 1]);
    let syn = Packet::syn(OUTSIDE, VIP);
    let seen = scene.translated(Hook::FromNetwork, syn);
    // Pushed out by a flood before its client has answered.
    scene.node.flows.borrow_mut().clear();
    let segment = syn.with_flags(tcp::ACK).numbers(1001, 77);
    assert_eq!(
        scene.translated(Hook::FromNetwork, segment),
        seen.with_flags(tcp::ACK).numbers(1001, 77)
    );
    assert_eq!(scene.counted(Counter::FlowJoined), 1);
    assert_eq!(scene.tables(&syn, Direction::Forward), (true, false));
    scene.translated(Hook::ToNetwork, seen.turned().with_flags(tcp::ACK));
    assert_eq!(scene.tables(&syn, Direction::Forward), (false, true));
    assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (false, true));
    assert_eq!(scene.counted(Counter::FlowPromoted), 1);
}

fn a_stranger_that_is_reset_stays_an_embryo<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    table(&mut scene, ChoiceRule::Maglev, &[1, 1, 1]);
    let segment = Packet::tcp(OUTSIDE, VIP, tcp::ACK);
    let seen = scene.translated(Hook::FromNetwork, segment);
    for flags in [tcp::RST | tcp::ACK, tcp::RST, tcp::ACK] {
        scene.translated(Hook::ToNetwork, seen.turned().with_flags(flags));
    }
    assert_eq!(scene.tables(&segment, Direction::Forward), (true, false));
    assert_eq!(scene.counted(Counter::FlowPromoted), 0);
}

/// A SYN on what was joined: from its SYN-ACK on, the client's own answer counts again.
fn a_connection_that_opens_on_one_that_was_joined_has_to_be_proven<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    table(&mut scene, ChoiceRule::Maglev, &[1, 1, 1]);
    let seen = scene.translated(Hook::FromNetwork, Packet::tcp(OUTSIDE, VIP, tcp::ACK));
    let syn = Packet::syn(OUTSIDE, VIP);
    scene.translated(Hook::FromNetwork, syn);
    let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
    scene.translated(Hook::ToNetwork, answer);
    scene.translated(Hook::ToNetwork, seen.turned().with_flags(tcp::ACK));
    assert_eq!(scene.tables(&syn, Direction::Forward), (true, false));
    scene.translated(Hook::FromNetwork, syn.with_flags(tcp::ACK).numbers(1001, 5001));
    assert_eq!(scene.tables(&syn, Direction::Forward), (false, true));
}

fn a_segment_for_another_nodes_backend_passes<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    table(&mut scene, ChoiceRule::Maglev, &[1, 1, 1]);
    let segment = Packet::tcp(OUTSIDE, VIP, tcp::ACK);
    assert_eq!(scene.send(Hook::FromNetwork, segment), Decision::Pass);
    assert_eq!(scene.counted(Counter::TcpWithoutFlow), 1);
    assert!(scene.node.flows.borrow().is_empty());
}

fn a_pods_call_goes_by_packets_where_connections_are_counted<A: Spoken>() {
    const HOST: u64 = 1;
    let mut scene = Scene::<A>::new(&[LOCAL]);
    table(&mut scene, ChoiceRule::LeastConnections, &[]);
    let call = |scene: &Scene<A>, netns_cookie| {
        let socket = socket::Socket {
            netns_cookie,
            protocol: protocol::TCP,
        };
        let config = &scene.node.config;
        socket::choose(
            &scene.node,
            config,
            &socket,
            &A::of(VIP.0),
            Port::new(VIP.1),
            false,
        )
    };
    assert_eq!(call(&scene, 2), socket::Choice::Untouched);
    assert!(matches!(
        call(&scene, HOST),
        socket::Choice::Backend(BackendId(1), _)
    ));
}

fn affinity_goes_before_the_table<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1, LOCAL + 2]);
    table(&mut scene, ChoiceRule::Maglev, &[1, 2, 3, 2, 1, 3, 2]);
    if let Some(service) = scene.node.services.get_mut(&ServiceId(1)) {
        service.affinity = AffinityWord::new(60, 1, TAG);
    }
    let mut ids = std::collections::BTreeSet::new();
    for port in 1..=30 {
        scene.translated(Hook::FromNetwork, Packet::syn((CLIENT, port), VIP));
        ids.insert(scene.work.flow.backend);
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
}
