//! A backend's connections are counted while they last.

use crate::layout::{BackendId, Direction, protocol};
use crate::rules::headers::tcp;
use crate::rules::scene::*;

in_both_families!(
    a_connection_counts_from_its_first_packet_until_it_closes,
    a_reset_ends_it_and_data_takes_that_back,
    a_lost_race_counts_once,
    a_datagrams_flow_counts_until_its_backend_is_gone,
);

const OUTSIDE: (u16, u16) = (CLIENT, 33000);
const VIP: (u16, u16) = (CLUSTER_IP, 80);

fn load<A: Spoken>(scene: &Scene<A>) -> i32 {
    scene.node.loads.borrow().values().sum()
}

fn a_connection_counts_from_its_first_packet_until_it_closes<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for make in [Packet::<A>::syn, Packet::init] {
        let (open, seen) = scene.establish(Hook::FromNetwork, make(OUTSIDE, VIP));
        assert_eq!(load(&scene), 1);
        let fin = open.with_flags(tcp::FIN | tcp::ACK).numbers(1001, 5001);
        scene.translated(Hook::FromNetwork, fin);
        assert_eq!(load(&scene), 1, "the backend may go on");
        let answer = seen.turned().with_flags(tcp::FIN | tcp::ACK).numbers(5001, 1002);
        scene.translated(Hook::ToNetwork, answer);
        assert_eq!(load(&scene), 0);
        // The last words change nothing, and the port's next connection counts anew.
        scene.translated(Hook::FromNetwork, open.with_flags(tcp::ACK).numbers(1002, 5002));
        assert_eq!(load(&scene), 0);
        scene.translated(Hook::FromNetwork, open);
        assert_eq!(load(&scene), 1);
        scene.translated(Hook::FromNetwork, open.with_flags(tcp::RST));
        assert_eq!(load(&scene), 0);
    }
}

fn a_reset_ends_it_and_data_takes_that_back<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    let (syn, seen) = {
        let syn = Packet::<A>::syn(OUTSIDE, VIP);
        let seen = scene.translated(Hook::FromNetwork, syn);
        let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
        scene.translated(Hook::FromNetwork, answer);
        scene.translated(Hook::FromNetwork, syn.with_flags(tcp::ACK).numbers(1001, 5001));
        (syn, seen)
    };
    scene.translated(Hook::FromNetwork, syn.with_flags(tcp::RST));
    assert_eq!(load(&scene), 0);
    let data = seen.turned().with_flags(tcp::ACK).with_payload(5);
    scene.translated(Hook::FromNetwork, data);
    assert_eq!(load(&scene), 1);
}

fn a_lost_race_counts_once<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let syn = Packet::<A>::syn(OUTSIDE, VIP);
    scene.translated(Hook::FromNetwork, syn);
    scene.translated(Hook::FromNetwork, syn);
    assert_eq!(load(&scene), 1);
    assert!(scene.tables(&syn, Direction::Forward).0);
}

fn a_datagrams_flow_counts_until_its_backend_is_gone<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    let datagram = Packet::<A>::udp(OUTSIDE, VIP);
    scene.translated(Hook::FromNetwork, datagram);
    let first = scene.work.flow.backend;
    assert_eq!(scene.node.loads.borrow()[&first], 1);
    scene.node.kill_backend(first);
    scene.node.script((0..20).map(|n| n % 2));
    scene.translated(Hook::FromNetwork, datagram);
    let second = scene.work.flow.backend;
    assert_ne!(first, second);
    let loads = scene.node.loads.borrow();
    assert_eq!((loads[&first], loads[&second]), (0, 1));
    assert_ne!(first, BackendId(0));
    assert_eq!(datagram.protocol, protocol::UDP);
}
