use std::collections::HashSet;
use std::vec::Vec;

use super::*;
use crate::layout::{AffinityKey, BackendId, Flow};
use crate::rules::scene::*;
use crate::rules::{Decision, lifetime};

/// A family whose packets can be sent and put into each other.
trait Both: Spoken + Encapsulated {}
impl<A: Spoken + Encapsulated> Both for A {}

/// Another node, and an address of its own.
const OTHER_NODE: u16 = 0x0a01;

/// A node whose Services forward by DSR.
fn handing_on<A: Both>(backends: &[u16]) -> Scene<A> {
    let mut scene = Scene::<A>::new(backends);
    forward(&mut scene, true);
    scene
}

/// Switches DSR.
fn forward<A: Both>(scene: &mut Scene<A>, by_dsr: bool) {
    let ids: Vec<_> = scene.node.services.keys().copied().collect();
    for id in ids {
        let backends = scene.node.backends.iter();
        let local = backends.filter(|(_, backend)| {
            backend.service == id && backend.is_alive() && (backend.is_local() || !by_dsr)
        });
        let local: Vec<_> = local.map(|(id, _)| *id).collect();
        let list = match local.is_empty() {
            true => ListWord::empty(When::Drop, TAG),
            false => scene.node.add_list(&local, TAG),
        };
        let service = scene.node.services.get_mut(&id).unwrap();
        service.shortcut = list;
        service.affinity = AffinityWord::new(service.affinity.seconds(), 0, TAG).with_hand_on(by_dsr);
    }
}

/// A packet that was handed on by an address to another.
fn taken<A: Both>(scene: &mut Scene<A>, by: u16, to: u16, packet: Packet<A>) -> Decision {
    let outer = Packet {
        protocol: A::PROTOCOL,
        ..Packet::<A>::udp((by, 0), (to, 0))
    };
    let bytes = A::wrap(&outer, &packet.bytes());
    let outer = A::outer(&&*bytes).expect("an outer header");
    let inner = Inner::<A, _>::of(&*bytes);
    take(&scene.node, outer, &inner, &mut scene.work).decision()
}

#[track_caller]
fn taken_to<A: Both>(scene: &mut Scene<A>, by: u16, to: u16, packet: Packet<A>) -> A {
    let decision = taken(scene, by, to, packet);
    assert_eq!(decision, Decision::Translate(Action::Stack), "{packet:?}");
    scene.work.flow.destination
}

/// Where a packet from outside is handed on to.
#[track_caller]
fn handed_to<A: Both>(scene: &mut Scene<A>, packet: Packet<A>) -> A {
    let decision = scene.send(Hook::FromNetwork, packet);
    assert_eq!(decision, Decision::Translate(Action::Encapsulate), "{packet:?}");
    scene.work.flow.destination
}

fn calls<A: Both>(from: u16, port: u16, to: (u16, u16)) -> [Packet<A>; 3] {
    let (from, to) = ((from, port), to);
    [
        Packet::syn(from, to),
        Packet::udp(from, to),
        Packet::init(from, to),
    ]
}

fn flow<A: Both>(scene: &Scene<A>, packet: &Packet<A>) -> Flow<A> {
    let flow = scene
        .node
        .entry(FlowTable::Embryos, &packet.key(Direction::Forward));
    flow.expect("an embryo")
}

fn a_flow_that_is_handed_on_is_one_entry_that_never_leaves_the_embryos<A: Both>() {
    for call in calls(CLIENT, 40000, (LOAD_BALANCER, 80)) {
        let mut scene = handing_on::<A>(&[REMOTE]);
        assert_eq!(handed_to(&mut scene, call), A::of(REMOTE));
        for acknowledgement in [0, 5000, 5001, u32::MAX] {
            let data = call
                .with_flags(tcp::ACK)
                .with_payload(8)
                .numbers(1001, acknowledgement);
            handed_to(&mut scene, data);
            scene.node.advance(SECOND);
        }
        assert_eq!(scene.tables(&call, Direction::Forward), (true, false));
        assert_eq!(scene.node.flows.borrow().len(), 1);
        assert_eq!(scene.counted(Counter::FlowCreated), 1);
        assert_eq!(scene.counted(Counter::PartnerRestored), 0);
        let Flow {
            source, source_port, ..
        } = scene.work.flow;
        assert_eq!(
            (source, source_port.number()),
            call.source,
            "nothing is in this node's name"
        );
    }
}

fn its_entry_lives_as_its_client_goes_on<A: Both>() {
    let mut scene = handing_on::<A>(&[REMOTE]);
    let life = |scene: &Scene<A>, packet: &Packet<A>| {
        lifetime::of(&CONFIG, packet.protocol, flow(scene, packet).meta.state()) / SECOND
    };
    let [syn, datagram, _] = calls(CLIENT, 40000, (LOAD_BALANCER, 80));
    handed_to(&mut scene, syn);
    handed_to(&mut scene, syn);
    assert_eq!(life(&scene, &syn), 60, "a flood of SYNs alone");
    handed_to(&mut scene, syn.with_flags(tcp::ACK));
    assert_eq!(life(&scene, &syn), 86_400);
    handed_to(&mut scene, syn.with_flags(tcp::FIN | tcp::ACK));
    assert_eq!(life(&scene, &syn), 120, "the other direction's end is not seen");
    handed_to(&mut scene, syn.with_flags(tcp::ACK).with_payload(1));
    assert_eq!(life(&scene, &syn), 86_400, "sent again");
    handed_to(&mut scene, datagram);
    assert_eq!(life(&scene, &datagram), 30);
    handed_to(&mut scene, datagram);
    assert_eq!(life(&scene, &datagram), 180);
}

fn a_lost_entry_is_found_again<A: Both>() {
    let mut scene = handing_on::<A>(&[REMOTE, REMOTE + 1, REMOTE + 2]);
    let mut used = HashSet::new();
    for port in 40000..40040 {
        for call in calls(CLIENT, port, (LOAD_BALANCER, 80)) {
            let backend = handed_to(&mut scene, call);
            used.insert(backend);
            scene.node.flows.borrow_mut().clear();
            let data = call.with_flags(tcp::ACK).with_payload(8);
            assert_eq!(handed_to(&mut scene, data), backend, "{call:?}");
        }
    }
    assert_eq!(used.len(), 3);
}

fn a_client_that_keeps_its_backend_finds_it_again_too<A: Both>() {
    let mut scene = handing_on::<A>(&[REMOTE, REMOTE + 1, REMOTE + 2]);
    for service in scene.node.services.values_mut() {
        service.affinity = AffinityWord::new(60, 1, TAG).with_hand_on(true);
    }
    let first = handed_to(&mut scene, Packet::syn((CLIENT, 40000), (LOAD_BALANCER, 80)));
    for port in 40001..40020 {
        let syn = Packet::syn((CLIENT, port), (LOAD_BALANCER, 80));
        assert_eq!(handed_to(&mut scene, syn), first);
        scene.node.flows.borrow_mut().clear();
        assert_eq!(handed_to(&mut scene, syn.with_flags(tcp::ACK)), first);
    }
    let key = AffinityKey::of_address(&A::of(CLIENT), scene.work.flow.service);
    assert!(scene.node.affinities.borrow().contains_key(&key));
}

/// Somebody outside has sent in its name.
fn a_pods_call_is_its_own<A: Both>() {
    let mut scene = handing_on::<A>(&[REMOTE]);
    for call in calls(POD, 40000, (LOAD_BALANCER, 80)) {
        handed_to(&mut scene, call);
        let decision = scene.send(Hook::FromPod, call);
        assert_eq!(decision, Decision::Translate(Action::Stack));
    }
}

fn clients_that_are_exempt_go_by_snat<A: Both>() {
    let mut scene = handing_on::<A>(&[REMOTE]);
    let length = if A::FAMILY == crate::layout::Family::V4 {
        32
    } else {
        128
    };
    let exempt = (NEVER_HANDED_ON, NEVER_HANDED_ON_TAG, A::of(CLIENT), length);
    scene.node.source_ranges.push(exempt);
    for call in calls(CLIENT, 40000, (LOAD_BALANCER, 80)) {
        let decision = scene.send(Hook::FromNetwork, call);
        assert_eq!(decision, Decision::Translate(Action::Redirect));
    }
    let unknown = Packet::tcp((CLIENT, 50000), (LOAD_BALANCER, 80), tcp::ACK);
    assert_eq!(
        scene.send(Hook::FromNetwork, unknown),
        Decision::Pass,
        "it has another source there"
    );
    for call in calls(CLIENT + 1, 40000, (LOAD_BALANCER, 80)) {
        handed_to(&mut scene, call);
    }
}

/// Where the choice went by something that is not known any more, nobody is asked at random.
fn what_least_connections_chose_is_not_found_again<A: Both>() {
    let mut scene = handing_on::<A>(&[REMOTE, REMOTE + 1]);
    for service in scene.node.services.values_mut() {
        service.external = service.external.with_rule(ChoiceRule::LeastConnections);
    }
    let slots = scene.node.slots.len();
    assert!(slots > 0);
    scene.node.slots.push(BackendId(0));
    let data = Packet::tcp((CLIENT, 40000), (LOAD_BALANCER, 80), tcp::ACK);
    assert_eq!(scene.send(Hook::FromNetwork, data), Decision::Pass);
    assert_eq!(scene.counted(Counter::TcpWithoutFlow), 1);
}

fn a_flow_over_is_begun_anew<A: Both>() {
    let mut scene = handing_on::<A>(&[REMOTE, REMOTE + 1]);
    let syn = Packet::syn((CLIENT, 40000), (LOAD_BALANCER, 80));
    let gone = handed_to(&mut scene, syn);
    let (nth, other) = match gone == A::of(REMOTE) {
        true => (1, A::of(REMOTE + 1)),
        false => (2, A::of(REMOTE)),
    };
    scene.node.kill_backend(Scene::<A>::id(protocol::TCP, nth));
    let data = syn.with_flags(tcp::ACK).with_payload(1);
    assert_eq!(
        handed_to(&mut scene, data),
        gone,
        "a connection stays with its endpoint"
    );
    assert_eq!(handed_to(&mut scene, syn), other);
    assert_eq!(scene.node.flows.borrow().len(), 1);
    let datagram = Packet::udp((CLIENT, 40000), (LOAD_BALANCER, 80));
    let gone = handed_to(&mut scene, datagram);
    let nth = if gone == A::of(REMOTE) { 1 } else { 2 };
    scene.node.kill_backend(Scene::<A>::id(protocol::UDP, nth));
    assert_ne!(handed_to(&mut scene, datagram), gone);
    assert_eq!(scene.counted(Counter::UdpRebalanced), 1);
}

fn a_backend_of_this_node_is_reached_as_ever<A: Both>() {
    let mut scene = handing_on::<A>(&[LOCAL]);
    for call in calls(CLIENT, 40000, (LOAD_BALANCER, 80)) {
        let seen = scene.translated(Hook::FromNetwork, call);
        assert_eq!((seen.source, seen.destination.0), (call.source, A::of(LOCAL)));
        let shown = scene.translated(Hook::ToNetwork, seen.turned().with_flags(tcp::SYN | tcp::ACK));
        assert_eq!(shown.source, call.destination);
    }
    let unknown = Packet::tcp((CLIENT, 50000), (LOAD_BALANCER, 80), tcp::ACK);
    assert_eq!(
        scene.send(Hook::FromNetwork, unknown),
        Decision::Pass,
        "netfilter may own it"
    );
}

fn what_is_taken_over_is_the_outer_destinations<A: Both>() {
    let mut scene = handing_on::<A>(&[LOCAL, LOCAL + 1, LOCAL + 2]);
    for nth in 0..3 {
        for (to, by) in [
            ((LOAD_BALANCER, 80), OTHER_NODE),
            ((OTHER_NODE, NODE_PORT), OTHER_NODE),
        ] {
            for call in calls(CLIENT, 40000 + nth, to) {
                let backend = LOCAL + nth;
                assert_eq!(taken_to(&mut scene, by, backend, call), A::of(backend));
                assert_eq!(scene.tables(&call, Direction::Forward), (true, false));
                // It goes on there, whatever another node says of it.
                let other = LOCAL + (nth + 1) % 3;
                let data = call.with_flags(tcp::ACK).with_payload(1);
                assert_eq!(taken_to(&mut scene, by, other, data), A::of(backend));
            }
        }
    }
}

fn a_whole_conversation_is_taken_over<A: Both>() {
    let mut scene = handing_on::<A>(&[LOCAL]);
    let syn = Packet::syn((CLIENT, 40000), (OTHER_NODE, NODE_PORT));
    taken_to(&mut scene, OTHER_NODE, LOCAL, syn);
    let seen = Packet {
        destination: (A::of(LOCAL), TARGET_PORT),
        ..syn
    };
    let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
    let shown = scene.translated(Hook::ToNetwork, answer);
    assert_eq!(
        shown.source, syn.destination,
        "the address that was called, of the other node"
    );
    let proof = syn.with_flags(tcp::ACK).numbers(1001, 5001);
    taken_to(&mut scene, OTHER_NODE, LOCAL, proof);
    assert_eq!(
        scene.tables(&syn, Direction::Forward),
        (false, true),
        "it is promoted"
    );
    // Its entry gone, the node that handed it on says still whose it is.
    scene.node.flows.borrow_mut().clear();
    let data = syn.with_flags(tcp::ACK).with_payload(5);
    taken_to(&mut scene, OTHER_NODE, LOCAL, data);
    assert_eq!(scene.counted(Counter::FlowJoined), 1);
}

fn what_was_not_handed_on_is_not_touched<A: Both>() {
    let mut scene = handing_on::<A>(&[LOCAL, REMOTE + 1]);
    for (by, to, from, port) in [
        (OTHER_NODE, POD, (CLIENT, 40000), (LOAD_BALANCER, 80)),
        (OTHER_NODE, REMOTE + 1, (CLIENT, 40000), (LOAD_BALANCER, 80)),
        (OTHER_NODE, LOCAL, (CLIENT, 40000), (CLUSTER_IP, 80)),
        (OTHER_NODE, LOCAL, (CLIENT, 40000), (LOAD_BALANCER, 81)),
        (OTHER_NODE, LOCAL, (CLIENT, 40000), (POD, NODE_PORT)),
    ] {
        for call in calls(from.0, from.1, port) {
            assert_eq!(
                taken(&mut scene, by, to, call),
                Decision::Pass,
                "{call:?} to {to:x}"
            );
        }
    }
    forward(&mut scene, false);
    let call = Packet::syn((CLIENT, 40000), (LOAD_BALANCER, 80));
    assert_eq!(taken(&mut scene, OTHER_NODE, LOCAL, call), Decision::Pass);
    assert!(scene.node.flows.borrow().is_empty());
}

fn a_flow_goes_on_when_dsr_is_switched_off<A: Both>() {
    let mut there = handing_on::<A>(&[REMOTE]);
    let mut here = handing_on::<A>(&[LOCAL]);
    for call in calls(CLIENT, 40000, (LOAD_BALANCER, 80)) {
        handed_to(&mut there, call);
        taken_to(&mut here, OTHER_NODE, LOCAL, call);
    }
    forward(&mut there, false);
    forward(&mut here, false);
    for call in calls(CLIENT, 40000, (LOAD_BALANCER, 80)) {
        let data = call.with_flags(tcp::ACK).with_payload(1);
        handed_to(&mut there, data);
        taken_to(&mut here, OTHER_NODE, LOCAL, data);
    }
    let new = Packet::syn((CLIENT, 40001), (LOAD_BALANCER, 80));
    assert_eq!(
        there.send(Hook::FromNetwork, new),
        Decision::Translate(Action::Redirect)
    );
}

fn datagrams_leave_a_backend_that_is_gone<A: Both>() {
    let mut scene = handing_on::<A>(&[LOCAL, LOCAL + 1]);
    let call = Packet::udp((CLIENT, 40000), (LOAD_BALANCER, 80));
    taken_to(&mut scene, OTHER_NODE, LOCAL, call);
    scene.node.kill_backend(Scene::<A>::id(protocol::UDP, 1));
    forward(&mut scene, true);
    // The other node does not know it yet.
    assert_eq!(taken_to(&mut scene, OTHER_NODE, LOCAL, call), A::of(LOCAL + 1));
    assert_eq!(scene.counted(Counter::UdpRebalanced), 1);
    scene.node.kill_backend(Scene::<A>::id(protocol::UDP, 2));
    forward(&mut scene, true);
    let decision = taken(&mut scene, OTHER_NODE, LOCAL, call);
    assert_eq!(decision, Decision::Drop(Counter::NoLocalEndpoint));
}

/// The client called this node before, which sent it elsewhere.
fn what_this_node_sent_elsewhere_is_its_own_now<A: Both>() {
    for by_dsr in [false, true] {
        let mut scene = Scene::<A>::new(&[LOCAL, REMOTE + 1]);
        forward(&mut scene, by_dsr);
        let call = (40000..40100)
            .map(|port| Packet::<A>::syn((CLIENT, port), (LOAD_BALANCER, 80)))
            .find(|call| scene.send(Hook::FromNetwork, *call) != Decision::Translate(Action::Stack));
        let call = call.expect("one to the other node");
        forward(&mut scene, true);
        taken_to(&mut scene, OTHER_NODE, LOCAL, call);
        assert_eq!(
            scene.translated(Hook::FromNetwork, call).destination.0,
            A::of(LOCAL)
        );
    }
}

fn source_ranges_are_asked<A: Both>() {
    let mut scene = handing_on::<A>(&[LOCAL]);
    scene.guard(&[CLIENT]);
    let call = |from| Packet::syn((from, 40000), (LOAD_BALANCER, 80));
    taken_to(&mut scene, OTHER_NODE, LOCAL, call(CLIENT));
    let refused = taken(&mut scene, OTHER_NODE, LOCAL, call(CLIENT + 1));
    assert_eq!(refused, Decision::Drop(Counter::SourceNotAllowed));
}

/// This node's list is about to be written: it is all nodes' yet.
fn nothing_goes_on_to_a_third_node<A: Both>() {
    let mut scene = handing_on::<A>(&[LOCAL, REMOTE + 1]);
    let call = Packet::udp((CLIENT, 40000), (LOAD_BALANCER, 80));
    taken_to(&mut scene, OTHER_NODE, LOCAL, call);
    scene.node.kill_backend(Scene::<A>::id(protocol::UDP, 1));
    for service in scene.node.services.values_mut() {
        service.shortcut = service.external;
    }
    let decision = taken(&mut scene, OTHER_NODE, LOCAL, call);
    assert!(matches!(decision, Decision::Drop(_)), "{decision:?}");
}

fn fragments_follow_their_first<A: Both>() {
    for to in [(LOAD_BALANCER, 80), (OTHER_NODE, NODE_PORT)] {
        let mut scene = handing_on::<A>(&[LOCAL]);
        let piece = |offset, more| Packet {
            fragment: Some((7, offset, more)),
            ..Packet::<A>::udp((CLIENT, 40000), to)
        };
        let ahead = taken(&mut scene, OTHER_NODE, LOCAL, piece(16, false));
        assert_eq!(ahead, Decision::Drop(Counter::FragmentWithoutFirst));
        taken_to(&mut scene, OTHER_NODE, LOCAL, piece(0, true));
        taken_to(&mut scene, OTHER_NODE, LOCAL, piece(16, false));
    }
    let mut scene = handing_on::<A>(&[REMOTE]);
    let piece = |offset, more| Packet {
        fragment: Some((7, offset, more)),
        ..Packet::<A>::udp((CLIENT, 40000), (LOAD_BALANCER, 80))
    };
    handed_to(&mut scene, piece(0, true));
    handed_to(&mut scene, piece(16, false));
}

/// Backends beyond those that are compared are of the Service still.
fn many_backends_on_one_node_are_served<A: Both>() {
    let many: Vec<u16> = (0..COMPARED as u16 + 2).map(|nth| LOCAL + nth).collect();
    let mut scene = handing_on::<A>(&many);
    let call = |port| Packet::syn((CLIENT, port), (LOAD_BALANCER, 80));
    let last_compared = LOCAL + COMPARED as u16 - 1;
    assert_eq!(
        taken_to(&mut scene, OTHER_NODE, last_compared, call(1)),
        A::of(last_compared)
    );
    let other = taken_to(&mut scene, OTHER_NODE, last_compared + 1, call(2));
    assert!(many.iter().any(|number| A::of(*number) == other));
}

in_both_families!(
    a_flow_that_is_handed_on_is_one_entry_that_never_leaves_the_embryos,
    its_entry_lives_as_its_client_goes_on,
    a_lost_entry_is_found_again,
    a_client_that_keeps_its_backend_finds_it_again_too,
    a_pods_call_is_its_own,
    clients_that_are_exempt_go_by_snat,
    what_least_connections_chose_is_not_found_again,
    a_flow_over_is_begun_anew,
    a_backend_of_this_node_is_reached_as_ever,
    what_is_taken_over_is_the_outer_destinations,
    a_whole_conversation_is_taken_over,
    what_was_not_handed_on_is_not_touched,
    a_flow_goes_on_when_dsr_is_switched_off,
    datagrams_leave_a_backend_that_is_gone,
    what_this_node_sent_elsewhere_is_its_own_now,
    source_ranges_are_asked,
    nothing_goes_on_to_a_third_node,
    fragments_follow_their_first,
    many_backends_on_one_node_are_served,
);
