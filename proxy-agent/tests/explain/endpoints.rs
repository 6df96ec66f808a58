//! Every endpoint with the reason why it is in or out.

use serde_json::json;

use crate::cluster::{READY, cluster, named, service};
use crate::explaining::{Manifests, NODE, steps};

const HINTED: &str = "conditions: {ready: true}, hints: {forZones: [{name: west}]}";
const ELSEWHERE: &str = "conditions: {ready: true}, hints: {forZones: [{name: east}]}";

#[test]
fn every_endpoint_is_named_with_its_reason() {
    let manifests = cluster();
    for (name, to, parts) in [
        (
            "unready",
            "ClusterIP",
            &[
                "10.1.0.5:8080 (this node): out: not ready",
                "10.2.0.5:8080 (node-b): out: terminating, and not serving",
            ][..],
        ),
        (
            "away",
            "ClusterIP",
            &["10.2.0.3:8080 (node-b): out: not local: it is on node node-b"],
        ),
        (
            "last",
            "ClusterIP",
            &["10.1.0.8:8080 (this node): in: terminating but still serving"],
        ),
        (
            "draining",
            "NodePort",
            &[
                "10.1.0.7:8080 (this node): out: terminating, while others are ready",
                "10.2.0.7:8080 (node-b): in: ready",
                "does not rule calls from this node",
            ],
        ),
        (
            "empty",
            "ClusterIP",
            &["endpoint: the Service has none", "no endpoint is usable anywhere"],
        ),
    ] {
        let answer = manifests.ask("10.1.0.99", &named(name).frontend(to, true, "TCP"));
        for part in parts {
            assert!(steps(&answer).contains(part), "{part}\n{}", steps(&answer));
        }
    }
}

#[test]
fn hints_are_followed_or_it_is_said_why_not() {
    let mut asked = service(
        1,
        "hinted",
        "",
        &[(1, "node-a", HINTED), (2, "node-b", ELSEWHERE)],
    );
    let manifests = Manifests::new(&[("node.yaml", NODE), ("a.yaml", &asked.manifest())]);
    let answer = manifests.ask("10.1.0.99", "10.96.0.1:80");
    assert_eq!(answer["backends"], json!(["10.1.0.1:8080"]));
    for part in [
        "the hints for zones are followed",
        "10.2.0.2:8080 (node-b): out: ready, but its hints name other zones",
    ] {
        assert!(steps(&answer).contains(part), "{part}\n{}", steps(&answer));
    }
    asked.endpoints = &[(1, "node-a", HINTED), (2, "node-b", READY)];
    manifests.write("a.yaml", &asked.manifest());
    let answer = manifests.ask("10.1.0.99", "10.96.0.1:80");
    assert_eq!(answer["backends"], json!(["10.1.0.1:8080", "10.2.0.2:8080"]));
    assert!(
        steps(&answer).contains("the hints for zones are not followed: a ready endpoint has none"),
        "{}",
        steps(&answer)
    );
    asked.endpoints = &[(2, "node-b", ELSEWHERE)];
    manifests.write("a.yaml", &asked.manifest());
    let answer = manifests.ask("10.1.0.99", "10.96.0.1:80");
    assert_eq!(answer["backends"], json!(["10.2.0.2:8080"]));
    assert!(
        steps(&answer).contains("none names this node's zone west"),
        "{}",
        steps(&answer)
    );
}
