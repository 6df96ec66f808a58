//! What is asked wrongly, and manifests that are wrong.

use crate::cluster::cluster;
use crate::explaining::{Manifests, shunt};

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
