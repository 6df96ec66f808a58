//! A foreign hand in the maps: `shunt audit` names what it did, and the agent mends it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod place;
mod running;

use aya::maps::{HashMap, Map, MapData};
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
