//! DSR by real sockets: the client calls node 1, the backend is on node 2, which answers the client itself.
//!
//! ```text
//! client ──── network ──── n1 ─┐ whole, in an outer header to the pod's address
//!    └──────────┴───────── n2 ◄┘── pod far
//! ```

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Transport, has_sctp};
use lab::manifest::{Port, Service};
use lab::options::Xdp;
use lab::{ECHO_PORT, Lab, Options};

const NODE_PORT: u16 = 30_082;
const CALLS: usize = 20;
/// There and back at the same time, each byte compared.
const BYTES: usize = 10_000_000;

fn transports() -> Vec<Transport> {
    let mut all = vec![Transport::Tcp, Transport::Udp, Transport::OneUdpSocket];
    if has_sctp() {
        all.push(Transport::Sctp);
    }
    all
}

/// Pods on the second node, behind a Service with a NodePort and a load balancer's address, which leads to the first.
fn scene(options: Options, pods: &[&str]) -> Result<(Lab, Service)> {
    let mut lab = Lab::build(options)?;
    for node in [1, 2] {
        lab.agent_mut(node).use_switches(&["--forwarding", "dsr"]);
    }
    lab.start_agents()?;
    for pod in pods {
        lab.add_pod(pod, 2)?;
    }
    let mut service = Service {
        load_balancer: Some(address::LOAD_BALANCER),
        ..Service::new("far", 1, 80, ECHO_PORT)
    };
    service.ports.push(Port {
        name: "sctp".to_owned(),
        protocol: "SCTP",
        port: 80,
        target: ECHO_PORT,
        node_port: 0,
    });
    let service = service
        .node_port(NODE_PORT)
        .over(pods.iter().map(|name| lab.pod(name)));
    lab.apply(&service)?;
    Ok((lab, service))
}

fn frontends(family: Family) -> [SocketAddr; 2] {
    [
        address::node(1).at(family, NODE_PORT),
        address::LOAD_BALANCER.at(family, 80),
    ]
}

/// What node 1 has received and sent, in bytes.
fn traffic(lab: &Lab) -> Result<(u64, u64)> {
    let output = lab
        .host(1)
        .output("ip", &["-s", "-j", "link", "show", "dev", "eth0"])?;
    ensure!(output.status.success(), "{output:?}");
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).context("reading what ip says")?;
    let bytes = |way: &str| {
        let number = links[0]["stats64"][way]["bytes"].as_u64();
        number.with_context(|| format!("no bytes of {way} in {links}"))
    };
    Ok((bytes("rx")?, bytes("tx")?))
}

fn the_backends_node_answers(options: Options) -> Result<()> {
    let (lab, _service) = scene(options, &["far"])?;
    for family in Family::BOTH {
        for to in frontends(family) {
            for transport in transports() {
                let handed_on = lab.agent(1).counter("encapsulated")?;
                let taken_over = lab.agent(2).counter("decapsulated")?;
                let outcomes = lab.client.calls(Calls::new(transport, to, CALLS))?;
                ensure!(outcomes.all_answered(), "{transport} to {to}: {outcomes}");
                for answer in outcomes.answers() {
                    // Sockets that are not connected name no address of their own.
                    let own = address::CLIENT.at(family, answer.own.port());
                    ensure!(
                        answer.peer == own,
                        "{transport} to {to}: the backend saw {}, not the client's {own}",
                        answer.peer
                    );
                    ensure!(answer.from == to, "answered from {}", answer.from);
                }
                ensure!(lab.agent(1).counter("encapsulated")? >= handed_on + CALLS as u64);
                ensure!(lab.agent(2).counter("decapsulated")? >= taken_over + CALLS as u64);
            }
            let before = traffic(&lab)?;
            lab.client
                .transfer(to, BYTES)
                .with_context(|| format!("{options}: {to}"))?;
            let after = traffic(&lab)?;
            let (received, sent) = (after.0 - before.0, after.1 - before.1);
            // With the answers it would have been twice as much, both ways.
            let most = BYTES as u64 * 3 / 2;
            ensure!(
                (BYTES as u64..most).contains(&received) && sent < most,
                "{to}: node 1 received {received} bytes and sent {sent}: the answers passed it"
            );
            // A tunnel is another interface.
            ensure!(
                options.tunnel || sent >= BYTES as u64,
                "{to}: node 1 sent {sent} bytes"
            );
        }
    }
    let drops = ["too_big", "no_route", "rewrite_failed", "flow_table_refused"];
    for (node, name) in [1, 2].into_iter().flat_map(|node| drops.map(|name| (node, name))) {
        let count = lab.agent(node).counter(name)?;
        ensure!(count == 0 || name == "too_big", "node {node}: {count} {name}");
    }
    Ok(())
}

#[test]
fn the_backends_node_answers_the_client() -> Result<()> {
    the_backends_node_answers(Options::default())
}

#[test]
fn the_backends_node_answers_on_strict_nodes_without_offloads() -> Result<()> {
    the_backends_node_answers(Options {
        strict: true,
        offloads: false,
        ..Options::default()
    })
}

#[test]
fn the_backends_node_answers_where_xdp_is() -> Result<()> {
    the_backends_node_answers(Options {
        xdp: Xdp::Native,
        ..Options::default()
    })
}

/// From an uplink with a link-layer header to one without, at which the backend's node takes the packets over.
#[test]
fn the_backends_node_answers_what_comes_by_a_tunnel() -> Result<()> {
    the_backends_node_answers(Options {
        tunnel: true,
        ..Options::default()
    })
}

/// What the pinned programs do, they do without an agent.
#[test]
fn connections_go_on_while_agents_are_killed() -> Result<()> {
    let (mut lab, service) = scene(Options::default(), &["far"])?;
    let handed_on = lab.agent(1).counter("encapsulated")?;
    let pause = std::time::Duration::from_millis(10);
    let mut held = Vec::new();
    for family in Family::BOTH {
        for to in frontends(family) {
            held.push(lab::call::hold(&lab.client, to, pause)?);
        }
    }
    for node in [1, 2] {
        lab.agent_mut(node).kill()?;
        for held in &mut held {
            held.check()?;
        }
        lab.agent_mut(node).start()?;
    }
    // At the least a connection's SYN, its ACK and its first data.
    let least = handed_on + 3 * held.len() as u64;
    ensure!(lab.agent(1).counter("encapsulated")? >= least, "not by DSR");
    // Without DSR from now on: what is there stays as it is.
    let without = Service {
        annotations: vec![("shunt.dev/forwarding", "snat")],
        ..service
    };
    lab.apply(&without)?;
    for held in &mut held {
        held.check()?;
    }
    let to = frontends(Family::V4)[0];
    let outcomes = lab.client.calls(Calls::new(Transport::Tcp, to, CALLS))?;
    let ours = address::node(1).of(Family::V4);
    ensure!(
        outcomes.all_answered() && outcomes.answers().all(|answer| answer.peer.ip() == ours),
        "{outcomes}, and in whose name?"
    );
    Ok(())
}

/// Datagrams of one socket go to another backend as soon as theirs is gone.
#[test]
fn datagrams_leave_a_backend_that_is_gone() -> Result<()> {
    let (lab, service) = scene(Options::default(), &["one", "other"])?;
    for (family, port) in Family::BOTH.into_iter().zip([41_000, 41_001]) {
        lab.apply(&service)?;
        let to = frontends(family)[1];
        let call = || {
            lab.client.calls(Calls {
                source_port: port,
                ..Calls::new(Transport::OneUdpSocket, to, CALLS)
            })
        };
        let handed_on = lab.agent(1).counter("encapsulated")?;
        let outcomes = call()?;
        let names: Vec<String> = outcomes.by_name().into_keys().map(str::to_owned).collect();
        ensure!(outcomes.all_answered() && names.len() == 1, "{outcomes}");
        let rest = service
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.address.of(family) != lab.pod(&names[0]).address.of(family));
        let less = Service {
            endpoints: rest.cloned().collect(),
            ..service.clone()
        };
        lab.apply(&less)?;
        let outcomes = call()?;
        ensure!(outcomes.all_answered(), "{outcomes}");
        ensure!(
            !outcomes.by_name().contains_key(&*names[0]),
            "{outcomes}, after {} has gone",
            names[0]
        );
        let least = handed_on + 2 * CALLS as u64;
        ensure!(lab.agent(1).counter("encapsulated")? >= least, "not by DSR");
    }
    Ok(())
}
