//! What is met, who may use it, and what is near where nothing is.

use serde_json::json;

use crate::cluster::{READY, cluster, service};
use crate::explaining::{Manifests, NODE, steps};

/// Semantics A8.
#[test]
fn source_ranges_guard_load_balancers_alone() {
    let ranges = "loadBalancerSourceRanges: [198.18.0.0/16, '2001:db8:ffff::/48', 10.1.0.0/24]";
    let asked = service(1, "guarded", ranges, &[(1, "node-b", READY)]);
    let manifests = Manifests::new(&[("node.yaml", NODE), ("a.yaml", &asked.manifest())]);
    for protocol in ["TCP", "UDP"] {
        for (from, kind, verdict) in [
            ("198.18.0.9", "LoadBalancer", "forward"),
            ("198.19.0.9", "LoadBalancer", "drop"),
            ("198.19.0.9", "NodePort", "forward"),
            ("198.19.0.9", "ExternalIP", "forward"),
            ("198.19.0.9", "ClusterIP", "forward"),
            ("10.1.0.99", "LoadBalancer", "forward"),
            ("192.0.2.1", "LoadBalancer", "drop"),
            ("2001:db8:ffff::9", "LoadBalancer", "forward"),
            ("2001:db8:fffe::9", "LoadBalancer", "drop"),
            ("fd00:1::99", "LoadBalancer", "drop"),
        ] {
            let is_v4 = from.contains('.');
            let answer = manifests.ask(from, &asked.frontend(kind, is_v4, protocol));
            assert_eq!(
                answer["verdict"],
                verdict,
                "{from} {kind} {protocol}\n{}",
                steps(&answer)
            );
        }
    }
}

#[test]
fn what_is_no_service_says_what_is_near() {
    let manifests = cluster();
    for (to, part) in [
        (
            "203.0.113.1:81",
            "203.0.113.1 is served at 80/TCP of default/cluster:web, 80/UDP of default/cluster:dns",
        ),
        (
            "192.0.2.2:30001",
            "30001 is a NodePort of Service default/cluster:web, but 192.0.2.2 is no address of this node",
        ),
    ] {
        let answer = manifests.ask("198.18.0.9", to);
        assert_eq!(answer["verdict"], "not-a-service");
        assert_eq!(
            (&answer["backends"], &answer["source"], &answer["affinity"]),
            (&json!([]), &json!("kept"), &json!(false))
        );
        assert!(steps(&answer).contains(part), "{part}\n{}", steps(&answer));
    }
    manifests.write(
        "proxied.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: theirs, labels: {service.kubernetes.io/service-proxy-name: x}}, spec: {clusterIP: 10.96.0.77, ports: [{port: 80}]}}",
    );
    let answer = manifests.ask("10.1.0.99", "10.96.0.77:80");
    assert_eq!(answer["verdict"], "not-a-service");
    assert!(
        steps(&answer).contains("gives it to another proxy"),
        "{}",
        steps(&answer)
    );
}

#[test]
fn of_two_services_that_claim_a_frontend_the_older_answers() {
    let service = |name: &str, ip: &str, year: u16, endpoint: &str| {
        format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, creationTimestamp: '{year}-01-01T00:00:00Z'}}
spec: {{clusterIP: {ip}, externalIPs: [198.51.100.1], ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{{addresses: [{endpoint}]}}]
"
        )
    };
    let manifests = Manifests::new(&[
        ("a.yaml", &service("young", "10.96.0.1", 2026, "10.9.0.1")),
        ("b.yaml", &service("old", "10.96.0.2", 2025, "10.9.0.2")),
    ]);
    let answer = manifests.ask("10.8.0.1", "198.51.100.1:80");
    assert_eq!(answer["backends"], json!(["10.9.0.2:8080"]));
    assert!(
        steps(&answer).contains("default/young claims it too and does without"),
        "{}",
        steps(&answer)
    );
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("both claim TCP 198.51.100.1:80"), "{warnings}");
}
