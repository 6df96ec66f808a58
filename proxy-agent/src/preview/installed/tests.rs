use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::plan::Capacity;
use crate::preview::preview;
use crate::preview::tests::{place, service, slice, world};
use crate::source::{objects, parse_names};

const AMPLE: Capacity = Capacity {
    services: 1024,
    backends: 1024,
    slots: 2048,
    frontends4: 1024,
    frontends6: 1024,
    ranges4: 64,
    ranges6: 64,
};

/// The maps that come of manifests.
fn installed(now: &[&str]) -> InstalledServices {
    installed_in(now, AMPLE)
}

fn installed_in(now: &[&str], capacity: Capacity) -> InstalledServices {
    let world = world(now);
    let config = world.node::<proxy_common::layout::V4>(Default::default()).config;
    InstalledServices::of(world.snapshot(), capacity, &config)
}

fn apply(now: &[&str], applied: &str) -> Preview {
    let intent = Intent::Apply(objects(applied));
    preview_installed(installed(now), &place(), intent, PortRange::default())
}

fn delete(now: &[&str], deleted: &str) -> Preview {
    let intent = Intent::Delete(objects(deleted));
    preview_installed(installed(now), &place(), intent, PortRange::default())
}

const NODE_PORT: &str = "type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]";
const CLUSTER_IP: &str = "clusterIP: 10.96.0.1, ports: [{port: 80}]";
const HERE: &str = "{addresses: [10.1.0.1], nodeName: here}";
const ALSO_HERE: &str = "{addresses: [10.1.0.2], nodeName: here}";
const THERE: &str = "{addresses: [10.2.0.1], nodeName: there}";
const LEAVING: &str =
    "{addresses: [10.2.0.9], nodeName: there, conditions: {ready: false, serving: true, terminating: true}}";

#[test]
fn what_is_there_already_changes_nothing() {
    let (web, slice) = (service("web", 2025, NODE_PORT), slice("web", &[HERE, THERE]));
    let now = [web.as_str(), slice.as_str()];
    for applied in [web.clone(), slice.clone(), format!("{web}---\n{slice}")] {
        assert_eq!(apply(&now, &applied), Preview::default(), "{applied}");
    }
}

#[test]
fn a_service_without_its_slices_keeps_the_endpoints_of_the_maps() {
    let (web, slice) = (service("web", 2025, NODE_PORT), slice("web", &[HERE, THERE]));
    let bare = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort, externalTrafficPolicy: Local, ports: [{port: 80}, {name: admin, port: 81}]}\n";
    let told = apply(&[&web, &slice], bare);
    let added: Vec<_> = told.frontends.iter().map(|change| &*change.frontend).collect();
    assert_eq!(
        added,
        ["TCP 10.96.0.1:81"],
        "addresses and the NodePort stay: {told}"
    );
    let moved: Vec<_> = told
        .moved
        .iter()
        .map(|moved| (moved.list, moved.percent))
        .collect();
    assert_eq!(moved, [("external", 50.0)]);
    assert_eq!(
        told.unknown,
        [
            "the endpoints of default/web:admin (TCP IPv4): the maps have no such port; give its EndpointSlices with -f"
        ]
    );
}

#[test]
fn what_goes_is_planned_by_the_manifest_that_names_it() {
    let (web, slice_) = (service("web", 2025, NODE_PORT), slice("web", &[HERE, THERE]));
    let now = [web.as_str(), slice_.as_str()];
    let told = delete(&now, &web);
    let removed: Vec<_> = told.frontends.iter().map(|change| change.change).collect();
    assert_eq!(removed, ["removed", "removed"], "{told}");
    assert!(told.writes > 0 && told.unknown.is_empty(), "{told}");
    let told = delete(&now, &slice("web", &[THERE]));
    assert_eq!(
        told.backends[0].removed,
        ["10.2.0.1:8080".parse().unwrap()],
        "{told}"
    );
    assert_eq!(told.backends.len(), 3, "{told}");
}

#[test]
fn an_older_claim_is_not_guessed() {
    let spec = |ip: &str| format!("clusterIP: {ip}, externalIPs: [198.51.100.1], ports: [{{port: 80}}]");
    let other = "clusterIP: 10.96.0.2, ports: [{port: 80}]";
    let now = [
        service("web", 2025, &spec("10.96.0.1")),
        service("other", 2024, other),
        slice("other", &[HERE]),
    ];
    let now: Vec<&str> = now.iter().map(String::as_str).collect();
    let told = apply(&now, &service("other", 2024, &spec("10.96.0.2")));
    assert_eq!(
        told.conflicts,
        [Conflict {
            frontend: "TCP 198.51.100.1:80".to_owned(),
            winner: "default/web".to_owned(),
            losers: vec!["default/other".to_owned()],
        }]
    );
    assert_eq!(
        told.unknown,
        [
            "whether default/other is older than default/web: who has TCP 198.51.100.1:80 now is taken to keep it"
        ]
    );
    assert!(told.frontends.is_empty(), "{told}");
    let told = delete(&now, &service("web", 2025, &spec("10.96.0.1")));
    assert!(
        told.unknown[0].starts_with("whether another Service claims TCP 198.51.100.1:80"),
        "{told}"
    );
}

#[test]
fn the_room_is_that_of_the_maps() {
    let (web, now) = (service("web", 2025, CLUSTER_IP), slice("web", &[HERE]));
    let capacity = Capacity { backends: 3, ..AMPLE };
    let maps = installed_in(&[&web, &now], capacity);
    let more: Vec<String> = (10..20)
        .map(|octet| format!("{{addresses: [10.1.0.{octet}]}}"))
        .collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let intent = Intent::Apply(objects(&slice("web", &more)));
    let told = preview_installed(maps, &place(), intent, PortRange::default());
    assert!(
        told.warnings[0].contains("the map BACKENDS has no room"),
        "{told}"
    );
}

/// Each thing that the maps do not say, and the words that name it.
#[test]
fn what_is_not_known_is_named() {
    let zoned = "{addresses: [10.2.0.1], nodeName: there, hints: {forZones: [{name: west}]}}";
    let local = format!("{CLUSTER_IP}, internalTrafficPolicy: Local");
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: here}\n";
    let web = |spec: &str| service("web", 2025, spec);
    for (now, applied, part) in [
        (
            vec![web(CLUSTER_IP), slice("web", &[HERE])],
            slice("web", &[zoned]),
            "the zone of here",
        ),
        (
            vec![web(CLUSTER_IP), slice("web", &[HERE])],
            slice("web", &[ALSO_HERE]),
            "the internalTrafficPolicy of default/web: its list has no endpoint of another node",
        ),
        (
            vec![web(CLUSTER_IP), slice("web", &[HERE, THERE])],
            slice("web", &[HERE]),
            "whether another EndpointSlice of default/web (TCP IPv4) has 10.2.0.1:8080",
        ),
        (
            vec![web(CLUSTER_IP), slice("web", &[THERE, LEAVING])],
            web(NODE_PORT),
            "why 10.2.0.9:8080 of default/web (TCP IPv4) take no new calls",
        ),
        (
            vec![web(&local), slice("web", &[HERE, THERE])],
            web(CLUSTER_IP),
            "which endpoints of other nodes take new calls to default/web (TCP IPv4)",
        ),
        (
            vec![],
            slice("web", &[HERE]),
            "whether there is a Service default/web",
        ),
        (vec![], node.to_owned(), "what the zone of here is"),
    ] {
        let now: Vec<&str> = now.iter().map(String::as_str).collect();
        let told = apply(&now, &applied);
        assert!(
            told.unknown.iter().any(|unknown| unknown.contains(part)),
            "{part}:\n{told}"
        );
    }
    let nobodys = slice("web", &[HERE]).replace("kubernetes.io/service-name", "other");
    assert!(delete(&[], &nobodys).unknown[0].contains("EndpointSlice default/web-1 belongs to"));
    let told = delete(&[], &web(CLUSTER_IP));
    assert!(
        told.unknown[0].contains("whether there is a Service default/web"),
        "{told}"
    );
}

#[test]
fn a_node_of_another_name_is_noticed() {
    let (web, now) = (service("web", 2025, CLUSTER_IP), slice("web", &[HERE, THERE]));
    let told = apply(
        &[&web, &now],
        &slice("web", &[&HERE.replace("here", "elsewhere"), THERE]),
    );
    assert!(
        told.warnings
            .iter()
            .any(|warning| warning.contains("10.1.0.1 is on elsewhere by its nodeName, and on this node")),
        "{told}"
    );
}

#[derive(Clone, Copy, Debug)]
struct Pod {
    number: u8,
    is_here: bool,
    condition: u8,
}

fn written(name: &str, pods: &[Pod]) -> String {
    let mut endpoints: Vec<String> = Vec::new();
    for Pod {
        number,
        is_here,
        condition,
    } in pods
    {
        let mut text = format!(
            "{{addresses: [10.1.0.{number}], nodeName: {}",
            if *is_here { "here" } else { "there" }
        );
        match condition {
            0 => text.push_str(", conditions: {ready: false, serving: true, terminating: true}"),
            1 => text.push_str(", conditions: {ready: false, serving: false}"),
            _ => {}
        }
        _ = write!(text, "}}");
        endpoints.push(text);
    }
    slice(name, &endpoints.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A Service and its slice.
fn any_state() -> impl Strategy<Value = (String, String)> {
    let pod = (1..7_u8, any::<bool>(), 0..5_u8);
    let pods = prop::collection::btree_map(1..7_u8, pod, 0..5);
    (0..3_u8, any::<bool>(), any::<bool>(), 0..3_u8, pods).prop_map(|(kind, internal, external, affinity, pods)| {
        let policy = |is_local| if is_local { "Local" } else { "Cluster" };
        let kind = ["ClusterIP", "NodePort", "LoadBalancer"][usize::from(kind)];
        let affinity = if affinity == 0 { ", sessionAffinity: ClientIP" } else { "" };
        let node_port = if kind == "ClusterIP" { "" } else { ", nodePort: 30080" };
        let external = match kind {
            "ClusterIP" => String::new(),
            _ => format!(", externalTrafficPolicy: {}", policy(external)),
        };
        let spec = format!(
            "type: {kind}, clusterIP: 10.96.0.1, internalTrafficPolicy: {}{external}{affinity}, ports: [{{port: 80{node_port}}}]",
            policy(internal)
        );
        let pods: Vec<Pod> = pods
            .into_iter()
            .map(|(number, (_, is_here, condition))| Pod { number, is_here, condition })
            .collect();
        (service("web", 2025, &spec), written("web", &pods))
    })
}

proptest! {
    /// By the maps alone the answer is that of the manifests, or what is not known is named.
    #[test]
    fn the_maps_say_what_the_manifests_say_or_what_they_do_not_know(
        now in any_state(), then in any_state(), which in 0..5_u8
    ) {
        let (text, is_deletion) = match which {
            0 => (then.0, false),
            1 => (then.1, false),
            2 => (format!("{}---\n{}", then.0, then.1), false),
            3 => (now.0.clone(), true),
            _ => (now.1.clone(), true),
        };
        let (by_name, by_object) = match is_deletion {
            true => (Intent::Delete(parse_names("test.yaml", &text).unwrap()), Intent::Delete(objects(&text))),
            false => (Intent::Apply(objects(&text)), Intent::Apply(objects(&text))),
        };
        let now = [now.0.as_str(), now.1.as_str()];
        let by_manifests = preview(world(&now), &place(), by_name, PortRange::default()).unwrap();
        let by_maps = preview_installed(installed(&now), &place(), by_object, PortRange::default());
        let told = |preview: &Preview| {
            let Preview { frontends, backends, affinity, moved, .. } = preview.clone();
            (frontends, backends, affinity, moved)
        };
        prop_assert!(
            told(&by_manifests) == told(&by_maps) || !by_maps.unknown.is_empty(),
            "by manifests:\n{by_manifests}by maps:\n{by_maps}"
        );
        if which == 2 {
            prop_assert_eq!(told(&by_manifests), told(&by_maps), "all is given");
            prop_assert_eq!(by_manifests.writes, by_maps.writes);
        }
    }
}
