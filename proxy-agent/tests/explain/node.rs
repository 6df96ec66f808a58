//! Who calls, and at which addresses of the node NodePorts answer.

use crate::cluster::{cluster, named};
use crate::explaining::{Manifests, steps};

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
