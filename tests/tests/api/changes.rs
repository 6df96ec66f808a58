//! What comes, changes and goes.

use lab::cluster::ControlPlane;
use proxy_agent::source::{ApiOptions, Change, Object};

use super::plane::{apply, namespace, options, service, shared, slice};
use super::source::{Source, addresses, describe};

#[test]
fn the_first_batch_is_everything_and_what_follows_is_what_changed() {
    let plane = shared();
    namespace(plane, "first");
    apply(
        plane,
        &[
            service("first", "a", ""),
            slice("first", "a", "a-1", &["10.244.1.1"]),
            slice("first", "a", "a-2", &["10.244.2.1", "10.244.2.2"]),
            "---\napiVersion: v1\nkind: Node\nmetadata: {name: node-1, labels: {topology.kubernetes.io/zone: z}}\n".into(),
            "---\napiVersion: v1\nkind: Node\nmetadata: {name: node-2}\n".into(),
        ]
        .concat(),
    );
    let source = Source::start(plane, options(plane)).unwrap();
    let first: Vec<String> = source.batch().changes.iter().map(describe).collect();
    for expected in [
        "+Service default/kubernetes",
        "+EndpointSlice default/kubernetes",
        "+Service first/a",
        "+EndpointSlice first/a-1",
        "+EndpointSlice first/a-2",
        "+Node node-1",
        "+ServiceCIDR kubernetes",
    ] {
        assert!(
            first.iter().any(|change| change == expected),
            "{expected} is not in {first:?}"
        );
    }
    assert!(!first.iter().any(|change| change.contains("node-2")), "{first:?}");
    assert!(source.status.is_synced() && source.status.broken_for().is_none());

    apply(plane, &service("first", "b", ""));
    source.expect("first", &["+Service first/b"]);
    apply(plane, &slice("first", "a", "a-2", &["10.244.2.2"]));
    let changes = source.expect("first", &["+EndpointSlice first/a-2"]);
    assert_eq!(addresses(&changes[0]), ["Ip(10.244.2.2)"]);
    plane
        .kubectl(&["delete", "endpointslice", "--namespace=first", "a-1"])
        .unwrap();
    source.expect("first", &["-EndpointSlice first/a-1"]);
    plane
        .kubectl(&["delete", "service", "--namespace=first", "a"])
        .unwrap();
    source.expect("first", &["-Service first/a"]);
    plane
        .kubectl(&[
            "label",
            "node",
            "node-1",
            "--overwrite",
            "topology.kubernetes.io/zone=y",
        ])
        .unwrap();
    let zone = loop {
        let changes = source.batch().changes;
        let node = changes.into_iter().find_map(|change| match change {
            Change::Upsert(Object::Node(node)) => Some(node),
            _ => None,
        });
        if let Some(node) = node {
            break node.metadata.labels.zone.clone();
        }
    };
    assert_eq!(zone.as_deref(), Some("y"));
}

#[test]
fn headless_services_and_their_slices_do_not_come() {
    let plane = shared();
    namespace(plane, "headless");
    let headless = service("headless", "none", "").replace("spec: {", "spec: {clusterIP: None, ");
    let slice_of_it = slice("headless", "none", "none-1", &["10.244.1.1"])
        .replace("labels: {", "labels: {service.kubernetes.io/headless: \"\", ");
    apply(
        plane,
        &[
            headless.clone(),
            slice_of_it.clone(),
            service("headless", "a", ""),
        ]
        .concat(),
    );
    let source = Source::start(plane, options(plane)).unwrap();
    source.expect("headless", &["+Service headless/a"]);
    plane
        .kubectl(&["label", "service", "--namespace=headless", "none", "seen=yes"])
        .unwrap();
    apply(plane, &service("headless", "b", ""));
    source.expect("headless", &["+Service headless/b"]);
}

#[test]
fn the_label_service_proxy_name_takes_a_service_from_one_proxy_to_another() {
    let plane = shared();
    namespace(plane, "named");
    let labelled = ", labels: {service.kubernetes.io/service-proxy-name: edge}";
    apply(
        plane,
        &[service("named", "ours", ""), service("named", "theirs", labelled)].concat(),
    );
    let main = Source::start(plane, options(plane)).unwrap();
    let edge_options = ApiOptions {
        service_proxy_name: Some("edge".into()),
        ..options(plane)
    };
    let edge = Source::start(plane, edge_options).unwrap();
    main.expect("named", &["+Service named/ours"]);
    let changes = edge.expect("named", &["+Service named/theirs"]);
    let Change::Upsert(Object::Service(service)) = &changes[0] else {
        panic!("{changes:?}");
    };
    assert!(service.spec.ports[0].port.0.get() == 80);
    label(plane, "ours", "service.kubernetes.io/service-proxy-name=edge");
    main.expect("named", &["-Service named/ours"]);
    edge.expect("named", &["+Service named/ours"]);
    label(plane, "theirs", "service.kubernetes.io/service-proxy-name-");
    main.expect("named", &["+Service named/theirs"]);
    edge.expect("named", &["-Service named/theirs"]);
}

fn label(plane: &ControlPlane, service: &str, label: &str) {
    plane
        .kubectl(&["label", "service", "--namespace=named", service, label])
        .unwrap();
}
