//! `shunt plan` by the maps of an agent that runs: what is told is what the agent then does.

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

fn web(spec: &str, endpoints: &[(&str, &str)]) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|(address, node)| format!("{{addresses: [{address}], nodeName: {node}}}"))
        .collect();
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web, uid: u1}}
spec: {{type: NodePort, clusterIP: 10.96.0.1, {spec}, ports: [{{name: a, port: 80, nodePort: 30080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: a, port: 8080}}]
endpoints: [{}]
",
        endpoints.join(", ")
    )
}

const OTHER: &str = "apiVersion: v1
kind: Service
metadata: {name: other, uid: u2}
spec: {clusterIP: 10.96.0.2, ports: [{port: 53, protocol: UDP}]}
";

fn shunt(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    command.env_remove("NODE_NAME").env_remove("SHUNT_INSTANCE");
    command.arg("plan").args(arguments).output().unwrap()
}

/// What applying or deleting a manifest would change, by the maps.
fn told(place: &Place, more: &[&str], manifest: &str) -> Value {
    let file = place.manifests.with_extension("planned");
    std::fs::write(&file, manifest).unwrap();
    let base = [
        "--node",
        "here",
        "--instance",
        place.instance.to_str().unwrap(),
        "-o",
        "json",
    ];
    let output = shunt(&[&base, more, &["-f", file.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Gives a manifest to the agent; how many writes it made of it.
fn apply(place: &Place, agent: &mut Agent, manifest: &str) -> u64 {
    write(place, "web.yaml", manifest);
    agent.wait("applied")["operations"].as_u64().unwrap()
}

#[test]
fn what_is_told_by_the_maps_is_what_the_agent_does() {
    let place = Place::enter("plan");
    let now = web(
        "externalTrafficPolicy: Cluster",
        &[("10.1.0.1", "here"), ("10.2.0.1", "there")],
    );
    write(&place, "web.yaml", &now);
    write(&place, "other.yaml", OTHER);
    let mut agent = Agent::start(&place);
    agent.wait("ready");
    let same = told(&place, &[], &now);
    assert_eq!(
        (&same["writes"], &same["unknown"]),
        (&json!(0), &json!([])),
        "{same}"
    );

    let then = web(
        "externalTrafficPolicy: Local, sessionAffinity: ClientIP",
        &[("10.1.0.1", "here"), ("10.2.0.1", "there"), ("10.2.0.2", "there")],
    );
    let plan = told(&place, &[], &then);
    let moved: Vec<_> = plan["moved"]
        .as_array()
        .unwrap()
        .iter()
        .map(|moved| (&moved["list"], &moved["percent"]))
        .collect();
    assert_eq!(
        moved,
        [
            (&json!("internal"), &json!(33.3)),
            (&json!("external"), &json!(50.0)),
            (&json!("shortcut"), &json!(33.3))
        ]
    );
    assert_eq!(plan["affinity"][0]["after"], json!(10_800));
    assert_eq!((&plan["frontends"], &plan["unknown"]), (&json!([]), &json!([])));
    // The Service alone: its endpoints are those of the maps.
    let service = then.split("---").next().unwrap();
    let alone = told(&place, &[], service);
    assert_eq!(alone["moved"], json!([plan["moved"][1]]), "{alone}");

    assert_eq!(plan["writes"].as_u64(), Some(apply(&place, &mut agent, &then)));
    assert_eq!(told(&place, &[], &then)["writes"], 0);

    let plan = told(&place, &["--delete"], &then);
    let removed = plan["frontends"].as_array().unwrap().iter();
    assert_eq!(
        removed.filter(|change| change["change"] == "removed").count(),
        2,
        "{plan}"
    );
    std::fs::remove_file(place.manifests.join("web.yaml")).unwrap();
    assert_eq!(plan["writes"], agent.wait("applied")["operations"]);
    let gone = told(&place, &["--delete"], &then);
    assert_eq!(gone["writes"], 0);
    let unknown = gone["unknown"][0].as_str().unwrap();
    assert!(
        unknown.starts_with("whether there is a Service default/web"),
        "{gone}"
    );
    agent.stop();
}

#[test]
fn without_maps_or_a_folder_it_says_what_to_do() {
    let place = Place::enter("noplan");
    let file = place.manifests.join("other.yaml");
    std::fs::write(&file, OTHER).unwrap();
    let file = file.to_str().unwrap();
    let instance = place.instance.to_str().unwrap();
    let folder = place.manifests.to_str().unwrap();
    let absent = OTHER.replace("other", "absent");
    let absent_file = place.manifests.with_extension("absent");
    std::fs::write(&absent_file, absent).unwrap();
    let absent_file = absent_file.to_str().unwrap();
    for (arguments, parts) in [
        (
            &["--instance", instance, "-f", file][..],
            &[instance, "--manifests"][..],
        ),
        (&["--manifests", folder, "-f", file], &["--node"]),
        (
            &["--manifests", folder, "--instance", instance, "-f", file],
            &["--instance", "--manifests"],
        ),
        (
            &[
                "--manifests",
                folder,
                "--node",
                "here",
                "--delete",
                "-f",
                absent_file,
            ],
            &["no Service default/absent", "nothing to delete"],
        ),
        (
            &["--instance", instance, "--node-address", "192.0.2.1", "-f", file],
            &["--manifests"],
        ),
    ] {
        let output = shunt(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{arguments:?}"
        );
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
