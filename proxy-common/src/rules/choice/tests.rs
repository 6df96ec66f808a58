//! The spread of the choice, and which frontend a destination is.

use std::vec::Vec;

use super::*;
use crate::layout::{V4, protocol};
use crate::rules::scene::*;

in_both_families!(
    draws_spread_evenly,
    an_exact_frontend_goes_before_a_node_port,
    an_unknown_kind_is_no_frontend,
    the_list_follows_kind_and_caller,
    a_service_that_is_not_there_refuses,
    a_draw_from_an_empty_list_or_of_a_dead_backend_gives_nothing,
);

/// The 99.99 % quantile of chi-square, by Wilson and Hilferty.
fn bound(degrees: f64) -> f64 {
    let part = 2.0 / (9.0 * degrees);
    degrees * (1.0 - part + 3.719 * part.sqrt()).powi(3)
}

fn draws_spread_evenly<A: Spoken>() {
    for count in [2_u32, 3, 7, 100, 1000] {
        let numbers: Vec<_> = (0..count as u16).map(|n| LOCAL + n).collect();
        let scene = Scene::<A>::new(&numbers);
        let list = scene.node.services[&ServiceId(1)].internal;
        let draws = count * 200;
        let mut times = std::vec![0_u32; count as usize + 1];
        for _ in 0..draws {
            let id = draw(&scene.node, list);
            assert!(scene.node.backends[&BackendId(id)].is_alive());
            times[id as usize] += 1;
        }
        assert_eq!(times[0], 0);
        let expected = f64::from(draws) / f64::from(count);
        let square: f64 = times[1..]
            .iter()
            .map(|n| (f64::from(*n) - expected).powi(2) / expected)
            .sum();
        assert!(square < bound(f64::from(count - 1)), "{count} backends: {square}");
    }
}

fn an_exact_frontend_goes_before_a_node_port<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let port = Port::new(NODE_PORT);
    let found = |scene: &Scene<A>| frontend(&scene.node, &A::of(NODE), port, protocol::TCP).unwrap();
    assert_eq!(found(&scene).kind, FrontendKind::NodePort);
    let key = FrontendKey::new(A::of(NODE), port, protocol::TCP);
    scene
        .node
        .add_frontend(key, FrontendKind::ExternalIp, ServiceId(9), 1);
    assert_eq!(
        (found(&scene).kind, found(&scene).service),
        (FrontendKind::ExternalIp, ServiceId(9))
    );
}

fn an_unknown_kind_is_no_frontend<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for value in scene.node.frontends.values_mut() {
        value.kind = 9;
    }
    for address in [CLUSTER_IP, NODE] {
        for port in [80, NODE_PORT] {
            let found = frontend(&scene.node, &A::of(address), Port::new(port), protocol::UDP);
            assert_eq!(found, None);
        }
    }
}

fn the_list_follows_kind_and_caller<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let lists @ [internal, external, shortcut] = [1, 2, 3].map(|first| ListWord::new(first, 1, TAG));
    scene.set_lists(protocol::TCP, lists[0], lists[1], lists[2]);
    for (kind, caller, expected) in [
        (FrontendKind::ClusterIp, Caller::Node, internal),
        (FrontendKind::ClusterIp, Caller::Outside, internal),
        (FrontendKind::NodePort, Caller::Node, shortcut),
        (FrontendKind::NodePort, Caller::Outside, external),
        (FrontendKind::LoadBalancer, Caller::Node, shortcut),
        (FrontendKind::LoadBalancer, Caller::Outside, external),
        (FrontendKind::ExternalIp, Caller::Node, shortcut),
        (FrontendKind::ExternalIp, Caller::Outside, external),
    ] {
        let found = Found {
            service: ServiceId(1),
            kind,
            tag: TAG,
        };
        assert_eq!(
            offer(&scene.node, &found, caller).list,
            expected,
            "{kind:?} {caller:?}"
        );
    }
}

fn a_service_that_is_not_there_refuses<A: Spoken>() {
    let scene = Scene::<A>::new(&[LOCAL]);
    for (service, tag) in [(ServiceId(77), TAG), (ServiceId(1), TAG + 1)] {
        let found = Found {
            service,
            kind: FrontendKind::ClusterIp,
            tag,
        };
        let word = offer(&scene.node, &found, Caller::Node).list;
        assert_eq!((word.count(), word.when_empty()), (0, When::Reject));
    }
}

fn a_draw_from_an_empty_list_or_of_a_dead_backend_gives_nothing<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    let list = scene.node.services[&ServiceId(1)].internal;
    assert_eq!(draw(&scene.node, ListWord::empty(When::Drop, TAG)), 0);
    assert_eq!(
        draw(&scene.node, ListWord::new(500, 1, TAG)),
        0,
        "beyond the slots"
    );
    scene.node.kill_backend(BackendId(1));
    assert_eq!(draw(&scene.node, list), 0);
}

#[test]
fn a_frontend_that_became_another_keys_is_not_found() {
    let mut scene = Scene::<V4>::new(&[LOCAL]);
    for value in scene.node.frontends.values_mut() {
        value.tag = value.tag.wrapping_add(1);
    }
    assert_eq!(
        frontend(&scene.node, &V4::of(CLUSTER_IP), Port::new(80), protocol::TCP),
        None
    );
}
