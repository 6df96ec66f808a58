//! Whose calls are translated, and to what.

use super::*;
use crate::rules::scene::*;

in_both_families!(
    a_cluster_ip_becomes_a_backend,
    strangers_stay_untouched,
    without_endpoints_a_call_is_refused,
    the_callers_policy_is_the_nodes,
    loopback_stands_for_the_node_in_the_hosts_namespace_only,
    node_ports_answer_at_chosen_addresses_only,
    dead_backends_are_drawn_around,
    a_guarded_address_is_for_the_host_by_its_own_address_and_for_pods_by_packets,
);

const HOST: u64 = 1;
const ELSEWHERE: u64 = 2;

fn socket(netns_cookie: u64, ip_protocol: u8) -> Socket {
    Socket {
        netns_cookie,
        protocol: ip_protocol,
    }
}

fn call<A: Spoken>(scene: &Scene<A>, socket: Socket, to: (u16, u16), is_loopback: bool) -> Choice {
    let (address, port) = (A::of(to.0), Port::new(to.1));
    choose(
        &scene.node,
        &scene.node.config,
        &socket,
        &address,
        port,
        is_loopback,
    )
}

#[test]
fn the_host_is_served_always_and_pods_tcp_on_demand() {
    let with_pods = Config {
        flags: CONFIG_PODS_SOCKET_LB,
        ..CONFIG
    };
    for (config, cookie, ip_protocol, expected) in [
        (CONFIG, HOST, protocol::TCP, true),
        (CONFIG, HOST, protocol::UDP, true),
        (CONFIG, HOST, protocol::SCTP, false),
        (CONFIG, ELSEWHERE, protocol::TCP, false),
        (with_pods, ELSEWHERE, protocol::TCP, true),
        (with_pods, ELSEWHERE, protocol::UDP, false),
        (with_pods, ELSEWHERE, protocol::SCTP, false),
    ] {
        assert_eq!(serves(&config, &socket(cookie, ip_protocol)), expected);
    }
}

fn a_cluster_ip_becomes_a_backend<A: Spoken>() {
    let scene = Scene::<A>::new(&[LOCAL, REMOTE]);
    for ip_protocol in [protocol::TCP, protocol::UDP] {
        for to in [(CLUSTER_IP, 80), (LOAD_BALANCER, 80), (NODE, NODE_PORT)] {
            let Choice::Backend(id, backend) = call(&scene, socket(HOST, ip_protocol), to, false) else {
                panic!("{to:?} stays untouched");
            };
            assert_eq!(scene.node.backends[&id], backend);
            assert_eq!(backend.protocol, ip_protocol);
        }
    }
}

fn strangers_stay_untouched<A: Spoken>() {
    let scene = Scene::<A>::new(&[LOCAL]);
    for to in [(CLUSTER_IP, 81), (CLIENT, 80), (CLIENT, NODE_PORT), (NODE, 80)] {
        assert_eq!(
            call(&scene, socket(HOST, protocol::TCP), to, false),
            Choice::Untouched
        );
    }
}

fn without_endpoints_a_call_is_refused<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for (when, counter) in [
        (When::Reject, Counter::NoEndpoint),
        (When::Drop, Counter::NoLocalEndpoint),
    ] {
        scene.empty_lists(when);
        let choice = call(&scene, socket(ELSEWHERE, protocol::TCP), (CLUSTER_IP, 80), false);
        assert_eq!(choice, Choice::Refuse(counter));
    }
    scene.empty_lists(When::Pass);
    let choice = call(&scene, socket(ELSEWHERE, protocol::TCP), (CLUSTER_IP, 80), false);
    assert_eq!(choice, Choice::Untouched);
}

fn the_callers_policy_is_the_nodes<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[REMOTE]);
    let all = scene.node.services[&crate::layout::ServiceId(1)].internal;
    let none = crate::layout::ListWord::empty(When::Drop, TAG);
    scene.set_lists(protocol::TCP, all, none, all);
    let choice = call(&scene, socket(HOST, protocol::TCP), (LOAD_BALANCER, 80), false);
    assert!(matches!(choice, Choice::Backend(..)));
}

fn loopback_stands_for_the_node_in_the_hosts_namespace_only<A: Spoken>() {
    let scene = Scene::<A>::new(&[LOCAL]);
    let to = |cookie, port| call(&scene, socket(cookie, protocol::TCP), (0, port), true);
    assert!(matches!(to(HOST, NODE_PORT), Choice::Backend(..)));
    assert_eq!(to(ELSEWHERE, NODE_PORT), Choice::Untouched);
    assert_eq!(to(HOST, 80), Choice::Untouched);
}

fn node_ports_answer_at_chosen_addresses_only<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    scene.node.silent_addresses.insert(A::of(EGRESS));
    scene.node.config.flags = CONFIG_PODS_SOCKET_LB | no_loopback(A::FAMILY);
    for ip_protocol in [protocol::TCP, protocol::UDP] {
        for cookie in [HOST, ELSEWHERE] {
            let to = |address, is_loopback| {
                call(
                    &scene,
                    socket(cookie, ip_protocol),
                    (address, NODE_PORT),
                    is_loopback,
                )
            };
            assert!(matches!(to(NODE, false), Choice::Backend(..)));
            assert_eq!(to(EGRESS, false), Choice::Untouched);
            assert_eq!(to(0, true), Choice::Untouched);
        }
    }
    // The other family's loopback is its own affair.
    scene.node.config.flags =
        crate::layout::CONFIG_NO_LOOPBACK4 ^ crate::layout::CONFIG_NO_LOOPBACK6 ^ no_loopback(A::FAMILY);
    let to = call(&scene, socket(HOST, protocol::UDP), (0, NODE_PORT), true);
    assert!(matches!(to, Choice::Backend(..)));
}

fn a_guarded_address_is_for_the_host_by_its_own_address_and_for_pods_by_packets<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let from =
        |scene: &Scene<A>, cookie| call(scene, socket(cookie, protocol::TCP), (LOAD_BALANCER, 80), false);
    for (ranges, allowed) in [(&[POD, NODE][..], true), (&[POD], false), (&[], false)] {
        scene.guard(ranges);
        assert_eq!(from(&scene, ELSEWHERE), Choice::Untouched);
        assert_eq!(matches!(from(&scene, HOST), Choice::Backend(..)), allowed);
        if !allowed {
            assert_eq!(from(&scene, HOST), Choice::Refuse(Counter::SourceNotAllowed));
        }
    }
    scene.guard(&[NODE]);
    scene.node.primary = None;
    assert_eq!(from(&scene, HOST), Choice::Refuse(Counter::SourceNotAllowed));
    let elsewhere = call(&scene, socket(ELSEWHERE, protocol::TCP), (CLUSTER_IP, 80), false);
    assert!(matches!(elsewhere, Choice::Backend(..)));
}

fn dead_backends_are_drawn_around<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1]);
    scene.node.kill_backend(BackendId(1));
    scene.node.script([0, 0, 0, 1]);
    let choice = call(&scene, socket(HOST, protocol::TCP), (CLUSTER_IP, 80), false);
    assert!(matches!(choice, Choice::Backend(BackendId(2), _)));
    scene.node.kill_backend(BackendId(2));
    let choice = call(&scene, socket(HOST, protocol::TCP), (CLUSTER_IP, 80), false);
    assert_eq!(choice, Choice::Refuse(Counter::NoEndpoint));
}
