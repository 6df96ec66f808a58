//! `shunt explain` by the maps of an agent that runs, and against the manifests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod place;
mod running;

use std::process::{Command, Output};

use place::Place;
use running::{Agent, write};
use serde_json::{Value, json};

const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: here}
spec: {podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}]}
";

fn service(policy: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web, uid: u1}}
spec:
  type: NodePort
  clusterIPs: [10.96.0.1, 'fd00:96::1']
  externalTrafficPolicy: {policy}
  sessionAffinity: ClientIP
  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: 600}}}}
  ports: [{{name: a, port: 80, nodePort: 30080}}, {{name: b, protocol: UDP, port: 80, nodePort: 30080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-4, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: a, port: 8080}}, {{name: b, protocol: UDP, port: 8080}}]
endpoints:
- {{addresses: [10.1.0.1], nodeName: here}}
- {{addresses: [10.2.0.1], nodeName: there}}
{more}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-6, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv6
ports: [{{name: a, port: 8080}}, {{name: b, protocol: UDP, port: 8080}}]
endpoints:
- {{addresses: ['fd00:1::1'], nodeName: here}}
- {{addresses: ['fd00:2::1'], nodeName: there}}
"
    )
}

/// The node's interfaces: an uplink to the world and one to its pods, both without anyone at the other end.
fn interfaces() {
    for line in [
        "link set lo up",
        "link add world type veth peer name far-world",
        "link add pods type veth peer name far-pods",
        "address add 192.0.2.1/24 dev world",
        "address add 2001:db8::1/64 dev world nodad",
        "address add 10.1.0.254/24 dev pods",
        "address add fd00:1::fe/64 dev pods nodad",
        "link set world up",
        "link set far-world up",
        "link set pods up",
        "link set far-pods up",
        "route add default via 192.0.2.254",
        "-6 route add default via 2001:db8::fe",
    ] {
        let output = Command::new("ip").args(line.split(' ')).output();
        let output = output.expect("ip (iproute2) can't be run");
        assert!(output.status.success(), "{line}: {output:?}");
    }
}

fn shunt(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    command.env_remove("NODE_NAME").env_remove("SHUNT_INSTANCE");
    command.arg("explain").args(arguments).output().unwrap()
}

/// Asks the maps, or with more arguments something else.
fn ask(place: &Place, more: &[&str], from: &str, to: &str) -> Value {
    let instance = place.instance.to_str().unwrap();
    let question = ["--instance", instance, "--from", from, "--to", to, "-o", "json"];
    let output = shunt(&[more, &question].concat());
    assert!(output.status.success(), "{from} -> {to}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn steps(answer: &Value) -> String {
    let steps = answer["steps"].as_array().unwrap().iter();
    steps
        .map(|step| step.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A datagram of the host to the Service, so that its choice is recorded.
fn call(place: &Place, to: &str) {
    let script = format!(
        "echo $$ > {}/cgroup.procs && echo > /dev/udp/{to}",
        place.cgroup.display()
    );
    let status = Command::new("bash").args(["-c", &script]).status();
    assert!(status.expect("bash can't be run").success());
}

#[test]
fn the_maps_answer_as_the_manifests_do_until_they_differ() {
    let place = Place::enter("explain");
    interfaces();
    write(&place, "node.yaml", NODE);
    write(&place, "web.yaml", &service("Cluster", ""));
    let mut agent = Agent::start(&place);
    agent.wait("ready");

    for (from, to, caller, backends, source) in [
        (
            "10.1.0.9",
            "10.96.0.1:80",
            "pod",
            &["10.1.0.1:8080", "10.2.0.1:8080"][..],
            "kept",
        ),
        (
            "10.1.0.9",
            "10.96.0.1:80/UDP",
            "pod",
            &["10.1.0.1:8080", "10.2.0.1:8080"],
            "kept",
        ),
        (
            "192.0.2.1",
            "10.96.0.1:80",
            "host",
            &["10.1.0.1:8080", "10.2.0.1:8080"],
            "kept",
        ),
        (
            "198.18.0.9",
            "192.0.2.1:30080",
            "outside",
            &["10.1.0.1:8080", "10.2.0.1:8080"],
            "masqueraded-to-remote",
        ),
        (
            "2001:db8:ffff::9",
            "[2001:db8::1]:30080/UDP",
            "outside",
            &["[fd00:1::1]:8080", "[fd00:2::1]:8080"],
            "masqueraded-to-remote",
        ),
        (
            "fd00:1::9",
            "[fd00:96::1]:80/TCP",
            "pod",
            &["[fd00:1::1]:8080", "[fd00:2::1]:8080"],
            "kept",
        ),
    ] {
        let answer = ask(&place, &[], from, to);
        let row = format!("{from} -> {to}\n{}", steps(&answer));
        assert_eq!(answer["caller"], caller, "{row}");
        assert_eq!(
            (&answer["verdict"], &answer["backends"]),
            (&json!("forward"), &json!(backends)),
            "{row}"
        );
        assert_eq!(
            (&answer["source"], &answer["affinity_seconds"]),
            (&json!(source), &json!(600)),
            "{row}"
        );
        let folder = place.manifests.to_str().unwrap();
        let both = ask(&place, &["--manifests", folder, "--node", "here"], from, to);
        assert_eq!(both["difference"], json!([]), "{row}");
    }
    let answer = ask(&place, &[], "198.18.0.9", "192.0.2.1:30080");
    for part in [
        "198.18.0.9 is reached by the uplink world",
        "10.2.0.1:8080 by world, where this node is 192.0.2.1",
        "10.1.0.1:8080 by pods",
    ] {
        assert!(steps(&answer).contains(part), "{part}\n{}", steps(&answer));
    }
    let answer = ask(&place, &[], "10.1.0.9", "192.0.2.1:30081");
    assert_eq!(answer["verdict"], "not-a-service");

    let other = place.manifests.join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("node.yaml"), NODE).unwrap();
    std::fs::write(
        other.join("web.yaml"),
        service("Local", "- {addresses: [10.1.0.2], nodeName: here}"),
    )
    .unwrap();
    let folder = other.to_str().unwrap();
    let both = ask(
        &place,
        &["--manifests", folder, "--node", "here"],
        "198.18.0.9",
        "192.0.2.1:30080",
    );
    assert_eq!(
        both["difference"],
        json!([
            "backend 10.1.0.2:8080: by the manifests only",
            "backend 10.2.0.1:8080: by the running maps only"
        ])
    );
    agent.stop();
}

#[test]
fn a_record_of_affinity_decides_until_its_time_is_over() {
    let place = Place::enter("explainkept");
    interfaces();
    write(&place, "node.yaml", NODE);
    write(&place, "web.yaml", &service("Cluster", ""));
    let mut agent = Agent::start(&place);
    agent.wait("ready");
    call(&place, "10.96.0.1/80");
    let now = ask(&place, &[], "192.0.2.1", "10.96.0.1:80/UDP");
    let kept = now["backends"][0].as_str().unwrap();
    assert_eq!(now["backends"].as_array().unwrap().len(), 1, "{}", steps(&now));
    assert!(
        steps(&now).contains(&format!("a record names {kept}")),
        "{}",
        steps(&now)
    );
    let then = ask(&place, &["--at", "+601"], "192.0.2.1", "10.96.0.1:80/UDP");
    assert_eq!(then["backends"].as_array().unwrap().len(), 2, "{}", steps(&then));
    assert!(steps(&then).contains("it holds no more"), "{}", steps(&then));
    agent.stop();
}

#[test]
fn without_maps_or_a_folder_it_says_what_to_do() {
    let place = Place::enter("noexplain");
    let instance = place.instance.to_str().unwrap();
    let question = ["--from", "10.1.0.9", "--to", "10.96.0.1:80"];
    for (arguments, parts) in [
        (&["--instance", instance][..], &[instance, "--manifests"][..]),
        (&["--manifests", "/nowhere"], &["--node"]),
        (
            &["--manifests", "/nowhere", "--node", "here", "--at", "+5"],
            &["--instance"],
        ),
        (
            &["--instance", instance, "--at", "soon"],
            &["2026-01-31T12:00:00Z"],
        ),
    ] {
        let output = shunt(&[arguments, &question].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
