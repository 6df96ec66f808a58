//! `shunt explain` on folders of manifests, by the real binary: the rows of the contract, in both families, TCP and UDP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod explaining;

use explaining::{Manifests, NODE, Service, backend, pod, shunt, steps};
use serde_json::json;

const LOCAL: &str = "internalTrafficPolicy: Local\n  externalTrafficPolicy: Local";
const READY: &str = "conditions: {ready: true}";
const NOT_READY: &str = "conditions: {ready: false, serving: false}";
const DRAINING: &str = "conditions: {ready: false, serving: true, terminating: true}";
const GONE: &str = "conditions: {ready: false, serving: false, terminating: true}";

/// All Services that the rows ask about.
const SERVICES: &[Service] = &[
    service(1, "cluster", "", &[(1, "node-a", READY), (1, "node-b", READY)]),
    service(2, "local", LOCAL, &[(2, "node-a", READY), (2, "node-b", READY)]),
    service(3, "away", LOCAL, &[(3, "node-b", READY)]),
    service(4, "empty", "", &[]),
    service(5, "unready", "", &[(5, "node-a", NOT_READY), (5, "node-b", GONE)]),
    service(6, "alone", "", &[(6, "node-a", READY)]),
    service(
        7,
        "draining",
        LOCAL,
        &[(7, "node-a", DRAINING), (7, "node-b", READY)],
    ),
    service(8, "last", "", &[(8, "node-a", DRAINING), (8, "node-b", GONE)]),
    service(
        9,
        "sticky",
        "sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}",
        &[(9, "node-b", READY)],
    ),
];

const fn service(
    number: u8,
    name: &'static str,
    spec: &'static str,
    endpoints: &'static [(u8, &'static str, &'static str)],
) -> Service {
    Service {
        name,
        number,
        spec,
        endpoints,
    }
}

fn named(name: &str) -> Service {
    *SERVICES.iter().find(|service| service.name == name).unwrap()
}

fn cluster() -> Manifests {
    let manifests = Manifests::new(&[("node.yaml", NODE)]);
    for service in SERVICES {
        manifests.write(&format!("{}.yaml", service.name), &service.manifest());
    }
    manifests
}

const NOT_CLUSTER_IP: &[&str] = &["NodePort", "LoadBalancer", "ExternalIP"];
const ALL: &[&str] = &["ClusterIP", "NodePort", "LoadBalancer", "ExternalIP"];

/// Who calls, whom, at which frontends; verdict, backends and source that must come of it.
type Row = (
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    &'static str,
);

/// Semantics A4, with the difference of docs/features.md: backends of this node see the client under the policy Cluster.
const POLICIES: &[Row] = &[
    (
        &["pod", "host"],
        "cluster",
        &["ClusterIP"],
        "forward",
        &["h1", "r1"],
        "kept",
    ),
    (
        &["pod", "host"],
        "local",
        &["ClusterIP"],
        "forward",
        &["h2"],
        "kept",
    ),
    (
        &["outside"],
        "cluster",
        &["ClusterIP"],
        "forward",
        &["h1", "r1"],
        "masqueraded-to-remote",
    ),
    (&["outside"], "local", &["ClusterIP"], "forward", &["h2"], "kept"),
    (
        &["outside"],
        "cluster",
        NOT_CLUSTER_IP,
        "forward",
        &["h1", "r1"],
        "masqueraded-to-remote",
    ),
    (&["outside"], "local", NOT_CLUSTER_IP, "forward", &["h2"], "kept"),
    (
        &["pod of node-b"],
        "local",
        NOT_CLUSTER_IP,
        "forward",
        &["h2"],
        "kept",
    ),
    (
        &["pod", "host"],
        "local",
        NOT_CLUSTER_IP,
        "forward",
        &["h2", "r2"],
        "kept",
    ),
    (
        &["pod", "host"],
        "cluster",
        NOT_CLUSTER_IP,
        "forward",
        &["h1", "r1"],
        "kept",
    ),
    (&["h6"], "alone", ALL, "forward", &["h6"], "masqueraded"),
    (&["h1"], "cluster", ALL, "forward", &["h1", "r1"], "kept"),
    (&["r3"], "away", &["ClusterIP"], "drop", &[], "kept"),
];

/// Semantics A5.
const WITHOUT: &[Row] = &[
    (&["pod", "host", "outside"], "empty", ALL, "reject", &[], "kept"),
    (&["pod", "host", "outside"], "unready", ALL, "reject", &[], "kept"),
    (
        &["pod", "host", "outside"],
        "away",
        &["ClusterIP"],
        "drop",
        &[],
        "kept",
    ),
    (
        &["outside", "pod of node-b"],
        "away",
        NOT_CLUSTER_IP,
        "drop",
        &[],
        "kept",
    ),
    (
        &["pod", "host"],
        "away",
        NOT_CLUSTER_IP,
        "forward",
        &["r3"],
        "kept",
    ),
];

/// Semantics A3: the fallbacks of the two lists do not know of each other.
const FALLBACKS: &[Row] = &[
    (
        &["outside"],
        "draining",
        NOT_CLUSTER_IP,
        "forward",
        &["h7"],
        "kept",
    ),
    (
        &["pod", "host"],
        "draining",
        NOT_CLUSTER_IP,
        "forward",
        &["r7"],
        "kept",
    ),
    (
        &["pod", "host", "outside"],
        "draining",
        &["ClusterIP"],
        "forward",
        &["h7"],
        "kept",
    ),
    (&["pod", "host"], "last", ALL, "forward", &["h8"], "kept"),
];

fn address(caller: &str, is_v4: bool) -> String {
    match (caller, is_v4) {
        ("pod", _) => pod(is_v4, true, 99),
        ("pod of node-b", _) => pod(is_v4, false, 99),
        ("host", true) => "192.0.2.1".to_owned(),
        ("host", false) => "2001:db8::1".to_owned(),
        ("outside", true) => "198.18.0.9".to_owned(),
        ("outside", false) => "2001:db8:ffff::9".to_owned(),
        (short, _) => pod(is_v4, short.starts_with('h'), short[1..].parse().unwrap()),
    }
}

fn hold(rows: &[Row]) {
    let manifests = cluster();
    for (callers, name, kinds, verdict, backends, source) in rows {
        for is_v4 in [true, false] {
            for protocol in ["TCP", "UDP"] {
                let mut expected: Vec<String> = backends.iter().map(|short| backend(is_v4, short)).collect();
                expected.sort_unstable();
                for (caller, kind) in callers
                    .iter()
                    .flat_map(|caller| kinds.iter().map(move |kind| (caller, kind)))
                {
                    let from = address(caller, is_v4);
                    let to = named(name).frontend(kind, is_v4, protocol);
                    let answer = manifests.ask(&from, &to);
                    let row = format!("{caller} {from} -> {name} {kind} {to}\n{}", steps(&answer));
                    assert_eq!(answer["verdict"], *verdict, "{row}");
                    assert_eq!(answer["backends"], json!(expected), "{row}");
                    assert_eq!(answer["source"], *source, "{row}");
                    assert_eq!(answer["kind"], *kind, "{row}");
                    assert_eq!(answer["affinity"], false, "{row}");
                }
            }
        }
    }
}

#[test]
fn every_row_of_the_policies_holds() {
    hold(POLICIES);
}

#[test]
fn every_row_without_an_endpoint_holds() {
    hold(WITHOUT);
}

#[test]
fn terminating_endpoints_serve_where_nobody_else_does() {
    hold(FALLBACKS);
}

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
        ("10.1.0.99", "10.96.0.1:80/TCP", "not-a-service", "kept"),
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

const HINTED: &str = "conditions: {ready: true}, hints: {forZones: [{name: west}]}";
const ELSEWHERE: &str = "conditions: {ready: true}, hints: {forZones: [{name: east}]}";

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
fn who_calls_is_told_with_the_reason() {
    let manifests = cluster();
    for (from, class, reason) in [
        ("10.1.0.99", "pod", "10.1.0.0/24"),
        ("fd00:1::99", "pod", "fd00:1::/64"),
        ("192.0.2.101", "host", "one of its addresses"),
        ("127.0.0.1", "host", "loopback"),
        ("10.2.0.1", "outside", "neither"),
    ] {
        let to = named("cluster").frontend("ClusterIP", from.contains('.'), "TCP");
        let answer = manifests.ask(from, &to);
        assert_eq!(answer["caller"], class);
        assert!(steps(&answer).contains(reason), "{}", steps(&answer));
    }
}

#[test]
fn node_ports_answer_at_all_addresses_of_the_node_and_at_loopback_for_the_host() {
    let manifests = cluster();
    for (from, to, verdict) in [
        ("198.18.0.9", "192.0.2.101:30001", "forward"),
        ("198.18.0.9", "192.0.2.2:30001", "not-a-service"),
        ("198.18.0.9", "192.0.2.1:30077", "not-a-service"),
        ("192.0.2.1", "127.0.0.1:30001", "forward"),
        ("127.0.0.1", "127.0.0.1:30001/UDP", "forward"),
        ("::1", "[::1]:30001", "forward"),
        ("10.1.0.99", "127.0.0.1:30001", "not-a-service"),
    ] {
        let answer = manifests.ask(from, to);
        assert_eq!(answer["verdict"], verdict, "{from} {to}\n{}", steps(&answer));
    }
}

#[test]
fn node_port_addresses_are_followed() {
    let manifests = cluster();
    for (choice, from, to, verdict) in [
        ("primary", "198.18.0.9", "192.0.2.1:30001", "forward"),
        ("primary", "198.18.0.9", "192.0.2.101:30001", "not-a-service"),
        ("primary", "2001:db8:ffff::9", "[2001:db8::1]:30001", "forward"),
        ("primary", "192.0.2.1", "127.0.0.1:30001", "not-a-service"),
        ("primary,localhost", "192.0.2.1", "127.0.0.1:30001", "forward"),
        ("192.0.2.101/32", "10.1.0.99", "192.0.2.101:30001", "forward"),
        ("192.0.2.101/32", "10.1.0.99", "192.0.2.1:30001", "not-a-service"),
        ("all", "198.18.0.9", "192.0.2.101:30001", "forward"),
    ] {
        let choose = ["--nodeport-addresses", choice, "--node", "node-a", "-o", "json"];
        let output = manifests.run(&[&choose[..], &["--from", from, "--to", to]].concat());
        assert!(output.status.success(), "{output:?}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            answer["verdict"],
            verdict,
            "{choice} {from} {to}\n{}",
            steps(&answer)
        );
    }
    let arguments = [
        "--nodeport-addresses",
        "secondary",
        "--node",
        "node-a",
        "--from",
        "10.1.0.9",
        "--to",
        "10.96.0.1:80",
    ];
    let output = manifests.run(&arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && error.contains("`secondary` is no network"),
        "{error}"
    );
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

#[test]
fn without_a_node_object_it_is_said_what_is_assumed() {
    let asked = named("cluster");
    let manifests = Manifests::new(&[("a.yaml", &asked.manifest())]);
    let answer = manifests.ask("10.1.0.1", "10.96.0.1:80/UDP");
    assert_eq!(answer["caller"], "pod", "an endpoint whose nodeName is ours");
    assert!(
        steps(&answer).contains("the manifests have no Node object"),
        "{}",
        steps(&answer)
    );
    assert_eq!(
        manifests.ask("198.18.0.9", "192.0.2.1:30001")["verdict"],
        "not-a-service"
    );
    let arguments = [
        "--node",
        "node-a",
        "--node-address",
        "192.0.2.1",
        "--node-address",
        "192.0.2.7",
        "--from",
    ];
    let output = manifests.run(
        &[
            &arguments[..],
            &["198.18.0.9", "--to", "192.0.2.7:30001", "-o", "json"],
        ]
        .concat(),
    );
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["verdict"], "forward");
}

#[test]
fn the_answer_for_people_is_the_same_each_time() {
    let manifests = cluster();
    let ask = || {
        manifests.run(&[
            "--node",
            "node-a",
            "--from",
            "198.18.0.9",
            "--to",
            "192.0.2.1:30001",
        ])
    };
    let first = ask();
    assert_eq!(first.stdout, ask().stdout);
    let text = String::from_utf8(first.stdout).unwrap();
    for part in [
        "198.18.0.9 -> 192.0.2.1:30001/TCP",
        "is a NodePort of Service default/cluster:web",
        "externalTrafficPolicy Cluster rules calls from outside",
        "with a free port of 45000-60999",
        "forward, to 10.1.0.1:8080, 10.2.0.1:8080",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn bad_input_is_named_with_the_way_out() {
    let manifests = cluster();
    let good = ["--node", "node-a", "--from", "10.1.0.99", "--to", "10.96.0.1:80"];
    for (place, value, parts) in [
        (3, "pod-a", &["--from `pod-a` is no IP address"][..]),
        (3, "fd00::1", &["two IP families"]),
        (5, "10.96.0.1", &["--to `10.96.0.1`", "ADDRESS:PORT/PROTOCOL"]),
        (5, "10.96.0.1:80/ICMP", &["TCP, UDP or SCTP"]),
        (5, "fd00::1:80", &["in brackets"]),
        (5, "10.96.0.1:99999", &["from 1 to 65535"]),
    ] {
        let mut arguments = good;
        arguments[place] = value;
        let output = manifests.run(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{value}");
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    let output = shunt(&[&["explain", "--manifests", "/nowhere"], &good[..]].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("/nowhere"), "{error}");
    let file = manifests.path().join("node.yaml");
    let output = shunt(&[&["explain", "--manifests", file.to_str().unwrap()], &good[..]].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("node.yaml"), "{error}");
}

#[test]
fn a_broken_manifest_stops_only_the_questions_that_it_may_answer() {
    let manifests = cluster();
    manifests.write("broken.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {clusterIP: 10.96.0.66, ports: [{port: seven}]}\n");
    let answer = manifests.ask("10.1.0.99", "10.96.0.1:80");
    assert_eq!(answer["verdict"], "forward");
    let warnings = answer["warnings"].to_string();
    assert!(
        warnings.contains("refused: broken.yaml:4:") && warnings.contains("spec.ports[0].port"),
        "{warnings}"
    );
    let refused = |to: &str| {
        let output = manifests.run(&["--node", "node-a", "--from", "10.1.0.99", "--to", to]);
        assert!(!output.status.success(), "{to}");
        String::from_utf8(output.stderr).unwrap()
    };
    let error = refused("10.96.0.66:80");
    assert!(
        error.contains("broken.yaml:4:") && error.contains("it names 10.96.0.66"),
        "{error}"
    );
    manifests.write(
        "broken.yaml",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: y, labels: {kubernetes.io/service-name: cluster}}\naddressType: IPv4\nendpoints: 7\n",
    );
    let error = refused("10.96.0.1:80");
    assert!(
        error.contains("an EndpointSlice of Service default/cluster"),
        "{error}"
    );
    let output = manifests.run(&["--node", "node-a", "--from", "10.1.0.99", "--to", "10.96.0.2:80"]);
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("warning: refused: broken.yaml")
    );
}

#[test]
fn a_folder_of_broken_manifests_is_refused() {
    let manifests = Manifests::new(&[("a.yaml", "kind: [")]);
    let output = manifests.run(&["--node", "node-a", "--from", "10.1.0.99", "--to", "10.96.0.1:80"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("a.yaml:1"), "{error}");
    let empty = Manifests::empty();
    assert_eq!(empty.ask("10.1.0.99", "10.96.0.1:80")["verdict"], "not-a-service");
}

/// The blocks of this sort in a page.
fn blocks<'a>(page: &'a str, sort: &str) -> Vec<&'a str> {
    let start = format!("```{sort}\n");
    let blocks = page.split(&*start).skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_example_of_the_docs_is_what_is_printed() {
    let page = include_str!("../../docs/explain.md");
    let manifests = Manifests::new(&[("shop.yaml", blocks(page, "yaml")[0])]);
    let line = page
        .lines()
        .find(|line| line.contains("--manifests shop "))
        .unwrap();
    let line = line.split('`').nth(1).unwrap();
    let arguments: Vec<&str> = line.split_whitespace().skip(4).collect();
    let output = manifests.run(&arguments);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, explaining::printed_after(&page, "prints"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let manifests = cluster();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shunt"));
    command.args([
        "explain",
        "--node",
        "node-a",
        "--from",
        "198.18.0.9",
        "--to",
        "192.0.2.1:30001",
    ]);
    command.arg("--manifests").arg(manifests.path()).stdout(writer);
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn an_error_tells_a_cause_once() {
    let output = shunt(&[
        "explain",
        "--node",
        "a",
        "--from",
        "10.0.0.1",
        "--to",
        "10.0.0.2:1",
        "--manifests",
        "/nowhere",
    ]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(error.matches("/nowhere").count(), 1, "{error}");
}
