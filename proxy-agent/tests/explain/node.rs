//! Who calls, and at which addresses of the node NodePorts answer.

use crate::cluster::{cluster, named};
use crate::explaining::{Manifests, shunt, steps};

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

/// What `--from` gets of the Service whose external policy is Local, under this detectLocalMode.
fn under(manifests: &Manifests, mode: &[&str], from: &str) -> serde_json::Value {
    let to = named("local").frontend("LoadBalancer", from.contains('.'), "TCP");
    let asked = ["--node", "node-a", "-o", "json", "--from", from, "--to", &to];
    let output = manifests.run(&[mode, &asked].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn who_counts_as_a_pod_of_this_node_is_told_and_takes_the_shortcut() {
    let manifests = cluster();
    let cluster = [
        "--detect-local-mode",
        "ClusterCIDR",
        "--cluster-cidr",
        "10.2.0.0/16,fd00:2::/32",
    ];
    let node = ["--detect-local-mode", "NodeCIDR"];
    let bridge = [
        "--detect-local-mode",
        "BridgeInterface",
        "--pod-bridge-interface",
        "cbr0",
    ];
    let prefix = [
        "--detect-local-mode",
        "InterfaceNamePrefix",
        "--pod-interface-name-prefix",
        "cali",
    ];
    let config = Manifests::new(&[(
        "kube-proxy.conf",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\ndetectLocalMode: ClusterCIDR\nclusterCIDR: \
         10.2.0.0/16,fd00:2::/32\n",
    )]);
    let config = config.path().join("kube-proxy.conf");
    let file = ["--config", config.to_str().unwrap()];
    for (mode, from, list, words) in [
        (
            &[][..],
            "10.1.0.99",
            "shortcut",
            "by an interface that leads to a pod counts as a pod of this node: this one does",
        ),
        (&[], "10.2.0.99", "external", "this one does not"),
        (
            &cluster,
            "10.1.0.99",
            "external",
            "from 10.2.0.0/16 counts as a pod of this node (detectLocalMode ClusterCIDR): this one does not",
        ),
        (&cluster, "10.2.0.99", "shortcut", "ClusterCIDR): this one does"),
        (&cluster, "fd00:2::99", "shortcut", "from fd00:2::/32 counts"),
        (&file, "10.2.0.99", "shortcut", "ClusterCIDR): this one does"),
        (&file, "10.1.0.99", "external", "this one does not"),
        (
            &node,
            "10.1.0.99",
            "shortcut",
            "from 10.1.0.0/24 counts as a pod of this node (detectLocalMode NodeCIDR): this one does",
        ),
        (&node, "10.2.0.99", "external", "this one does not"),
        (
            &bridge,
            "10.1.0.99",
            "shortcut",
            "by a port of the bridge cbr0 (detectLocalMode BridgeInterface)",
        ),
        (
            &prefix,
            "fd00:1::99",
            "shortcut",
            "by an interface named cali... (detectLocalMode InterfaceNamePrefix)",
        ),
    ] {
        let answer = under(&manifests, mode, from);
        assert_eq!(answer["list"], list, "{mode:?} {from}\n{}", steps(&answer));
        assert!(
            steps(&answer).contains(words),
            "{mode:?} {from}\n{}",
            steps(&answer)
        );
    }
    for (arguments, part) in [
        (
            &[
                "--cluster-cidr",
                "10.0.0.0/16,10.2.0.0/16,10.4.0.0/16,10.6.0.0/16,10.8.0.0/16",
            ][..],
            "the programs know 4",
        ),
        (&["--detect-local-mode", "Guess"], "Guess"),
        (
            &[file[0], file[1], "--cluster-cidr", "10.0.0.0/8"],
            "--cluster-cidr is void beside --config",
        ),
    ] {
        let asked = ["--node", "node-a", "--from", "10.1.0.99", "--to", "10.96.0.1:80"];
        let output = manifests.run(&[arguments, &asked].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(part), "{error}");
    }
    let output = shunt(&[
        "explain",
        "--detect-local-mode",
        "NodeCIDR",
        "--from",
        "10.1.0.99",
        "--to",
        "10.96.0.1:80",
    ]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && error.contains("--detect-local-mode needs --manifests"),
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
