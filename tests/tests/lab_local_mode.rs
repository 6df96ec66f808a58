//! detectLocalMode: who counts as a pod of this node, and so takes the short cut to all endpoints under the external traffic
//! policy Local; in all four forms, with real sockets.

use anyhow::{Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Transport};
use lab::manifest::Service;
use lab::options::Style;
use lab::{ECHO_PORT, Lab, Options};

/// Pods of n1, by their addresses, and others.
const OURS: &str = "10.244.1.0/24,fd00:244:1::/64";
const OTHERS: &str = "10.99.0.0/16,fd00:99::/64";
/// The Node as Kubernetes has it, with the ranges of its pods.
const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDR: 10.99.0.0/24, podCIDRs: [10.99.0.0/24, 'fd00:99::/64']}
";

/// What is configured, and whether a pod of n1 is one of this node's by it. It goes by packets, to a Service whose only
/// endpoint is on n2.
fn check(style: Style, configuration: &str, manifest: &str, is_ours: bool) -> Result<()> {
    let mut lab = Lab::build(Options {
        style,
        ..Options::default()
    })?;
    lab.agent_mut(1).write_config(configuration)?;
    if !manifest.is_empty() {
        lab.agent(1).apply("nodes.yaml", manifest)?;
    }
    lab.start_agents()?;
    lab.add_pod("a", 1)?;
    lab.add_pod("c", 2)?;
    let mut service = Service::new("far", 1, 80, ECHO_PORT).over([lab.pod("c")]);
    service.load_balancer = Some(address::LOAD_BALANCER);
    service.external_local = true;
    lab.apply(&service)?;
    for family in Family::BOTH {
        let at = address::LOAD_BALANCER.at(family, 80);
        // UDP of pods goes by packets whatever socket LB does.
        let outcomes = lab
            .place("a")?
            .calls(Calls::new(Transport::ConnectedUdp, at, 2))?;
        ensure!(
            outcomes.all_answered() == is_ours && !outcomes.all_refused(),
            "{configuration}: a -> {at}: should be answered: {is_ours}, {outcomes:?}"
        );
    }
    Ok(())
}

#[test]
fn by_the_clusters_ranges() -> Result<()> {
    let with = |ranges: &str| format!("detectLocalMode: ClusterCIDR\nclusterCIDR: '{ranges}'\n");
    check(Style::Routed, &with(OURS), "", true)?;
    check(Style::Routed, &with(OTHERS), "", false)
}

#[test]
fn by_the_nodes_ranges() -> Result<()> {
    let mode = "detectLocalMode: NodeCIDR\n";
    let ours = NODE
        .replace("10.99.0.0/24", "10.244.1.0/24")
        .replace("fd00:99::", "fd00:244:1::");
    check(Style::Routed, mode, &ours, true)?;
    check(Style::Routed, mode, NODE, false)
}

#[test]
fn by_a_bridge() -> Result<()> {
    let mode = "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: pods}\n";
    check(Style::Bridge, mode, "", true)
}

#[test]
fn by_the_beginning_of_an_interfaces_name() -> Result<()> {
    let mode = "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: pod}\n";
    check(Style::Routed, mode, "", true)
}
