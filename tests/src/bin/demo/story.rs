//! The story: a Service of two pods on one node, scaled to six on both, loses a pod, and then the agents.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use lab::address::{self, Family, Pair};
use lab::call::{Calls, Held, Outcomes, Transport, hold};
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Options, Place};

use crate::report::{Expected, Report};

const NAME: &str = "hello-world";
const PORT: u16 = 80;
const NODE_PORT: u16 = 30080;
/// Calls a frontend, address family and transport.
const CALLS: usize = 60;
/// Pods at first, all on one node.
const FIRST: [(&str, u8); 2] = [("web-1", 1), ("web-2", 1)];
/// Pods that come later.
const LATER: [(&str, u8); 4] = [("web-3", 1), ("web-4", 2), ("web-5", 2), ("web-6", 2)];
/// The pod that dies.
const VICTIM: &str = "web-2";

/// Tells it all.
pub(crate) fn tell(report: &mut Report) -> Result<()> {
    report.step("Building a cluster: nodes n1 and n2, a network, a client outside, an agent on each node");
    let mut lab = Lab::start(Options::default())?;
    report.line("both agents are ready: programs are loaded and attached, maps are empty");
    report.line("each row below: calls over TCP and UDP, over IPv4 and IPv6, as many of each");
    lab.add_pod("shell", 2)?;
    for (name, node) in FIRST {
        lab.add_pod(name, node)?;
    }
    serve_two(report, &lab)?;
    let mut held = held_connections(report, &lab)?;
    scale_to_six(report, &mut lab)?;
    lose_a_pod(report, &mut lab)?;
    lose_the_agents(report, &mut lab, &mut held)
}

fn serve_two(report: &mut Report, lab: &Lab) -> Result<()> {
    report.step("Service hello-world: LoadBalancer, port 80 -> 8080, externalTrafficPolicy Cluster, 2 pods, both on n1");
    apply(report, lab)?;
    call_everywhere(report, lab, "two pods", &names(&FIRST))
}

fn scale_to_six(report: &mut Report, lab: &mut Lab) -> Result<()> {
    report.step("Scaling from 2 to 6 pods, on both nodes");
    for (name, node) in LATER {
        lab.add_pod(name, node)?;
        report.line(&format!("{name} runs on n{node}"));
    }
    apply(report, lab)?;
    call_everywhere(
        report,
        lab,
        "six pods",
        &names(&[&FIRST[..], &LATER[..]].concat()),
    )
}

fn lose_a_pod(report: &mut Report, lab: &mut Lab) -> Result<()> {
    report.step(&format!("{VICTIM} dies"));
    let pods: Vec<_> = lab
        .pods()
        .filter(|pod| is_web(pod.name()) && pod.name() != VICTIM)
        .collect();
    lab.apply(&service().over(pods))?;
    lab.remove_pod(VICTIM)?;
    report.line("its endpoint is gone from the maps, its processes and its network are gone");
    call_everywhere(report, lab, "a pod died", &survivors())
}

fn lose_the_agents(report: &mut Report, lab: &mut Lab, held: &mut [Held]) -> Result<()> {
    report.step("Both agents are killed (SIGKILL)");
    for node in [1, 2] {
        lab.agent_mut(node).kill()?;
    }
    call_everywhere(report, lab, "agents killed", &survivors())?;
    check_held(report, held)?;
    report.step("Both agents come back");
    let start = Instant::now();
    lab.start_agents()?;
    report.line(&format!("ready after {} ms", start.elapsed().as_millis()));
    lab.add_pod("web-7", 2)?;
    apply(report, lab)?;
    let mut pods = survivors();
    pods.push("web-7");
    call_everywhere(report, lab, "agents are back", &pods)?;
    check_held(report, held)
}

/// Connections that are opened early and must outlive all that follows.
fn held_connections(report: &Report, lab: &Lab) -> Result<Vec<Held>> {
    report.step("Long-lived connections, which must outlive all that follows");
    let v4 = |pair: Pair, port| pair.at(Family::V4, port);
    let connections = [
        (
            "client -> load balancer",
            &lab.client,
            v4(address::LOAD_BALANCER, PORT),
        ),
        (
            "client -> NodePort of n2",
            &lab.client,
            address::node(2).at(Family::V6, NODE_PORT),
        ),
        (
            "pod on n2 -> ClusterIP",
            lab.place("shell")?,
            v4(address::cluster(1), PORT),
        ),
    ];
    let mut all = Vec::new();
    for (what, place, to) in connections {
        let mut held = to_a_survivor(place, to)?;
        report.line(&format!("{what}: connected to {}", held.check()?.name));
        all.push(held);
    }
    Ok(all)
}

/// A connection to the pod that will die would rightly break.
fn to_a_survivor(place: &Place, to: SocketAddr) -> Result<Held> {
    for _ in 0..100 {
        let mut held = hold(place, to, Duration::from_millis(2))?;
        if held.check()?.name != VICTIM {
            return Ok(held);
        }
    }
    bail!(
        "100 connections from {} to {to} all went to {VICTIM}",
        place.name()
    )
}

fn check_held(report: &Report, held: &mut [Held]) -> Result<()> {
    for held in held {
        let survived = held.check()?;
        report.line(&format!(
            "long-lived connection to {}: {} lines there and back, none lost, the slowest took {} ms",
            survived.name,
            survived.lines,
            survived.longest.as_millis()
        ));
    }
    Ok(())
}

/// The client outside calls the load balancer and both NodePorts; a pod calls the cluster address.
fn call_everywhere(report: &mut Report, lab: &Lab, step: &str, pods: &[&str]) -> Result<()> {
    let shell = lab.place("shell")?;
    let frontends = [
        (
            "client -> load balancer",
            &lab.client,
            address::LOAD_BALANCER,
            PORT,
        ),
        (
            "client -> NodePort of n1",
            &lab.client,
            address::node(1),
            NODE_PORT,
        ),
        (
            "client -> NodePort of n2",
            &lab.client,
            address::node(2),
            NODE_PORT,
        ),
        ("pod on n2 -> ClusterIP", shell, address::cluster(1), PORT),
    ];
    for (what, place, address, port) in frontends {
        let mut outcomes = Vec::new();
        for (family, transport) in combinations() {
            outcomes.extend(
                place
                    .calls(Calls::new(transport, address.at(family, port), CALLS))?
                    .0,
            );
        }
        let what = format!("{what} {}:{port}", address.v4);
        report.calls(
            step,
            &what,
            &Outcomes(outcomes),
            &Expected { pods: pods.to_vec() },
        );
    }
    Ok(())
}

fn combinations() -> impl Iterator<Item = (Family, Transport)> {
    Family::BOTH
        .into_iter()
        .flat_map(|family| [Transport::Tcp, Transport::Udp].map(|transport| (family, transport)))
}

fn apply(report: &Report, lab: &Lab) -> Result<()> {
    let pods: Vec<_> = lab.pods().filter(|pod| is_web(pod.name())).collect();
    let count = pods.len();
    let start = Instant::now();
    lab.apply(&service().over(pods))?;
    report.line(&format!(
        "{count} endpoints are in the maps of both nodes after {} ms",
        start.elapsed().as_millis()
    ));
    Ok(())
}

fn service() -> Service {
    let mut service = Service::new(NAME, 1, PORT, ECHO_PORT).node_port(NODE_PORT);
    service.load_balancer = Some(address::LOAD_BALANCER);
    service
}

fn is_web(name: &str) -> bool {
    name.starts_with("web-")
}

fn names<'a>(pods: &[(&'a str, u8)]) -> Vec<&'a str> {
    pods.iter().map(|(name, _)| *name).collect()
}

fn survivors() -> Vec<&'static str> {
    let all = FIRST.into_iter().chain(LATER).map(|(name, _)| name);
    all.filter(|name| *name != VICTIM).collect()
}
