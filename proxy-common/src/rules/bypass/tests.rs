//! In both directions, or not at all.

use crate::layout::{Action, BACKEND_POD, CONFIG_BYPASSED, CONFIG_FAST, Counter, Direction, FlowTable};
use crate::rules::headers::tcp;
use crate::rules::scene::*;
use crate::rules::{Decision, Origin};

const BALANCER: (u16, u16) = (LOAD_BALANCER, 80);
const BYPASS: Decision = Decision::Translate(Action::Bypass);
const STACK: Decision = Decision::Translate(Action::Stack);

in_both_families!(
    both_directions_go_around_the_stack,
    what_has_no_way_with_our_programs_goes_through_the_stack,
    a_remote_backend_that_is_no_pod_goes_through_the_stack,
    without_the_switch_nothing_changes,
    flows_keep_their_way_when_the_switch_is_turned,
    what_the_nodes_name_is_needed_for_goes_as_before,
    an_uplink_is_remembered_for_answers,
    a_flow_that_lost_its_forward_entry_goes_the_new_way_with_its_old_backend,
    a_joined_connection_is_the_stacks,
    pieces_of_a_reply_go_the_way_of_the_whole,
    a_reply_that_came_by_the_stack_is_translated_behind_it,
    established_packets_are_decided_in_short,
    a_flow_by_another_port_goes_around_it_too,
);

/// The switch is on, and backends are where our programs are.
fn fast<A: Spoken>(backends: &[u16]) -> Scene<A> {
    let mut scene = Scene::<A>::new(backends);
    turn(&mut scene, true);
    for number in backends {
        let place = if *number < REMOTE {
            Origin::Pod
        } else {
            Origin::Network
        };
        scene.node.ways.insert(A::of(*number), place);
    }
    for backend in scene.node.backends.values_mut() {
        backend.flags |= BACKEND_POD;
    }
    scene
}

fn turn<A: Spoken>(scene: &mut Scene<A>, is_on: bool) {
    scene.node.config.flags = if is_on {
        CONFIG_FAST | CONFIG_BYPASSED
    } else {
        CONFIG_BYPASSED
    };
}

/// Where a call comes in, whose it is, where its backend is, and where the backend's packets come in.
const WAYS: [(Hook, u16, u16, Hook); 3] = [
    (Hook::FromNetwork, CLIENT, LOCAL, Hook::FromPod),
    (Hook::FromPod, POD, LOCAL, Hook::FromPod),
    (Hook::FromPod, POD, REMOTE, Hook::FromNetwork),
];

fn both_directions_go_around_the_stack<A: Spoken>() {
    for (at, client, backend, back) in WAYS {
        for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
            for to in [BALANCER, (CLUSTER_IP, 80), (NODE, NODE_PORT)] {
                let mut scene = fast::<A>(&[backend]);
                let call = make((client, 33000), to);
                assert_eq!(scene.send(at, call), BYPASS, "{at:?} {to:?}");
                let seen = scene.translated(at, call);
                assert_eq!(
                    (seen.source, seen.destination),
                    (call.source, (A::of(backend), TARGET_PORT))
                );
                let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
                assert_eq!(scene.send(back, answer), BYPASS, "{back:?} {to:?}");
                let shown = scene.translated(back, answer);
                assert_eq!((shown.source, shown.destination), (call.destination, call.source));
                let proof = if call.protocol == crate::layout::protocol::TCP {
                    5001
                } else {
                    5000
                };
                assert_eq!(
                    scene.send(at, call.with_flags(tcp::ACK).numbers(1001, proof)),
                    BYPASS
                );
                assert_eq!(scene.tables(&call, Direction::Forward), (false, true));
                assert_eq!(scene.tables(&seen.turned(), Direction::Reverse), (false, true));
            }
        }
    }
}

fn what_has_no_way_with_our_programs_goes_through_the_stack<A: Spoken>() {
    for (at, client, backend, back) in WAYS {
        let mut scene = fast::<A>(&[backend]);
        scene.node.ways.clear();
        let call = Packet::udp((client, 33000), BALANCER);
        assert_eq!(scene.send(at, call), STACK);
        let reply = scene.translated(at, call).turned();
        assert_eq!(scene.send(back, reply), Decision::Pass, "behind the stack");
        // A way that leads elsewhere is none.
        let elsewhere = if back == Hook::FromPod {
            Origin::Network
        } else {
            Origin::Pod
        };
        scene.node.ways.insert(A::of(backend), elsewhere);
        assert_eq!(scene.send(at, Packet::udp((client, 33001), BALANCER)), STACK);
    }
}

fn a_remote_backend_that_is_no_pod_goes_through_the_stack<A: Spoken>() {
    let mut scene = fast::<A>(&[REMOTE]);
    for backend in scene.node.backends.values_mut() {
        backend.flags &= !BACKEND_POD;
    }
    let call = Packet::udp((POD, 33000), BALANCER);
    assert_eq!(scene.send(Hook::FromPod, call), STACK);
    let reply = scene.translated(Hook::FromPod, call).turned();
    assert_eq!(scene.send(Hook::FromNetwork, reply), Decision::Pass);
    assert_eq!(scene.send(Hook::ToPod, reply), STACK);
}

fn without_the_switch_nothing_changes<A: Spoken>() {
    for (at, client, backend, back) in WAYS {
        let mut scene = fast::<A>(&[backend]);
        scene.node.config.flags = 0;
        let call = Packet::udp((client, 33000), BALANCER);
        assert_eq!(scene.send(at, call), STACK);
        let reply = scene.translated(at, call).turned();
        assert_eq!(scene.send(back, reply), Decision::Pass);
    }
}

fn flows_keep_their_way_when_the_switch_is_turned<A: Spoken>() {
    for (at, client, backend, back) in WAYS {
        for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
            let mut scene = fast::<A>(&[backend]);
            let behind = if at == Hook::FromPod {
                Hook::ToPod
            } else {
                Hook::ToNetwork
            };
            let (first, second, third) = (
                make((client, 33000), BALANCER),
                make((client, 33001), BALANCER),
                make((client, 33002), BALANCER),
            );
            assert_eq!(scene.send(at, first), BYPASS);
            let around = scene.translated(at, first).turned();
            turn(&mut scene, false);
            assert_eq!(scene.send(at, first), BYPASS);
            assert_eq!(scene.send(back, around), BYPASS);
            assert_eq!(scene.send(at, second), STACK);
            let through = scene.translated(at, second).turned();
            assert_eq!(scene.send(back, through), Decision::Pass);
            assert_eq!(scene.send(behind, through), STACK);
            turn(&mut scene, true);
            assert_eq!(scene.send(at, second), STACK);
            assert_eq!(scene.send(back, through), Decision::Pass);
            assert_eq!(scene.send(behind, through), STACK);
            assert_eq!(scene.send(at, third), BYPASS);
        }
    }
}

fn what_the_nodes_name_is_needed_for_goes_as_before<A: Spoken>() {
    let mut scene = fast::<A>(&[REMOTE]);
    let call = Packet::udp((CLIENT, 33000), BALANCER);
    assert_eq!(
        scene.send(Hook::FromNetwork, call),
        Decision::Translate(Action::Redirect)
    );
    let reply = scene.translated(Hook::FromNetwork, call).turned();
    assert_eq!(
        scene.send(Hook::FromNetwork, reply),
        Decision::Translate(Action::Redirect)
    );
    let mut scene = fast::<A>(&[LOCAL]);
    let call = Packet::udp((LOCAL, 33000), BALANCER);
    assert_eq!(
        scene.send(Hook::FromPod, call),
        Decision::Translate(Action::Hairpin)
    );
    let reply = scene.translated(Hook::FromPod, call).turned();
    assert_eq!(
        scene.send(Hook::FromPod, reply),
        Decision::Translate(Action::Hairpin)
    );
}

fn an_uplink_is_remembered_for_answers<A: Spoken>() {
    for (at, client, backend, back) in WAYS {
        let mut scene = fast::<A>(&[backend]);
        scene.node.came_in_by = 7;
        let call = Packet::udp((client, 33000), BALANCER);
        let seen = scene.translated(at, call);
        assert_eq!(scene.work.way_back(), 0);
        scene.translated(back, seen.turned());
        let expected = if at == Hook::FromNetwork { 7 } else { 0 };
        assert_eq!(scene.work.way_back(), expected);
    }
}

fn a_flow_that_lost_its_forward_entry_goes_the_new_way_with_its_old_backend<A: Spoken>() {
    for is_fast in [true, false] {
        let mut scene = fast::<A>(&[LOCAL]);
        turn(&mut scene, !is_fast);
        let call = Packet::udp((CLIENT, 33000), BALANCER);
        let seen = scene.translated(Hook::FromNetwork, call);
        turn(&mut scene, is_fast);
        let key = call.key(Direction::Forward);
        scene.node.flows.borrow_mut().remove(&(FlowTable::Embryos, key));
        let (now, before) = if is_fast { (BYPASS, STACK) } else { (STACK, BYPASS) };
        assert_eq!(scene.send(Hook::FromNetwork, call), now);
        assert_eq!(scene.translated(Hook::FromNetwork, call), seen);
        assert_eq!(scene.counted(Counter::ReverseCollision), 0);
        let (at_once, behind) = (
            scene.send(Hook::FromPod, seen.turned()),
            scene.send(Hook::ToNetwork, seen.turned()),
        );
        assert_ne!(at_once, before);
        assert_eq!(if is_fast { at_once } else { behind }, now);
    }
}

fn a_joined_connection_is_the_stacks<A: Spoken>() {
    use crate::layout::{BackendId, ChoiceRule};
    let mut scene = fast::<A>(&[LOCAL]);
    for ip_protocol in PROTOCOLS {
        let id = Scene::<A>::id(ip_protocol, 1);
        let list = scene
            .node
            .add_table(&[id], ChoiceRule::Maglev, &[BackendId(id.0)], TAG);
        scene.set_lists(ip_protocol, list, list, list);
    }
    let middle = Packet::tcp((CLIENT, 33000), BALANCER, tcp::ACK);
    assert_eq!(scene.send(Hook::FromNetwork, middle), STACK);
    assert_eq!(scene.counted(Counter::FlowJoined), 1);
    assert_eq!(
        scene.send(Hook::FromNetwork, Packet::syn((CLIENT, 33001), BALANCER)),
        BYPASS
    );
}

fn pieces_of_a_reply_go_the_way_of_the_whole<A: Spoken>() {
    for (at, client, backend, back) in WAYS {
        let mut scene = fast::<A>(&[backend]);
        let call = Packet::udp((client, 33000), BALANCER).with_payload(64);
        let first = |packet: Packet<A>| Packet {
            fragment: Some((9, 0, true)),
            ..packet
        };
        let later = |packet: Packet<A>| Packet {
            fragment: Some((9, 72, false)),
            ..packet
        };
        assert_eq!(scene.send(at, first(call)), BYPASS);
        assert_eq!(scene.send(at, later(call)), BYPASS);
        let reply = scene.translated(at, call).turned();
        assert_eq!(
            scene.send(back, later(reply)),
            Decision::Drop(Counter::FragmentWithoutFirst)
        );
        assert_eq!(scene.send(back, first(reply)), BYPASS);
        assert_eq!(scene.send(back, later(reply)), BYPASS);
    }
}

/// At an interface without our programs, where there were some when the flow was made.
fn a_reply_that_came_by_the_stack_is_translated_behind_it<A: Spoken>() {
    for (at, client, backend, _) in WAYS {
        let mut scene = fast::<A>(&[backend]);
        let call = Packet::udp((client, 33000), BALANCER);
        let reply = scene.translated(at, call).turned();
        let behind = if at == Hook::FromPod {
            Hook::ToPod
        } else {
            Hook::ToNetwork
        };
        let shown = scene.translated(behind, reply);
        assert_eq!((shown.source, shown.destination), (call.destination, call.source));
    }
}

fn established_packets_are_decided_in_short<A: Spoken>() {
    for (at, client, backend, back) in WAYS {
        let mut scene = fast::<A>(&[backend]);
        let syn = Packet::syn((client, 33000), BALANCER);
        let seen = scene.translated(at, syn);
        let answer = seen.turned().with_flags(tcp::SYN | tcp::ACK).numbers(5000, 1001);
        scene.translated(back, answer);
        let data = syn.with_flags(tcp::ACK).numbers(1001, 5001).with_payload(10);
        scene.translated(at, data);
        let reply = seen.turned().with_flags(tcp::ACK).with_payload(10);
        for (hook, packet) in [(at, data), (back, reply)] {
            let flow = settled(&scene.node, hook, &packet.bytes());
            assert_eq!(
                flow.map(|flow| flow.action),
                Some(Action::Bypass as u8),
                "{hook:?}"
            );
            assert_eq!(scene.send(hook, packet), BYPASS);
        }
    }
}

/// One client port to two frontends of one backend.
fn a_flow_by_another_port_goes_around_it_too<A: Spoken>() {
    for (at, client, backend, _) in WAYS {
        let mut scene = fast::<A>(&[backend]);
        let calls = [BALANCER, (CLUSTER_IP, 80)].map(|to| Packet::<A>::udp((client, 33000), to));
        let seen = calls.map(|call| {
            assert_eq!(scene.send(at, call), BYPASS, "{at:?}");
            scene.translated(at, call)
        });
        assert_ne!(seen[0].source.1, seen[1].source.1);
    }
}
