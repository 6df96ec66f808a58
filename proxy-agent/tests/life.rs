//! The binary as a whole: manifests into pinned maps, the command line's view of them, restart and cleanup.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod place;
mod running;

use std::time::{Duration, Instant};

use place::Place;
use running::{Agent, shunt, write};
use serde_json::Value;

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: NodePort, clusterIP: 10.96.0.1, ports: [{name: http, port: 80, nodePort: 30080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.1], nodeName: here}, {addresses: [10.1.0.2], nodeName: there}]
";

fn table(place: &Place, verb: &str) -> String {
    let output = shunt(place, &[verb]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(place: &Place, verb: &str) -> Value {
    let output = shunt(place, &[verb, "-o", "json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn manifests_become_maps_that_outlive_the_agent() {
    let place = Place::enter("life");
    write(&place, "web.yaml", SERVICE);
    let mut agent = Agent::start(&place);
    let applied = agent.wait("applied");
    assert_eq!(
        (&applied["files"], &applied["failed"]),
        (&"web.yaml".into(), &0.into())
    );
    agent.wait("ready");
    assert_eq!(
        table(&place, "services"),
        "\
SERVICE        KIND       FRONTEND          INTERNAL  EXTERNAL  SHORTCUT  FORWARDING  AFFINITY  CHOICE  BACKENDS (LOCAL/ALL)  HINTS
shop/web:http  NodePort   tcp *:30080       -         2         2         snat        -         random  1/2                   -
shop/web:http  ClusterIP  tcp 10.96.0.1:80  2         -         -         -           -         random  1/2                   -
"
    );

    write(&place, "web.yaml", &SERVICE.replace("10.1.0.2", "10.1.0.3"));
    assert_eq!(agent.wait("applied")["files"], "web.yaml");
    let backends = json(&place, "backends");
    let alive = backends
        .as_array()
        .unwrap()
        .iter()
        .filter(|backend| backend["alive"] == true);
    let addresses: Vec<&str> = alive
        .map(|backend| backend["address"].as_str().unwrap())
        .collect();
    assert_eq!(addresses, ["10.1.0.1", "10.1.0.3"]);

    write(&place, "web.yaml", &SERVICE.replace("port: 80,", "port: 0,"));
    let refused = agent.wait("refused");
    assert_eq!(refused["file"], "web.yaml");
    let error = refused["error"].as_str().unwrap();
    assert!(error.starts_with("web.yaml:4:"), "{error}");
    assert!(
        error.contains("spec.ports[0].port: invalid value: integer `0`"),
        "{error}"
    );
    agent.stop();

    // The file is still broken: the next agent leaves what it finds.
    let services = json(&place, "services");
    let mut agent = Agent::start(&place);
    agent.wait("refused");
    agent.wait("ready");
    assert_eq!(json(&place, "services"), services);
    write(&place, "web.yaml", &SERVICE.replace("10.1.0.2", "10.1.0.3"));
    agent.wait("applied");
    assert_eq!(json(&place, "services"), services, "ids and lists are the same");
    std::fs::remove_file(place.manifests.join("web.yaml")).unwrap();
    agent.wait("applied");
    assert!(
        json(&place, "services")
            .as_array()
            .unwrap()
            .iter()
            .all(|service| service["frontends"] == Value::Array(Vec::new()))
    );
    agent.stop();

    let output = shunt(&place, &["cleanup"]);
    assert!(output.status.success(), "{output:?}");
    let output = shunt(&place, &["services"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && error.contains("no agent runs or ran"),
        "{error}"
    );
}

#[test]
fn an_agent_whose_log_nobody_reads_any_more_goes_on() {
    let place = Place::enter("mute");
    let mut agent = Agent::start(&place);
    agent.wait("ready");
    // The only reader of the pipe goes.
    drop(agent.log.take());
    write(&place, "web.yaml", SERVICE);
    let deadline = Instant::now() + Duration::from_secs(20);
    while json(&place, "services") == Value::Array(Vec::new()) {
        assert!(agent.child.try_wait().unwrap().is_none(), "the agent has ended");
        assert!(Instant::now() < deadline, "the Service is not served");
    }
    agent.stop();
}

#[test]
fn what_can_not_be_served_is_said_by_name() {
    let place = Place::enter("wrong");
    std::fs::remove_dir(&place.manifests).unwrap();
    let mut agent = Agent::start(&place);
    let line = agent.log.as_mut().unwrap().next().unwrap().unwrap();
    assert!(
        line.contains("manifests folder") && line.contains("No such file"),
        "{line}"
    );
    assert!(!agent.child.wait().unwrap().success());
}
