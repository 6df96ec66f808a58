//! Calls that are not like the others.

use serde_json::json;

use crate::cluster::cluster;
use crate::explaining::{Manifests, NODE, steps};

/// SCTP goes by packets alone: the host's own sockets are not served (docs/features.md).
#[test]
fn sctp_is_decided_by_its_packets() {
    let text = "apiVersion: v1
kind: Service
metadata: {name: sctp}
spec: {type: NodePort, clusterIPs: [10.96.0.1, 'fd00:96::1'], ports: [{protocol: SCTP, port: 80, nodePort: 30080}]}
";
    let slice = |family: &str, addresses: [&str; 2]| {
        format!(
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: sctp-{family}, labels: {{kubernetes.io/service-name: sctp}}}}
addressType: {family}
ports: [{{protocol: SCTP, port: 8080}}]
endpoints: [{{addresses: ['{}'], nodeName: node-a}}, {{addresses: ['{}'], nodeName: node-b}}]
",
            addresses[0], addresses[1]
        )
    };
    let (four, six) = (["10.1.0.1", "10.2.0.1"], ["fd00:1::1", "fd00:2::1"]);
    let text = [text, &slice("IPv4", four), &slice("IPv6", six)].concat();
    let manifests = Manifests::new(&[("node.yaml", NODE), ("sctp.yaml", &text)]);
    for (from, to, verdict, source) in [
        ("10.1.0.99", "10.96.0.1:80/SCTP", "forward", "kept"),
        ("fd00:1::99", "[fd00:96::1]:80/SCTP", "forward", "kept"),
        (
            "198.18.0.9",
            "192.0.2.1:30080/SCTP",
            "forward",
            "masqueraded-to-remote",
        ),
        (
            "2001:db8:ffff::9",
            "[2001:db8::1]:30080/sctp",
            "forward",
            "masqueraded-to-remote",
        ),
        ("192.0.2.1", "10.96.0.1:80/SCTP", "reject", "kept"),
        ("10.1.0.99", "10.96.0.1:80/TCP", "reject", "kept"),
        ("10.1.0.99", "10.96.0.99:80/SCTP", "not-a-service", "kept"),
    ] {
        let answer = manifests.ask(from, to);
        let row = format!("{from} -> {to}\n{}", steps(&answer));
        assert_eq!(
            (&answer["verdict"], &answer["source"]),
            (&json!(verdict), &json!(source)),
            "{row}"
        );
        let backends = answer["backends"].as_array().unwrap().len();
        assert_eq!(backends, if verdict == "forward" { 2 } else { 0 }, "{row}");
    }
}

#[test]
fn hairpin_among_several_backends_is_said() {
    let manifests = cluster();
    let answer = manifests.ask("10.1.0.1", "10.96.0.1:80");
    assert!(
        steps(&answer).contains("one of the backends is the caller itself"),
        "{}",
        steps(&answer)
    );
    let answer = manifests.ask("10.1.0.6", "10.96.0.6:80/udp");
    assert!(
        steps(&answer).contains("the only backend is the caller itself"),
        "{}",
        steps(&answer)
    );
}

#[test]
fn affinity_is_told_with_its_seconds() {
    let manifests = cluster();
    for (from, to, key) in [
        ("10.1.0.99", "10.96.0.9:80/TCP", "its address"),
        ("192.0.2.1", "10.96.0.9:80/TCP", "its network namespace"),
        ("10.1.0.99", "10.96.0.9:80/UDP", "its address"),
        ("198.18.0.9", "192.0.2.1:30009/TCP", "its address"),
    ] {
        let answer = manifests.ask(from, to);
        assert_eq!(answer["affinity"], true);
        assert_eq!(answer["affinity_seconds"], 600);
        assert!(steps(&answer).contains(key), "{}", steps(&answer));
    }
}

/// By DSR a call from outside reaches endpoints of other nodes whole, so that all endpoints see who calls; whom the short cut
/// serves is served as ever.
#[test]
fn a_call_that_is_handed_on_keeps_its_source() {
    let text = "apiVersion: v1
kind: Service
metadata: {name: whole, annotations: {shunt.dev/forwarding: dsr}}
spec: {type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: whole, labels: {kubernetes.io/service-name: whole}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: ['10.1.0.1'], nodeName: node-a}, {addresses: ['10.2.0.1'], nodeName: node-b}]
";
    for (text, by_dsr) in [(text.to_owned(), true), (text.replace("dsr", "snat"), false)] {
        let manifests = Manifests::new(&[("node.yaml", NODE), ("whole.yaml", &text)]);
        for (from, to, is_outside) in [
            ("198.18.0.9", "192.0.2.1:30080", true),
            ("10.1.0.99", "192.0.2.1:30080", false),
            ("192.0.2.1", "192.0.2.1:30080", false),
            ("10.1.0.99", "10.96.0.1:80", false),
        ] {
            let answer = manifests.ask(from, to);
            let row = format!("{from} -> {to}\n{}", steps(&answer));
            let source = match is_outside && !by_dsr {
                true => "masqueraded-to-remote",
                false => "kept",
            };
            assert_eq!(
                (&answer["verdict"], &answer["source"]),
                (&json!("forward"), &json!(source)),
                "{row}"
            );
            assert_eq!(answer["backends"].as_array().unwrap().len(), 2, "{row}");
            assert_eq!(
                row.contains("handed on whole to the backend's node"),
                is_outside && by_dsr,
                "{row}"
            );
        }
    }
}
