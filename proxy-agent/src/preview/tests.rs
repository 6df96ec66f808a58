use proptest::prelude::*;

use super::*;
use crate::source::{Change, Object, objects, parse_names};

pub(super) fn place() -> Place {
    Place {
        node: "here".to_owned(),
        ..Place::default()
    }
}

pub(super) fn world(texts: &[&str]) -> World {
    let objects = texts.iter().flat_map(|text| objects(text));
    World::of(objects.map(Change::Upsert).collect(), &place())
}

fn plan(now: &[&str], applied: &str) -> Preview {
    let intent = Intent::Apply(objects(applied));
    preview(world(now), &place(), intent, PortRange::default()).unwrap()
}

pub(super) fn service(name: &str, year: u16, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, uid: u-{name}, creationTimestamp: '{year}-01-01T00:00:00Z'}}\nspec: {{{spec}}}\n"
    )
}

pub(super) fn slice(service: &str, endpoints: &[&str]) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    )
}

const WEB: &str = "type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]";
const HERE: &str = "{addresses: [10.1.0.1], nodeName: here}";
const THERE: &str = "{addresses: [10.2.0.1], nodeName: there}";
const MORE: &str = "{addresses: [10.2.0.2], nodeName: there}";

#[test]
fn what_is_there_already_changes_nothing() {
    let (web, slice) = (service("web", 2025, WEB), slice("web", &[HERE, THERE]));
    let preview = plan(&[&web, &slice], &web);
    assert_eq!(preview, Preview::default());
    assert_eq!(preview.to_string(), "nothing changes on this node\n");
}

#[test]
fn a_new_service_adds_its_frontends_and_backends() {
    let text = format!("{}---\n{}", service("web", 2025, WEB), slice("web", &[HERE]));
    let preview = plan(&[], &text);
    let changes: Vec<_> = preview
        .frontends
        .iter()
        .map(|change| (change.change, &*change.frontend))
        .collect();
    assert_eq!(
        changes,
        [
            ("added", "IPv4 node port TCP 30080"),
            ("added", "TCP 10.96.0.1:80")
        ]
    );
    assert_eq!(preview.backends.len(), 3);
    assert!(preview.moved.is_empty() && preview.writes > 0, "{preview}");
}

#[test]
fn a_third_endpoint_moves_a_third_of_the_flows() {
    let (web, now) = (service("web", 2025, WEB), slice("web", &[HERE, THERE]));
    let preview = plan(&[&web, &now], &slice("web", &[HERE, THERE, MORE]));
    assert!(preview.frontends.is_empty());
    let shares: Vec<_> = preview
        .moved
        .iter()
        .map(|moved| (moved.list, moved.percent))
        .collect();
    assert_eq!(
        shares,
        [("internal", 33.3), ("external", 33.3), ("shortcut", 33.3)]
    );
    assert_eq!(preview.backends[0].added, ["10.2.0.2:8080".parse().unwrap()]);
}

#[test]
fn what_a_manifest_leaves_out_and_the_server_filled_in_stays() {
    let (web, now) = (service("web", 2025, WEB), slice("web", &[HERE, THERE]));
    let bare = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort, externalTrafficPolicy: Local, ports: [{port: 80}]}\n";
    let preview = plan(&[&web, &now], bare);
    assert!(
        preview.frontends.is_empty(),
        "the addresses and the NodePort stay: {preview}"
    );
    let moved: Vec<_> = preview
        .moved
        .iter()
        .map(|moved| (moved.list, moved.percent))
        .collect();
    assert_eq!(moved, [("external", 50.0)]);
}

#[test]
fn ranges_and_affinity_that_change_are_told() {
    let balancer = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{{port: 80}}]{more}}}\nstatus: {{loadBalancer: {{ingress: [{{ip: 203.0.113.1}}]}}}}\n"
        )
    };
    let open = balancer("");
    let ten = balancer(", loadBalancerSourceRanges: [10.0.0.0/8]");
    let other = balancer(", loadBalancerSourceRanges: [11.0.0.0/8], sessionAffinity: ClientIP");
    for (now, applied, guarded) in [(&open, &ten, true), (&ten, &other, true), (&ten, &open, false)] {
        let changed = plan(&[now], applied).frontends;
        // A list that is left out of a manifest is emptied, as the API server does it.
        assert_eq!(changed.len(), 1, "{now} {applied}");
        assert_eq!((changed[0].change, changed[0].guarded), ("changed", guarded));
    }
    let affinity = plan(&[&ten], &other).affinity;
    assert_eq!((affinity[0].before, affinity[0].after), (0, 10_800));
}

#[test]
fn what_is_deleted_goes_and_who_did_without_comes() {
    let spec = |ip: &str| format!("clusterIP: {ip}, externalIPs: [198.51.100.1], ports: [{{port: 80}}]");
    let now = [
        service("web", 2024, &spec("10.96.0.1")),
        slice("web", &[HERE]),
        service("other", 2025, &spec("10.96.0.2")),
        slice("other", &[THERE]),
    ];
    let delete = |text: &str| {
        let now: Vec<&str> = now.iter().map(String::as_str).collect();
        preview(
            world(&now),
            &place(),
            Intent::Delete(parse_names("test.yaml", text).unwrap()),
            PortRange::default(),
        )
    };
    let told = delete(&now[0]).unwrap();
    let changes = told
        .frontends
        .iter()
        .map(|change| (change.change, &*change.frontend));
    assert_eq!(
        changes.collect::<Vec<_>>(),
        [("removed", "TCP 10.96.0.1:80"), ("moved", "TCP 198.51.100.1:80")]
    );
    // A name is enough, as for kubectl.
    let named = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
    assert_eq!(delete(named).unwrap(), told);
    let named = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1}\n";
    let told = delete(named).unwrap();
    assert_eq!(delete(&slice("web", &[HERE])).unwrap(), told);
    assert_eq!(
        told.backends[0].removed,
        ["10.1.0.1:8080".parse().unwrap()],
        "{told}"
    );
    assert!(told.warnings[0].contains("no endpoint is usable"), "{told}");
    let error =
        delete("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("there is no Service shop/web in the state now"),
        "{error}"
    );
}

#[test]
fn the_older_service_keeps_a_frontend_and_an_older_one_takes_it() {
    let spec = |ip: &str| format!("clusterIP: {ip}, externalIPs: [198.51.100.1], ports: [{{port: 80}}]");
    let now = [
        service("web", 2025, &spec("10.96.0.1")),
        slice("web", &[HERE]),
        slice("other", &[THERE]),
    ];
    let now: Vec<&str> = now.iter().map(String::as_str).collect();
    let young = plan(&now, &service("other", 2026, &spec("10.96.0.2")));
    assert_eq!(
        young.conflicts,
        [Conflict {
            frontend: "TCP 198.51.100.1:80".to_owned(),
            winner: "default/web".to_owned(),
            losers: vec!["default/other".to_owned()],
        }]
    );
    assert_eq!(young.frontends.len(), 1, "its cluster IP alone: {young}");
    let old = plan(&now, &service("other", 2024, &spec("10.96.0.2")));
    let moved = old
        .frontends
        .iter()
        .find(|change| change.change == "moved")
        .unwrap();
    assert_eq!(moved.frontend, "TCP 198.51.100.1:80");
    assert_eq!(moved.after.as_deref(), Some("default/other (TCP IPv4)"));
    assert!(
        old.moved
            .iter()
            .any(|moved| moved.of == "TCP 198.51.100.1:80" && moved.percent == 100.0),
        "{old}"
    );
}

#[test]
fn every_warning_has_its_case() {
    let hinted = "{addresses: [10.1.0.9], hints: {forZones: [{name: z1}]}}";
    for (spec, endpoints, part) in [
        (
            &*WEB.replace("30080", "32800"),
            &[HERE][..],
            "the NodePort 32800 is of the ports that the kernel gives",
        ),
        (
            &WEB.replace("30080", "50000"),
            &[HERE],
            "the NodePort 50000 is of --snat-ports",
        ),
        (
            &format!("{WEB}, externalTrafficPolicy: Local"),
            &[THERE],
            "externalTrafficPolicy Local, and no endpoint on this node",
        ),
        (
            &format!("{WEB}, internalTrafficPolicy: Local"),
            &[THERE],
            "internalTrafficPolicy Local, and no endpoint on this node",
        ),
        (WEB, &[], "no endpoint is usable"),
        (
            WEB,
            &[HERE, hinted],
            "its topology hints are not followed, all endpoints are used: 1 of its ready endpoints have none",
        ),
        (
            WEB,
            &[hinted],
            "the node has no label topology.kubernetes.io/zone",
        ),
    ] {
        let text = format!("{}---\n{}", service("web", 2025, spec), slice("web", endpoints));
        let preview = plan(&[], &text);
        let found = preview
            .warnings
            .iter()
            .filter(|warning| warning.contains(part))
            .count();
        assert!(found > 0, "{part}: {preview}");
        assert!(
            plan(&[&text], &text)
                .warnings
                .iter()
                .any(|warning| warning.contains(part))
        );
    }
    let open = "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, clusterIPs: [10.96.0.1, 'fd00::1'], ports: [{port: 80}], loadBalancerSourceRanges: [10.0.0.0/8]}
status: {loadBalancer: {ingress: [{ip: 203.0.113.1}, {ip: '2001:db8::1'}]}}
";
    let warnings = plan(&[], open).warnings.join("\n");
    assert!(
        warnings.contains("2001:db8::1 are open to everyone"),
        "{warnings}"
    );
    assert!(
        plan(&[], &service("web", 2025, WEB))
            .warnings
            .iter()
            .all(|warning| !warning.contains("NodePort"))
    );
}

fn any_state() -> impl Strategy<Value = Vec<String>> {
    let service = (
        0..3_u8,
        0..3_u8,
        2020..2024_u16,
        any::<bool>(),
        prop::collection::btree_set(1..5_u8, 0..4),
    );
    let texts = |(name, external, year, is_local, endpoints): (u8, u8, u16, bool, BTreeSet<u8>)| {
        let policy = if is_local { "Local" } else { "Cluster" };
        let spec = format!(
            "clusterIP: 10.96.0.{name}, externalIPs: [198.51.100.{external}], externalTrafficPolicy: {policy}, ports: [{{port: 80}}]"
        );
        let endpoints: Vec<String> = endpoints
            .iter()
            .map(|number| {
                let node = if number % 2 == 0 { "here" } else { "there" };
                format!("{{addresses: [10.1.0.{number}], nodeName: {node}}}")
            })
            .collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let name = format!("s{name}");
        format!(
            "{}---\n{}",
            service_text(&name, year, &spec),
            slice(&name, &endpoints)
        )
    };
    prop::collection::vec(service.prop_map(texts), 0..4)
}

use std::collections::BTreeSet;

fn service_text(name: &str, year: u16, spec: &str) -> String {
    service(name, year, spec)
}

/// The objects of several manifests; of one that stands in several the last.
fn all(texts: &[String]) -> Vec<Object> {
    let mut all: Vec<Object> = Vec::new();
    for object in texts.iter().flat_map(|text| objects(text)) {
        all.retain(|other| other.key() != object.key());
        all.push(object);
    }
    all
}

proptest! {
    /// What is told is the whole difference: where nothing is, nothing is written, and what comes back takes it back.
    #[test]
    fn a_preview_tells_every_change(now in any_state(), applied in any_state()) {
        let state = |objects: Vec<Object>| World::of(objects.into_iter().map(Change::Upsert).collect(), &place());
        let before = state(all(&now));
        let told = preview(state(all(&now)), &place(), Intent::Apply(all(&applied)), PortRange::default()).unwrap();
        let after = state([now, applied].concat().as_slice().iter().fold(Vec::new(), |mut objects, text| {
            for object in crate::source::objects(text) {
                objects.retain(|other: &Object| other.key() != object.key());
                objects.push(object);
            }
            objects
        }));
        let frontends = |world: &World| -> BTreeSet<String> {
            let ports = world.services.iter().flat_map(|(_, ports)| ports);
            ports.flat_map(|port| port.frontends.iter().map(|(frontend, _)| frontend.to_string())).collect()
        };
        let (old, new) = (frontends(&before), frontends(&after));
        let of = |change: &str| -> BTreeSet<String> {
            let changes = told.frontends.iter().filter(|other| other.change == change);
            changes.map(|change| change.frontend.clone()).collect()
        };
        prop_assert_eq!(of("added"), new.difference(&old).cloned().collect());
        prop_assert_eq!(of("removed"), old.difference(&new).cloned().collect());
        prop_assert_eq!(told.writes == 0, before.services == after.services);
        prop_assert!(told.moved.iter().all(|moved| (0.0..=100.0).contains(&moved.percent)));
    }
}
