//! A foreign hand in the maps: `shunt audit` names what it did, and the agent mends it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod place;
mod running;

use aya::maps::{Array, HashMap, Map, MapData};
use place::Place;
use running::{Agent, shunt, write};
use serde_json::{Value, json};

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.1], nodeName: here}]
";
/// Bytes of the one value of NETWORKS.
const NETWORKS: usize = 352;
/// 10.96.0.1, port 80 in network order, TCP.
const FRONTEND: [u8; 8] = [10, 96, 0, 1, 0, 80, 6, 0];

fn audit(place: &Place) -> (Option<i32>, Value) {
    let folder = place.manifests.to_str().unwrap();
    let output = shunt(
        place,
        &[
            "audit",
            "--node-name",
            "here",
            "--manifests",
            folder,
            "-o",
            "json",
        ],
    );
    let differences = serde_json::from_slice(&output.stdout);
    let differences = differences.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), differences)
}

/// Removes the Service's only frontend.
fn damage(place: &Place) {
    let pin = place.instance.join("v1/maps/FRONTENDS4");
    let map = Map::HashMap(MapData::from_pin(pin).unwrap());
    let mut frontends = HashMap::<_, [u8; 8], [u8; 12]>::try_from(map).unwrap();
    frontends.remove(&FRONTEND).unwrap();
}

#[test]
fn an_audit_names_what_a_foreign_hand_did() {
    let place = Place::enter("audit");
    write(&place, "web.yaml", SERVICE);
    let mut agent = Agent::start_with(&place, &["--audit-period", "0"]);
    agent.wait("ready");
    assert_eq!(audit(&place), (Some(0), json!([])));
    damage(&place);
    let missing = json!([{
        "subject": "shop/web:http", "map": "FRONTENDS", "problem": "TCP 10.96.0.1:80 is missing",
    }]);
    assert_eq!(audit(&place), (Some(2), missing));
    write(&place, "broken.yaml", "kind: Service\n");
    let folder = place.manifests.to_str().unwrap();
    let output = shunt(&place, &["audit", "--node-name", "here", "--manifests", folder]);
    let (text, told) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(text, "shop/web:http: FRONTENDS: TCP 10.96.0.1:80 is missing\n");
    assert!(told.contains("broken.yaml"), "{told}");
    agent.stop();
}

/// Makes the programs know no range.
fn forget_ranges(place: &Place) {
    let pin = place.instance.join("v1/maps/NETWORKS");
    let map = Map::Array(MapData::from_pin(pin).unwrap());
    let mut networks = Array::<_, [u8; NETWORKS]>::try_from(map).unwrap();
    networks.set(0, [0; NETWORKS], 0).unwrap();
}

#[test]
fn an_audit_looks_at_ranges_as_the_agent_was_told_of_them() {
    let place = Place::enter("ranges");
    write(&place, "web.yaml", SERVICE);
    let cidr = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: kubernetes}\nspec: {cidrs: [10.96.0.0/16]}\n";
    write(&place, "cidr.yaml", cidr);
    let mode = [
        "--detect-local-mode",
        "ClusterCIDR",
        "--cluster-cidr",
        "10.1.0.0/16,fd00:1::/32",
    ];
    let mut agent = Agent::start_with(&place, &[&mode[..], &["--audit-period", "0"]].concat());
    agent.wait("ready");
    let told = |mode: &[&str]| {
        let folder = place.manifests.to_str().unwrap();
        let output = shunt(
            &place,
            &[&["audit", "--node-name", "here", "--manifests", folder], mode].concat(),
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(ToOwned::to_owned);
        (output.status.code(), lines.collect::<Vec<_>>())
    };
    assert_eq!(told(&mode).0, Some(0), "{:?}", told(&mode));
    // An audit that is told of no ranges of pods takes those for strays.
    assert_eq!(
        told(&[]),
        (
            Some(2),
            vec![
                "this node's pods (IPv4): NETWORKS: 10.1.0.0/16 should not be there".to_owned(),
                "this node's pods (IPv6): NETWORKS: fd00:1::/32 should not be there".to_owned(),
            ]
        )
    );
    forget_ranges(&place);
    assert_eq!(
        told(&mode),
        (
            Some(2),
            vec![
                "ServiceCIDRs (IPv4): NETWORKS: 10.96.0.0/16 is missing".to_owned(),
                "this node's pods (IPv4): NETWORKS: 10.1.0.0/16 is missing".to_owned(),
                "this node's pods (IPv6): NETWORKS: fd00:1::/32 is missing".to_owned(),
            ]
        )
    );
    agent.stop();
}

#[test]
fn the_agent_mends_what_a_foreign_hand_did() {
    let place = Place::enter("mend");
    write(&place, "web.yaml", SERVICE);
    let mut agent = Agent::start_with(&place, &["--audit-period", "20ms"]);
    agent.wait("ready");
    damage(&place);
    let told = agent.wait("the maps are not as they should be");
    assert_eq!(
        told["difference"],
        "shop/web:http: FRONTENDS: TCP 10.96.0.1:80 is missing"
    );
    agent.wait("every Service is compared with the maps, and the maps are mended");
    // The audit looks twice, a second apart, so that the mend is over when it has ended.
    assert_eq!(audit(&place), (Some(0), json!([])));
    agent.stop();
}

#[test]
fn without_an_instance_or_a_source_it_says_so() {
    let place = Place::enter("noaudit");
    let folder = place.manifests.to_str().unwrap();
    for (arguments, expected) in [
        (["--manifests", folder], place.instance.to_str().unwrap()),
        (["--manifests", "/nowhere"], "/nowhere"),
        (["--kubeconfig", "/nowhere"], "/nowhere"),
    ] {
        let output = shunt(
            &place,
            &[&["audit", "--node-name", "here"][..], &arguments].concat(),
        );
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(told.contains(expected), "{told}");
    }
}
