//! Associations: what opens, proves and ends them, and what their fragments can't have.

use crate::layout::{Config, Counter, Direction, FlowTable, protocol, state};
use crate::rules::headers::tcp;
use crate::rules::scene::*;
use crate::rules::{Decision, lifetime};

const CALLER: (u16, u16) = (POD, 40000);
const FRONTEND: (u16, u16) = (CLUSTER_IP, 80);

in_both_families!(
    the_tag_of_the_init_ack_promotes,
    a_wrong_tag_does_not_promote,
    an_abort_with_the_tag_does_not_promote,
    the_last_init_ack_names_the_tag,
    without_an_init_there_is_no_flow,
    an_init_on_a_live_flow_keeps_its_backend,
    an_init_on_an_association_that_is_over_chooses_anew,
    an_association_keeps_a_backend_that_stopped_serving,
    an_end_shortens_the_life_and_data_restores_it,
    shutdowns_of_both_sides_shorten_the_life,
    a_fragment_passes_where_no_port_changes,
    fragments_are_dropped_where_a_port_changes,
);

fn init<A: Spoken>() -> Packet<A> {
    Packet::init(CALLER, FRONTEND)
}

/// An INIT and an INIT ACK that asks for tag 5000; what the backend saw.
fn answered<A: Spoken>() -> (Scene<A>, Packet<A>) {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let seen = scene.translated(Hook::FromPod, init());
    scene.translated(Hook::ToPod, answer(&seen, 5000));
    (scene, seen)
}

fn answer<A: Spoken>(seen: &Packet<A>, tag: u32) -> Packet<A> {
    seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(tag, 1000)
}

/// A packet of the client with a tag.
fn tagged<A: Spoken>(flags: u8, tag: u32) -> Packet<A> {
    init().with_flags(flags).numbers(0, tag)
}

fn the_tag_of_the_init_ack_promotes<A: Spoken>() {
    let (mut scene, seen) = answered::<A>();
    assert_eq!(scene.tables(&init(), Direction::Forward), (true, false));
    scene.translated(Hook::FromPod, tagged(tcp::ACK, 5000));
    assert_eq!(scene.tables(&init(), Direction::Forward), (false, true));
    assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (false, true));
    assert_eq!(scene.counted(Counter::FlowPromoted), 1);
}

fn a_wrong_tag_does_not_promote<A: Spoken>() {
    let (mut scene, _) = answered::<A>();
    for tag in [0, 1000, 4999, 5001, 5000 + (1 << 16)] {
        scene.translated(Hook::FromPod, tagged(tcp::ACK, tag));
        assert_eq!(scene.counted(Counter::FlowPromoted), 0, "{tag}");
    }
}

fn an_abort_with_the_tag_does_not_promote<A: Spoken>() {
    let (mut scene, _) = answered::<A>();
    scene.translated(Hook::FromPod, tagged(tcp::RST, 5000));
    assert_eq!(scene.counted(Counter::FlowPromoted), 0);
}

fn the_last_init_ack_names_the_tag<A: Spoken>() {
    let (mut scene, seen) = answered::<A>();
    scene.translated(Hook::FromPod, init());
    scene.translated(Hook::ToPod, answer(&seen, 6000));
    scene.translated(Hook::FromPod, tagged(tcp::ACK, 5000));
    assert_eq!(scene.counted(Counter::FlowPromoted), 0);
    scene.translated(Hook::FromPod, tagged(tcp::ACK, 6000));
    assert_eq!(scene.counted(Counter::FlowPromoted), 1);
}

fn without_an_init_there_is_no_flow<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for flags in [tcp::ACK, tcp::RST, tcp::FIN | tcp::ACK, tcp::SYN | tcp::ACK] {
        assert_eq!(scene.send(Hook::FromPod, tagged(flags, 1)), Decision::Pass);
    }
    assert_eq!(scene.counted(Counter::SctpWithoutFlow), 4);
    assert_eq!(scene.counted(Counter::TcpWithoutFlow), 0);
    assert!(scene.node.flows.borrow().is_empty());
}

fn an_init_on_a_live_flow_keeps_its_backend<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1, LOCAL + 2]);
    let (init, seen) = scene.establish(Hook::FromPod, init());
    for _ in 0..20 {
        assert_eq!(
            scene.translated(Hook::FromPod, init).destination,
            seen.destination
        );
    }
    assert_eq!(scene.counted(Counter::FlowCreated), 1);
}

fn an_init_on_an_association_that_is_over_chooses_anew<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let (init, _) = scene.establish(Hook::FromPod, init());
    scene.translated(Hook::FromPod, init.with_flags(tcp::RST));
    scene.translated(Hook::FromPod, init);
    assert_eq!(scene.counted(Counter::FlowCreated), 2);
    assert_eq!(scene.tables(&init, Direction::Forward), (true, false));
}

fn an_association_keeps_a_backend_that_stopped_serving<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    let (init, seen) = scene.establish(Hook::FromPod, init());
    for nth in [1, 2] {
        scene.node.kill_backend(Scene::<A>::id(protocol::SCTP, nth));
    }
    let data = init.with_flags(tcp::ACK).with_payload(10);
    assert_eq!(
        scene.translated(Hook::FromPod, data).destination,
        seen.destination
    );
    assert_eq!(scene.counted(Counter::UdpRebalanced), 0);
}

fn life<A: Spoken>(scene: &Scene<A>, packet: &Packet<A>) -> u32 {
    let key = packet.key(Direction::Forward);
    let flow = scene.node.entry(FlowTable::Flows, &key).unwrap();
    let config: &Config = &scene.node.config;
    lifetime::of(config, protocol::SCTP, flow.meta.state()) / SECOND
}

fn an_end_shortens_the_life_and_data_restores_it<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let (init, seen) = scene.establish(Hook::FromPod, init());
    assert_eq!(life(&scene, &init), 86_400);
    scene.translated(Hook::ToPod, seen.turned().with_flags(tcp::RST));
    assert_eq!(life(&scene, &init), 120);
    // An ERROR says nothing of it.
    scene.translated(Hook::FromPod, init.with_flags(tcp::ACK));
    assert_eq!(life(&scene, &init), 120);
    scene.translated(Hook::FromPod, init.with_flags(tcp::ACK).with_payload(4));
    assert_eq!(life(&scene, &init), 86_400);
}

fn shutdowns_of_both_sides_shorten_the_life<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let (init, seen) = scene.establish(Hook::FromPod, init());
    let shutdown = tcp::FIN | tcp::ACK;
    scene.translated(Hook::FromPod, init.with_flags(shutdown));
    assert_eq!(life(&scene, &init), 3600);
    scene.translated(Hook::ToPod, seen.turned().with_flags(shutdown));
    assert_eq!(life(&scene, &init), 120);
    let flow = scene.node.entry(FlowTable::Flows, &init.key(Direction::Forward));
    let bits = flow.unwrap().meta.state();
    assert_eq!(bits & state::RESET, 0);
}

fn piece<A: Spoken>(packet: Packet<A>, offset: u16) -> Packet<A> {
    Packet {
        fragment: Some((7, offset, offset == 0)),
        ..packet
    }
}

/// Established by whole packets; then a packet of data comes in pieces.
fn a_fragment_passes_where_no_port_changes<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let frontend = (CLUSTER_IP, TARGET_PORT);
    let key = |port: u16| {
        let port = crate::layout::Port::new(port);
        crate::layout::FrontendKey::new(A::of(CLUSTER_IP), port, protocol::SCTP)
    };
    let value = scene.node.frontends[&key(80)];
    let kind = crate::layout::FrontendKind::ClusterIp;
    scene
        .node
        .add_frontend(key(TARGET_PORT), kind, value.service, TAG);
    let (init, seen) = scene.establish(Hook::FromPod, Packet::init(CALLER, frontend));
    let data = init.with_flags(tcp::ACK).with_payload(32);
    for offset in [0, 64] {
        let there = scene.translated(Hook::FromPod, piece(data, offset));
        assert_eq!(there.destination, seen.destination);
        let back = scene.translated(Hook::ToPod, piece(seen.turned().with_flags(tcp::ACK), offset));
        assert_eq!((back.source, back.destination), (init.destination, init.source));
    }
}

fn fragments_are_dropped_where_a_port_changes<A: Spoken>() {
    let dropped = Decision::Drop(Counter::SctpFragment);
    for (at, back, backend, caller, to) in [
        (Hook::FromPod, Hook::ToPod, LOCAL, POD, (CLUSTER_IP, 80)),
        (
            Hook::FromNetwork,
            Hook::FromNetwork,
            REMOTE,
            CLIENT,
            (LOAD_BALANCER, 80),
        ),
        (
            Hook::FromNetwork,
            Hook::ToNetwork,
            LOCAL,
            CLIENT,
            (NODE, NODE_PORT),
        ),
    ] {
        let mut scene = Scene::<A>::new(&[backend]);
        let init = Packet::init((caller, 40000), to);
        let seen = scene.translated(at, init);
        let data = init.with_flags(tcp::ACK).with_payload(32);
        for offset in [0, 64] {
            assert_eq!(scene.send(at, piece(data, offset)), dropped);
            let answer = piece(seen.turned().with_flags(tcp::ACK), offset);
            assert_eq!(scene.send(back, answer), dropped);
        }
        // Whole packets go on.
        scene.translated(at, data);
    }
}
