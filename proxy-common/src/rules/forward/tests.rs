//! Promotion, lifetimes, restoration, and what makes a flow choose anew.

use crate::layout::{Counter, Direction, FlowTable, protocol, state};
use crate::rules::Decision;
use crate::rules::headers::tcp;
use crate::rules::scene::*;

const CALLER: (u16, u16) = (POD, 40000);
const FRONTEND: (u16, u16) = (CLUSTER_IP, 80);

in_both_families!(
    a_handshake_promotes,
    a_wrong_acknowledgement_does_not_promote,
    an_acknowledgement_of_data_promotes,
    syns_alone_stay_embryos,
    a_syn_ack_alone_does_not_promote,
    an_acknowledgement_without_a_syn_ack_does_not_promote,
    a_reset_of_the_client_does_not_promote,
    a_second_syn_ack_sets_the_number_anew,
    a_syn_on_a_live_flow_keeps_its_backend,
    a_syn_on_a_closing_flow_chooses_anew,
    a_syn_after_an_old_connections_answer_goes_by_the_same_port,
    a_syn_after_a_backends_refusal_chooses_anew,
    a_syn_towards_a_dead_backend_chooses_anew,
    an_established_connection_keeps_a_dead_backend,
    data_restores_a_life_that_a_reset_shortened,
    fins_of_both_sides_shorten_the_life,
    an_expired_flow_does_not_exist,
    traffic_keeps_a_flow_alive,
    udp_promotes_on_the_second_packet_after_a_reply,
    udp_without_a_reply_stays_an_embryo,
    udp_follows_its_backend_until_it_stops_serving,
    udp_stays_when_policy_deselects_its_backend,
    udp_goes_on_to_a_backend_of_another_life,
    a_lost_reverse_entry_is_put_back,
    a_lost_forward_entry_is_put_back,
    within_a_second_no_entry_is_written,
    a_partner_that_belongs_to_another_flow_is_left_alone,
);

fn syn<A: Spoken>() -> Packet<A> {
    Packet::syn(CALLER, FRONTEND)
}

fn datagram<A: Spoken>() -> Packet<A> {
    Packet::udp(CALLER, FRONTEND)
}

fn a_handshake_promotes<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let (syn, seen) = scene.establish(Hook::FromPod, syn());
    assert_eq!(seen.source, syn.source, "the client's address is kept");
    assert_eq!(seen.destination, (A::of(LOCAL), TARGET_PORT));
    assert_eq!(scene.tables(&syn, Direction::Forward), (false, true));
    assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (false, true));
    assert_eq!(scene.counted(Counter::FlowCreated), 1);
    assert_eq!(scene.counted(Counter::FlowPromoted), 1);
    let data = seen.turned().with_flags(tcp::ACK).with_payload(100);
    let shown = scene.translated(Hook::ToPod, data);
    assert_eq!((shown.source, shown.destination), (syn.destination, syn.source));
}

/// A SYN, its SYN-ACK with number 5000, and then the client's segment.
fn after_syn_ack<A: Spoken>(last: Packet<A>) -> (Scene<A>, Packet<A>) {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let seen = scene.translated(Hook::FromPod, syn());
    let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
    scene.translated(Hook::ToPod, answer);
    scene.translated(Hook::FromPod, last);
    (scene, seen)
}

fn a_wrong_acknowledgement_does_not_promote<A: Spoken>() {
    for wrong in [
        0,
        5000,
        5001 + (1 << 16),
        5001_u32.wrapping_add(1 << 31),
        0_u32.wrapping_sub(1),
    ] {
        let (scene, _) = after_syn_ack::<A>(syn().with_flags(tcp::ACK).numbers(1001, wrong));
        assert_eq!(scene.counted(Counter::FlowPromoted), 0, "{wrong}");
        assert_eq!(scene.tables(&syn(), Direction::Forward), (true, false), "{wrong}");
    }
}

fn an_acknowledgement_of_data_promotes<A: Spoken>() {
    for right in [5001, 5002, 5001 + (1 << 16) - 1] {
        let (scene, _) = after_syn_ack::<A>(syn().with_flags(tcp::ACK).numbers(1001, right).with_payload(9));
        assert_eq!(scene.counted(Counter::FlowPromoted), 1, "{right}");
    }
}

fn syns_alone_stay_embryos<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for port in 1..=500 {
        let syn = Packet::syn((POD, port), FRONTEND);
        for _ in 0..3 {
            scene.translated(Hook::FromPod, syn);
        }
        assert_eq!(scene.tables(&syn, Direction::Forward), (true, false));
    }
    assert_eq!(scene.counted(Counter::FlowCreated), 500);
    let flows = scene.node.flows.borrow();
    assert!(flows.keys().all(|(table, _)| *table == FlowTable::Embryos));
}

fn a_syn_ack_alone_does_not_promote<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let seen = scene.translated(Hook::FromPod, syn());
    for _ in 0..5 {
        let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
        let shown = scene.translated(Hook::ToPod, answer);
        assert_eq!(shown.source, syn::<A>().destination);
    }
    assert_eq!(scene.tables(&syn(), Direction::Forward), (true, false));
    assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (true, false));
}

fn an_acknowledgement_without_a_syn_ack_does_not_promote<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    scene.translated(Hook::FromPod, syn());
    for number in [0, 1, 5001] {
        scene.translated(Hook::FromPod, syn().with_flags(tcp::ACK).numbers(1001, number));
    }
    assert_eq!(scene.counted(Counter::FlowPromoted), 0);
}

fn a_reset_of_the_client_does_not_promote<A: Spoken>() {
    for flags in [tcp::RST | tcp::ACK, tcp::RST, tcp::SYN | tcp::ACK, 0] {
        let (scene, _) = after_syn_ack::<A>(syn().with_flags(flags).numbers(1001, 5001));
        assert_eq!(scene.counted(Counter::FlowPromoted), 0, "{flags:#x}");
    }
}

fn a_second_syn_ack_sets_the_number_anew<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let seen = scene.translated(Hook::FromPod, syn());
    let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK);
    scene.translated(Hook::ToPod, answer.numbers(0x7000_0000, 1001));
    scene.translated(Hook::ToPod, answer.numbers(u32::MAX, 1001));
    scene.translated(
        Hook::FromPod,
        syn().with_flags(tcp::ACK).numbers(1001, 0x7000_0001),
    );
    assert_eq!(scene.counted(Counter::FlowPromoted), 0);
    scene.translated(Hook::FromPod, syn().with_flags(tcp::ACK).numbers(1001, 0));
    assert_eq!(scene.counted(Counter::FlowPromoted), 1, "the number wraps");
}

fn a_syn_on_a_live_flow_keeps_its_backend<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1, LOCAL + 2, LOCAL + 3]);
    let (syn, seen) = scene.establish(Hook::FromPod, syn());
    for _ in 0..20 {
        assert_eq!(scene.translated(Hook::FromPod, syn).destination, seen.destination);
    }
    assert_eq!(scene.tables(&syn, Direction::Forward), (false, true));
}

/// The backend with this number, if the next draws say so.
fn draw_only<A: Spoken>(scene: &Scene<A>, slot: u32) {
    scene.node.script([slot; 3]);
}

fn a_syn_on_a_closing_flow_chooses_anew<A: Spoken>() {
    let fin = tcp::FIN | tcp::ACK;
    for closing in [[tcp::RST, tcp::RST], [fin, fin]] {
        let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
        draw_only(&scene, 0);
        let (syn, seen) = scene.establish(Hook::FromPod, syn());
        scene.translated(Hook::FromPod, syn.with_flags(closing[0]));
        scene.translated(Hook::ToPod, seen.turned().with_flags(closing[1]));
        draw_only(&scene, 1);
        let again = scene.translated(Hook::FromPod, syn);
        assert_eq!(again.destination.0, A::of(LOCAL + 1));
        assert_eq!(
            scene.tables(&syn, Direction::Forward),
            (true, false),
            "an embryo again"
        );
        assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (false, false));
        assert_eq!(scene.counted(Counter::FlowCreated), 2);
    }
}

/// The backend has half a connection of the source port, of a client that never answered: it answers for that one, and forgets it when
/// the new client resets it.
fn a_syn_after_an_old_connections_answer_goes_by_the_same_port<A: Spoken>() {
    for answer in [tcp::ACK, tcp::SYN | tcp::ACK] {
        let mut scene = Scene::<A>::new(&[REMOTE, REMOTE + 1]);
        let call = Packet::<A>::syn((CLIENT, 40000), (LOAD_BALANCER, 80));
        let seen = scene.translated(Hook::FromNetwork, call);
        let old = seen.turned().with_flags(answer).numbers(7000, 50);
        assert_eq!(scene.translated(Hook::FromNetwork, old).destination, call.source);
        let reset = scene.translated(Hook::FromNetwork, call.with_flags(tcp::RST).numbers(50, 0));
        assert_eq!((reset.source, reset.destination), (seen.source, seen.destination));
        let again = scene.translated(Hook::FromNetwork, call);
        assert_eq!((again.source, again.destination), (seen.source, seen.destination));
        assert_eq!(scene.counted(Counter::FlowCreated), 1);
        // The answer to this one proves its client.
        let answer = again.turned().with_flags(tcp::SYN | tcp::ACK).numbers(9000, 1001);
        scene.translated(Hook::FromNetwork, answer);
        scene.translated(Hook::FromNetwork, call.with_flags(tcp::ACK).numbers(1001, 9001));
        assert_eq!(scene.tables(&call, Direction::Forward), (false, true));
    }
}

fn a_syn_after_a_backends_refusal_chooses_anew<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    draw_only(&scene, 0);
    let seen = scene.translated(Hook::FromPod, syn());
    scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::RST | tcp::ACK));
    draw_only(&scene, 1);
    let again = scene.translated(Hook::FromPod, syn());
    assert_eq!(again.destination.0, A::of(LOCAL + 1));
}

fn a_syn_towards_a_dead_backend_chooses_anew<A: Spoken>() {
    for is_established in [false, true] {
        let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
        draw_only(&scene, 0);
        if is_established {
            scene.establish(Hook::FromPod, syn());
        } else {
            scene.translated(Hook::FromPod, syn());
        }
        scene.node.kill_backend(Scene::<A>::id(protocol::TCP, 1));
        scene.node.script([1]);
        let again = scene.translated(Hook::FromPod, syn());
        assert_eq!(again.destination.0, A::of(LOCAL + 1));
        assert_eq!(scene.tables(&syn(), Direction::Forward), (true, false));
    }
}

fn an_established_connection_keeps_a_dead_backend<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    let (syn, seen) = scene.establish(Hook::FromPod, syn());
    for nth in [1, 2] {
        scene.node.kill_backend(Scene::<A>::id(protocol::TCP, nth));
    }
    let data = syn.with_flags(tcp::ACK).with_payload(5);
    assert_eq!(
        scene.translated(Hook::FromPod, data).destination,
        seen.destination
    );
    let reply = seen.turned().with_flags(tcp::ACK).with_payload(5);
    assert_eq!(scene.translated(Hook::ToPod, reply).source, syn.destination);
}

fn data_restores_a_life_that_a_reset_shortened<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let (syn, seen) = scene.establish(Hook::FromPod, syn());
    scene.translated(Hook::FromPod, syn.with_flags(tcp::RST));
    scene.node.advance(CONFIG.tcp_closing);
    // Alive to the last tick; data takes the reset back on both sides.
    scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::ACK).with_payload(1));
    scene.node.advance(CONFIG.tcp_closing + 1);
    scene.translated(Hook::FromPod, syn.with_flags(tcp::ACK).with_payload(1));
    scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::ACK));
}

fn fins_of_both_sides_shorten_the_life<A: Spoken>() {
    let fin = tcp::FIN | tcp::ACK;
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let (syn, seen) = scene.establish(Hook::FromPod, syn());
    scene.translated(Hook::FromPod, syn.with_flags(fin));
    scene.node.advance(CONFIG.tcp_half_closed);
    scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::ACK).with_payload(9));
    scene.node.advance(CONFIG.tcp_half_closed);
    scene.translated(Hook::ToPod, seen.turned().with_flags(fin));
    scene.node.advance(CONFIG.tcp_closing);
    scene.translated(Hook::FromPod, syn.with_flags(tcp::ACK));
    scene.node.advance(CONFIG.tcp_closing + 1);
    assert_eq!(
        scene.send(Hook::FromPod, syn.with_flags(tcp::ACK)),
        Decision::Pass
    );
    assert_eq!(scene.counted(Counter::TcpWithoutFlow), 1);
}

fn an_expired_flow_does_not_exist<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let (syn, seen) = scene.establish(Hook::FromPod, syn());
    scene.node.advance(CONFIG.tcp_established + 1);
    assert_eq!(
        scene.send(Hook::FromPod, syn.with_flags(tcp::ACK)),
        Decision::Pass
    );
    assert_eq!(
        scene.send(Hook::ToPod, seen.turned().with_flags(tcp::ACK)),
        Decision::Pass
    );
    assert_eq!(scene.counted(Counter::ReverseWithoutFlow), 1);
    // Its entries still stand in the table, and are no obstacle to the same connection made anew.
    assert_eq!(scene.tables(&syn, Direction::Forward), (false, true));
    let (_, again) = scene.establish(Hook::FromPod, syn);
    assert_eq!(again, seen);
    assert_eq!(scene.counted(Counter::ReverseCollision), 0);
    assert_eq!(scene.tables(&syn, Direction::Forward), (false, true));
    assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (false, true));
}

fn traffic_keeps_a_flow_alive<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let seen = scene.translated(Hook::FromPod, datagram());
    for round in 0..10 {
        scene.node.advance(CONFIG.udp_embryo);
        // Either direction alone keeps both entries.
        if round % 2 == 0 {
            scene.translated(Hook::FromPod, datagram());
        } else {
            scene.translated(Hook::ToPod, seen.turned());
        }
    }
    assert_eq!(scene.counted(Counter::FlowCreated), 1);
}

fn udp_promotes_on_the_second_packet_after_a_reply<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let seen = scene.translated(Hook::FromPod, datagram());
    let shown = scene.translated(Hook::ToPod, seen.turned());
    assert_eq!(
        (shown.source, shown.destination),
        (datagram::<A>().destination, datagram::<A>().source)
    );
    assert_eq!(
        scene.tables(&datagram(), Direction::Forward),
        (true, false),
        "a DNS query ends here"
    );
    scene.translated(Hook::FromPod, datagram());
    assert_eq!(scene.tables(&datagram(), Direction::Forward), (false, true));
    assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (false, true));
    scene.node.advance(CONFIG.udp_established);
    scene.translated(Hook::ToPod, seen.turned());
}

fn udp_without_a_reply_stays_an_embryo<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for _ in 0..10 {
        scene.translated(Hook::FromPod, datagram());
    }
    assert_eq!(scene.tables(&datagram(), Direction::Forward), (true, false));
    scene.node.advance(CONFIG.udp_embryo + 1);
    scene.translated(Hook::FromPod, datagram());
    assert_eq!(scene.counted(Counter::FlowCreated), 2);
}

fn udp_follows_its_backend_until_it_stops_serving<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1, LOCAL + 2]);
    draw_only(&scene, 1);
    let seen = scene.translated(Hook::FromPod, datagram());
    scene.translated(Hook::ToPod, seen.turned());
    for _ in 0..50 {
        assert_eq!(scene.translated(Hook::FromPod, datagram()), seen);
    }
    scene.node.kill_backend(Scene::<A>::id(protocol::UDP, 2));
    scene.node.script([2]);
    let moved = scene.translated(Hook::FromPod, datagram());
    assert_eq!(moved.destination.0, A::of(LOCAL + 2));
    assert_eq!(scene.counted(Counter::UdpRebalanced), 1);
    assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (false, false));
    let shown = scene.translated(Hook::ToPod, moved.turned());
    assert_eq!(shown.source, datagram::<A>().destination);
}

fn udp_stays_when_policy_deselects_its_backend<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    draw_only(&scene, 0);
    let seen = scene.translated(Hook::FromPod, datagram());
    let rest = scene.node.add_list(&[Scene::<A>::id(protocol::UDP, 2)], TAG);
    scene.set_lists(protocol::UDP, rest, rest, rest);
    assert_eq!(scene.translated(Hook::FromPod, datagram()), seen);
    let other = scene.translated(Hook::FromPod, Packet::udp((POD, 40001), FRONTEND));
    assert_eq!(other.destination.0, A::of(LOCAL + 1));
}

fn udp_goes_on_to_a_backend_of_another_life<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    scene.translated(Hook::FromPod, datagram());
    let id = Scene::<A>::id(protocol::UDP, 1);
    let backend = scene.node.backends.get_mut(&id).unwrap();
    backend.life = 2;
    scene.translated(Hook::FromPod, datagram());
    assert_eq!(scene.counted(Counter::UdpRebalanced), 1);
    assert_eq!(scene.work.flow.generation, 2);
}

fn remove<A: Spoken>(scene: &Scene<A>, packet: &Packet<A>, direction: Direction) {
    let key = packet.key(direction);
    scene
        .node
        .flows
        .borrow_mut()
        .retain(|(_, other), _| *other != key);
}

fn a_lost_reverse_entry_is_put_back<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let (syn, seen) = scene.establish(Hook::FromPod, syn());
    remove(&scene, &seen.turned(), Direction::Reverse);
    let reply = seen.turned().with_flags(tcp::ACK).with_payload(3);
    assert_eq!(scene.send(Hook::ToPod, reply), Decision::Pass);
    assert_eq!(scene.counted(Counter::ReverseWithoutFlow), 1);
    scene.node.advance(SECOND);
    scene.translated(Hook::FromPod, syn.with_flags(tcp::ACK));
    assert_eq!(scene.counted(Counter::PartnerRestored), 1);
    let shown = scene.translated(Hook::ToPod, reply);
    assert_eq!((shown.source, shown.destination), (syn.destination, syn.source));
    let entry = scene
        .node
        .entry(FlowTable::Flows, &seen.turned().key(Direction::Reverse))
        .unwrap();
    assert_eq!(entry.meta.state(), state::REPLIED | state::ESTABLISHED);
}

fn a_lost_forward_entry_is_put_back<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    let (syn, seen) = scene.establish(Hook::FromPod, syn());
    remove(&scene, &syn, Direction::Forward);
    scene.node.advance(SECOND);
    scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::ACK).with_payload(3));
    assert_eq!(scene.counted(Counter::PartnerRestored), 1);
    assert_eq!(
        scene
            .translated(Hook::FromPod, syn.with_flags(tcp::ACK))
            .destination,
        seen.destination
    );
}

fn within_a_second_no_entry_is_written<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let (syn, seen) = scene.establish(Hook::FromPod, syn());
    let before = scene.node.flows.borrow().clone();
    scene.node.advance(SECOND - 1);
    for _ in 0..10 {
        scene.translated(Hook::FromPod, syn.with_flags(tcp::ACK).with_payload(1));
        scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::ACK).with_payload(1));
    }
    assert_eq!(*scene.node.flows.borrow(), before);
    scene.node.advance(1);
    scene.translated(Hook::FromPod, syn.with_flags(tcp::ACK).with_payload(1));
    let now = scene.node.clock.get();
    assert!(
        scene
            .node
            .flows
            .borrow()
            .values()
            .all(|flow| flow.meta.seen() == now),
        "both entries at once"
    );
}

/// A flow lost its reverse entry, and before a second was over another flow took the key.
fn a_partner_that_belongs_to_another_flow_is_left_alone<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let robbed = datagram();
    let seen = scene.translated(Hook::FromPod, robbed);
    remove(&scene, &seen.turned(), Direction::Reverse);
    let other = Packet::udp(CALLER, (OTHER_IP, 80));
    assert_eq!(scene.translated(Hook::FromPod, other), seen);
    let entry = |scene: &Scene<A>| {
        let key = seen.turned().key(Direction::Reverse);
        scene.node.entry(FlowTable::Embryos, &key).unwrap()
    };
    let before = entry(&scene);
    scene.node.advance(SECOND);
    scene.translated(Hook::FromPod, robbed);
    assert_eq!(entry(&scene), before);
    // Nor does it go with the flow that lost it.
    scene.node.kill_backend(Scene::<A>::id(protocol::UDP, 1));
    scene.send(Hook::FromPod, robbed);
    assert_eq!(entry(&scene), before);
}
