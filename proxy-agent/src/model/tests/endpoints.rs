//! Which endpoints a service port has, and which of them take new flows.

use super::*;

#[test]
fn policies_choose_their_lists() {
    let here_and_there = slice_of(&[(1, "hrs"), (2, "rs"), (3, "")]);
    for (internal, external, expected) in [
        ("Cluster", "Cluster", ["1 2", "1 2", "1 2"]),
        ("Local", "Cluster", ["1", "1 2", "1 2"]),
        ("Cluster", "Local", ["1 2", "1", "1 2"]),
        ("Local", "Local", ["1", "1", "1 2"]),
    ] {
        let service = service(&format!(
            "type: NodePort, internalTrafficPolicy: {internal}, externalTrafficPolicy: {external}"
        ));
        assert_eq!(
            lists(&model(&[&service, &here_and_there])),
            expected,
            "{internal} {external}"
        );
    }
}

#[test]
fn conditions_decide_who_takes_new_flows() {
    let local = service("type: NodePort, internalTrafficPolicy: Local");
    for (endpoints, expected) in [
        // Local list, Cluster list.
        (&[(1, "hrs"), (2, "rs")][..], ["1", "1 2"]),
        // Terminating endpoints that serve are the last resort, of each list on its own.
        (&[(1, "hst"), (2, "rs")], ["1", "2"]),
        (&[(1, "hst"), (2, "st")], ["1", "1 2"]),
        (&[(1, "hrs"), (2, "st"), (3, "hst")], ["1", "1"]),
        // One that fails its probe while it terminates is never used.
        (&[(1, "ht"), (2, "t")], ["reject", "reject"]),
        (&[(1, "ht"), (2, "rs")], ["drop", "2"]),
        // Not ready, not terminating: not used either.
        (&[(1, "hs"), (2, "s")], ["reject", "reject"]),
        (&[], ["reject", "reject"]),
    ] {
        let [internal, external, _] = lists(&model(&[&local, &slice_of(endpoints)]));
        assert_eq!([internal, external], expected, "{endpoints:?}");
    }
}

#[test]
fn missing_conditions_mean_ready() {
    let model = model(&[
        &service(""),
        &slice(&[
            "{addresses: [10.1.0.1, 10.1.0.9]}",
            "{addresses: [10.1.0.2], conditions: {ready: null}}",
        ]),
    ]);
    assert_eq!(lists(&model)[0], "1 2");
    assert!(
        compile(&model)[0]
            .endpoints
            .iter()
            .all(|endpoint| !endpoint.local)
    );
}

#[test]
fn all_that_serve_are_endpoints_whatever_the_lists() {
    let model = model(&[
        &service("internalTrafficPolicy: Local"),
        &slice_of(&[(1, "hrs"), (2, "rs"), (3, "st"), (4, "t"), (5, "s"), (6, "")]),
    ]);
    let ports = compile(&model);
    let all = List {
        members: (0..ports[0].endpoints.len() as u32).collect(),
        when_empty: When::Drop,
    };
    assert_eq!(list(&ports[0], &all), "1 2 3 5");
    assert_eq!(
        lists(&model),
        ["1", "reject", "reject"],
        "a ClusterIP alone needs no external list"
    );
}

#[test]
fn an_address_used_again_is_not_the_one_that_terminates() {
    let first = slice_named("web-1", &[&endpoint(1, "hst", "")]);
    let second = slice_named("web-2", &[&endpoint(1, "rs", ""), &endpoint(2, "st", "")]);
    let model = model(&[&service(""), &first, &second]);
    assert_eq!(lists(&model)[0], "1");
    assert!(!compile(&model)[0].endpoints[0].local);
}

#[test]
fn hints_narrow_the_cluster_list_only_if_all_ready_endpoints_have_them() {
    let zone = |zone: &str| format!("hints: {{forZones: [{{name: {zone}}}]}}");
    let node = |node: &str| format!("hints: {{forZones: [{{name: east}}], forNodes: [{{name: {node}}}]}}");
    let check = |hints: [&str; 3], expected: [&str; 2]| {
        let [a, b, c] = [(1, "hrs", hints[0]), (2, "rs", hints[1]), (3, "rs", hints[2])]
            .map(|(n, l, h)| endpoint(n, l, h));
        let service = service("type: NodePort, externalTrafficPolicy: Local");
        let [internal, external, _] = lists(&model(&[&service, &slice(&[&a, &b, &c])]));
        assert_eq!([internal, external], expected, "{hints:?}");
    };
    let (west, east) = (zone("west"), zone("east"));
    check([&east, &west, &east], ["2", "1"]);
    check([&east, &east, &east], ["1 2 3", "1"]);
    check([&east, &west, ""], ["1 2 3", "1"]);
    let (here, there) = (node("here"), node("there"));
    check([&there, &here, &here], ["2 3", "1"]);
    check([&there, &there, &there], ["1 2 3", "1"]);
    check([&here, &west, &west], ["2 3", "1"]);
}

#[test]
fn a_zone_change_touches_those_with_hints_later() {
    let mut model = model(&[
        &service(""),
        &slice(&[
            &endpoint(1, "rs", "hints: {forZones: [{name: east}]}"),
            &endpoint(2, "rs", "hints: {forZones: [{name: west}]}"),
        ]),
    ]);
    assert_eq!(lists(&model)[0], "2");
    let touched = apply(
        &mut model,
        "apiVersion: v1\nkind: Node\nmetadata: {name: here, labels: {topology.kubernetes.io/zone: east}}",
    );
    assert!(touched.services.is_empty());
    assert_eq!(touched.later, BTreeSet::from([ObjectName::new("default", "web")]));
    assert_eq!(lists(&model)[0], "1");
    let other = apply(
        &mut model,
        "apiVersion: v1\nkind: Node\nmetadata: {name: there, labels: {topology.kubernetes.io/zone: x}}",
    );
    assert!(other.later.is_empty());
}

#[test]
fn named_ports_may_resolve_differently_and_protocols_are_apart() {
    let service = service_with(
        "clusterIP: 10.96.0.1, ports: [{name: a, port: 53, protocol: UDP}, {name: b, port: 53}]",
    );
    let slice = |name: &str, port: u16, endpoint: &str| {
        slice_named(name, &[endpoint]).replace(
            "{port: 8080}",
            &format!("{{name: a, port: {port}, protocol: UDP}}, {{name: b, protocol: TCP}}"),
        )
    };
    let mut model = model(&[&service]);
    assert_eq!(
        apply(&mut model, &slice("s1", 5353, "{addresses: [10.1.0.1]}"))
            .warnings
            .len(),
        1
    );
    apply(&mut model, &slice("s2", 53, "{addresses: [10.1.0.2]}"));
    let ports = compile(&model);
    let numbers: Vec<u16> = ports[0]
        .endpoints
        .iter()
        .map(|endpoint| endpoint.port.number())
        .collect();
    assert_eq!(numbers, [5353, 53]);
    assert_eq!(
        ports[1].endpoints,
        [],
        "a port without a number gives no endpoint"
    );
}
