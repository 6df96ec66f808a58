//! `shunt services` says which topology hints are not followed, and why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod place;
mod running;

use place::Place;
use running::{Agent, shunt, write};
use serde_json::{Value, json};

/// A slice of one of its ports.
fn slice(number: u16, port: &str, endpoints: &str) -> String {
    format!(
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-{number}, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: {port}, port: {}}}]
endpoints: [{endpoints}]
",
        8079 + number
    )
}

/// A Service whose first endpoint has this hint.
fn web(hint: &str) -> String {
    let service = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: admin, port: 81}]}
";
    let http = format!("{{addresses: [10.1.0.1], {hint}}}, {{addresses: [10.1.0.2]}}");
    let admin = "{addresses: [10.1.0.1], hints: {forZones: [{name: west}]}}";
    [service, &slice(1, "http", &http), &slice(2, "admin", admin)].concat()
}

const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: here, labels: {topology.kubernetes.io/zone: ZONE}}
";

/// Why the hints of both ports are not followed.
fn told(place: &Place) -> [Value; 2] {
    let output = shunt(place, &["services", "-o", "json"]);
    let services: Value = serde_json::from_slice(&output.stdout).unwrap();
    ["shop/web:http", "shop/web:admin"].map(|name| {
        let mut services = services.as_array().unwrap().iter();
        services.find(|service| service["name"] == name).unwrap()["hints_not_followed"].clone()
    })
}

#[test]
fn hints_that_are_not_followed_are_shown_with_the_reason() {
    let place = Place::enter("services");
    write(&place, "web.yaml", &web("hints: {forZones: [{name: west}]}"));
    let mut agent = Agent::start(&place);
    agent.wait("ready");
    let half = json!("1 of its ready endpoints have none");
    let without_zone = json!("the node has no label topology.kubernetes.io/zone");
    assert_eq!(told(&place), [half.clone(), without_zone]);

    write(&place, "node.yaml", &NODE.replace("ZONE", "east"));
    agent.wait("applied");
    assert_eq!(
        told(&place),
        [half.clone(), json!("none is for this node's zone")]
    );
    let question = [
        "explain",
        "--from",
        "192.0.2.9",
        "--to",
        "10.96.0.1:81",
        "-o",
        "json",
    ];
    let answer: Value = serde_json::from_slice(&shunt(&place, &question).stdout).unwrap();
    let steps = answer["steps"].to_string();
    let expected = "hints: not followed, all endpoints are used: none is for this node's zone";
    assert!(steps.contains(expected), "{steps}");
    write(&place, "node.yaml", &NODE.replace("ZONE", "west"));
    agent.wait("applied");
    assert_eq!(told(&place), [half, Value::Null]);
    agent.stop();

    // The maps know, with the agent gone.
    let table = shunt(&place, &["services"]).stdout;
    let table = String::from_utf8(table).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    let row = |name: &str| rows.iter().find(|row| row.starts_with(name)).unwrap();
    assert!(rows[0].ends_with("HINTS"), "{table}");
    assert!(
        row("shop/web:http").ends_with("not followed: 1 of its ready endpoints have none"),
        "{table}"
    );
    assert!(row("shop/web:admin").trim_end().ends_with(" -"), "{table}");

    // Who starts anew mends what changed meanwhile.
    write(&place, "web.yaml", &web("conditions: {ready: true}"));
    let mut agent = Agent::start(&place);
    agent.wait("ready");
    assert_eq!(told(&place), [Value::Null, Value::Null]);
    agent.stop();
}
