//! Connections: directly to the pod, by socket LB, by TC, and by netfilter.
//!
//! A pod of one node calls a pod of the other. Each way has a lab of its own, so that what one needs (conntrack) does
//! not slow another; they take turns, round by round.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use lab::options::SocketLb;
use lab::{Lab, Options};

use crate::netfilter::{self, Mode, Rule};
use crate::probe::{Server, Times, measure};
use crate::record::Records;

const SERVER_PORT: u16 = 9000;
const SERVICE_PORT: u16 = 80;
/// Far from the lab's own cluster addresses.
const SERVICES: [u8; 2] = [10, 97];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Shunt,
    Netfilter(Mode),
}

struct Variant {
    name: &'static str,
    lab: usize,
    way: Way,
}

/// Measures all ways at each number of Services.
pub(crate) fn run(rounds: usize, connections: u32, services: &[usize], records: &mut Records) -> Result<()> {
    let host_only = Options {
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    };
    println!("bench: building four labs");
    let mut labs = vec![
        Lab::start(Options::default())?,
        Lab::start(host_only)?,
        Lab::build(Options::default())?,
        Lab::build(Options::default())?,
    ];
    let mut servers = Vec::new();
    for lab in &mut labs {
        lab.add_pod("caller", 1)?;
        servers.push(Server::start(&lab.add_pod("server", 2)?.place, SERVER_PORT)?);
    }
    let variants = [
        Variant {
            name: "direct",
            lab: 0,
            way: Way::Direct,
        },
        Variant {
            name: "socket LB",
            lab: 0,
            way: Way::Shunt,
        },
        Variant {
            name: "TC",
            lab: 1,
            way: Way::Shunt,
        },
        Variant {
            name: "nftables",
            lab: 2,
            way: Way::Netfilter(Mode::Nftables),
        },
        Variant {
            name: "iptables",
            lab: 3,
            way: Way::Netfilter(Mode::Iptables),
        },
    ];
    for &count in services {
        println!("bench: {count} Services");
        for variant in &variants {
            prepare(&labs[variant.lab], variant.way, count)?;
        }
        let mut times: Vec<Vec<Times>> = variants.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (variant, times) in variants.iter().zip(&mut times) {
                let lab = &labs[variant.lab];
                times.push(measure(
                    &lab.pod("caller").place,
                    target(lab, variant.way, count),
                    connections,
                    false,
                )?);
            }
        }
        for (variant, times) in variants.iter().zip(&times) {
            let of = |value: fn(&Times) -> f64| times.iter().map(value).collect::<Vec<_>>();
            records.add("connections", variant.name, count, "1/s", &of(|times| times.rate));
            records.add("connect p50", variant.name, count, "us", &of(|times| times.p50));
            records.add("connect p99", variant.name, count, "us", &of(|times| times.p99));
        }
        udp_connect(rounds, &labs[0], count, records)?;
    }
    drop(servers);
    Ok(())
}

/// connect() of a UDP socket of the host: the hook's own cost, without the noise of packets.
fn udp_connect(rounds: usize, lab: &Lab, count: usize, records: &mut Records) -> Result<()> {
    const SOCKETS: u32 = 200;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (way, times) in [Way::Direct, Way::Shunt].into_iter().zip(&mut times) {
            times.push(measure(lab.host(1), target(lab, way, count), SOCKETS, true)?.p50 * 1000.0);
        }
    }
    for (variant, times) in ["direct", "socket LB"].into_iter().zip(&times) {
        records.add("UDP connect() p50", variant, count, "ns", times);
    }
    Ok(())
}

fn target(lab: &Lab, way: Way, count: usize) -> SocketAddr {
    match way {
        Way::Direct => (lab.pod("server").address.v4, SERVER_PORT).into(),
        Way::Shunt | Way::Netfilter(_) => (cluster_ip(count - 1), SERVICE_PORT).into(),
    }
}

fn cluster_ip(number: usize) -> Ipv4Addr {
    let [a, b] = SERVICES;
    let [c, d] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

fn prepare(lab: &Lab, way: Way, count: usize) -> Result<()> {
    let server = lab.pod("server").address.v4;
    match way {
        Way::Direct => Ok(()),
        Way::Shunt => {
            let applied = lab.agent(1).apply("bench.yaml", &manifest(server, count))?;
            applied.context("no agent runs").map(drop)
        }
        Way::Netfilter(mode) => {
            let rules: Vec<_> = (0..count)
                .map(|number| Rule {
                    frontend: (cluster_ip(number), SERVICE_PORT),
                    backend: (server, SERVER_PORT),
                })
                .collect();
            netfilter::install(lab.host(1), mode, &rules)
        }
    }
}

/// Services with one endpoint each; all of them lead to the server.
fn manifest(server: Ipv4Addr, count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let address = cluster_ip(number);
        let _infallible = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: bench-{number}, namespace: default, uid: bench-{number}}}\n\
             spec:\n  type: ClusterIP\n  clusterIP: {address}\n  clusterIPs: [\"{address}\"]\n  ipFamilies: [IPv4]\n  \
             ports: [{{name: t, protocol: TCP, port: {SERVICE_PORT}, targetPort: {SERVER_PORT}}}, \
             {{name: u, protocol: UDP, port: {SERVICE_PORT}, targetPort: {SERVER_PORT}}}]\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: bench-{number}\n  namespace: default\n  \
             labels: {{kubernetes.io/service-name: bench-{number}}}\naddressType: IPv4\n\
             ports: [{{name: t, protocol: TCP, port: {SERVER_PORT}}}, {{name: u, protocol: UDP, port: {SERVER_PORT}}}]\n\
             endpoints: [{{addresses: [\"{server}\"], nodeName: n2, conditions: {{ready: true}}}}]\n"
        );
    }
    text
}
