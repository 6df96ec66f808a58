//! Floods of clients that do not exist: what becomes of conversations that stand, of new clients, and of memory.
//!
//! ```text
//! client ── SYNs, or first datagrams, each from another address and port ──▶ NodePort of n1 ── DNAT ──▶ `near`, a pod of n1
//!    ▲                                                                                      └─ SNAT ──▶ `far`, a pod of n2
//!    └── answers, which nobody takes ◀──────────────────────────────────────────────────────────────────┘
//! ```
//! Meanwhile connections and exchanges that stood before go on with numbered lines, and a real client calls anew all the time.
//! The same flood at the pod's own address, which no Service has part in, tells what the machine alone makes of it.

mod client;
mod holder;
mod page;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::address::{self, Family};
use lab::flood::{self, Wave};
use lab::manifest::Service;
use lab::options::Xdp;
use lab::{Agent, ECHO_PORT, Lab, Options};
use serde::Serialize;

pub(crate) use self::client::Client;
use self::client::{Calling, Served};
use self::holder::Held;
pub(crate) use self::holder::Holder;
use self::holder::Standing;
use crate::usage::Usage;

const NODE_PORTS: [(&str, u16); 2] = [("near", 30_081), ("far", 30_082)];
/// Packets between two looks at whether there were enough.
const SHOWER: u64 = 50_000;
/// Until the flow tables have been swept: every half minute.
const PATIENCE: Duration = Duration::from_secs(90);
/// Counters whose growth is told.
const COUNTERS: [&str; 11] = [
    "flow_created",
    "flow_promoted",
    "partner_restored",
    "tcp_without_flow",
    "reverse_without_flow",
    "udp_rebalanced",
    "source_port_reclaimed",
    "source_ports_exhausted",
    "flow_table_refused",
    "no_route",
    "rewrite_failed",
];

/// How much.
#[derive(Args)]
pub(crate) struct Flooding {
    /// Packets of each flood, each of a new client
    #[arg(long, default_value_t = 10_000_000)]
    packets: u64,
    /// Connections that are held, and as many exchanges of datagrams; half of them to each Service
    #[arg(long, default_value_t = 1000)]
    held: usize,
    /// Calls of a real client before each flood
    #[arg(long, default_value_t = 2000)]
    calls: usize,
    /// IPv6 in place of IPv4
    #[arg(long)]
    ipv6: bool,
    /// Whether XDP takes part
    #[arg(long, value_enum, default_value_t = Xdp::Auto)]
    xdp: Xdp,
    /// Where the records go
    #[arg(long, default_value = "target/bench/flood.json")]
    output: PathBuf,
    /// Also write the tables into docs/performance.md
    #[arg(long)]
    page: bool,
}

/// One flood and what was seen of it.
#[derive(Debug, Serialize)]
struct Flooded {
    kind: &'static str,
    at: &'static str,
    packets: u64,
    seconds: f64,
    /// Of the node that was flooded, by name.
    counters: Vec<(&'static str, u64)>,
    before: Served,
    during: Served,
    /// Datagrams that did not fit into the queue of the backend's socket.
    full_queue: u64,
}

/// Memory of the agent whose node is flooded, in MiB.
#[derive(Clone, Copy, Debug, Serialize)]
struct Memory {
    resident: f64,
    peak: f64,
    maps: f64,
}

/// All that was measured.
#[derive(Debug, Serialize)]
struct Report {
    family: &'static str,
    xdp: &'static str,
    floods: Vec<Flooded>,
    /// By the Service that they go to.
    standing: Vec<(&'static str, Standing)>,
    /// Before and after.
    memory: [Memory; 2],
    tables: Tables,
}

/// The flow tables of the node that is flooded: entries that they have room for.
#[derive(Clone, Copy, Debug, Serialize)]
struct Tables {
    /// Of TCP's embryos, and of UDP's.
    embryos: u64,
    tcp_flows: u64,
    udp_flows: u64,
    /// Established flows that were pushed out of any.
    pushed_out: u64,
}

/// Measures all floods.
pub(crate) fn run(flooding: &Flooding) -> Result<()> {
    let report = measure(flooding)?;
    crate::record::write(&flooding.output, &report)?;
    let section = page::section(&report);
    println!("\n{section}");
    if flooding.page {
        crate::page::write("flood", &section)?;
    }
    Ok(())
}

fn measure(flooding: &Flooding) -> Result<Report> {
    let family = if flooding.ipv6 { Family::V6 } else { Family::V4 };
    println!("bench: building a lab");
    let mut lab = Lab::start(Options {
        xdp: flooding.xdp,
        ..Options::default()
    })?;
    for (node, (name, _)) in (1..).zip(NODE_PORTS) {
        lab.add_pod(name, node)?;
    }
    for (number, (name, node_port)) in (1..).zip(NODE_PORTS) {
        let service = Service::new(name, number, 80, ECHO_PORT).node_port(node_port);
        lab.apply(&service.over([lab.pod(name)]))?;
    }
    let held = NODE_PORTS.map(|(_, port)| {
        let to = address::node(1).at(family, port);
        Held::start(&lab.client, to, flooding.held / 2)
    });
    let [near, far] = held;
    let mut held = [near?, far?];
    check(&mut held)?;
    let before = memory(lab.agent(1))?;
    let mut floods = Vec::new();
    for wave in [Wave::Syns, Wave::Datagrams] {
        for (at, to, pod) in [
            ("near", address::node(1).at(family, NODE_PORTS[0].1), "near"),
            ("far", address::node(1).at(family, NODE_PORTS[1].1), "far"),
            (
                "no Service",
                lab.pod("near").address.at(family, ECHO_PORT),
                "near",
            ),
        ] {
            let flooded =
                flood(&lab, flooding, wave, (at, to), pod).with_context(|| format!("{wave:?} at {to}"))?;
            println!("bench: {}", page::told(&flooded));
            floods.push(flooded);
            for (name, standing) in check(&mut held)? {
                println!("bench: held to {name}: {}", page::told_of_held(&standing));
            }
        }
    }
    Ok(Report {
        family: if flooding.ipv6 { "IPv6" } else { "IPv4" },
        xdp: flooding.xdp.argument(),
        floods,
        standing: check(&mut held)?,
        memory: [before, memory(lab.agent(1))?],
        tables: tables(lab.agent(1), family)?,
    })
}

/// Two rounds more of all that is held.
fn check(held: &mut [Held; 2]) -> Result<Vec<(&'static str, Standing)>> {
    let names = NODE_PORTS.map(|(name, _)| name);
    let standing = held.iter_mut().zip(names);
    standing.map(|(held, name)| Ok((name, held.check()?))).collect()
}

/// One flood, with a real client beside it and before it.
fn flood(
    lab: &Lab,
    flooding: &Flooding,
    wave: Wave,
    (at, to): (&'static str, SocketAddr),
    pod: &str,
) -> Result<Flooded> {
    let is_udp = wave == Wave::Datagrams;
    let agent = lab.agent(1);
    let before = Calling::start(&lab.client, to, is_udp, Some(flooding.calls))?.finish()?;
    let counted = counters(agent)?;
    let full = full_queue(lab, pod)?;
    let mut flood = flood::Flood::open(lab, wave, to)?;
    let calling = Calling::start(&lab.client, to, is_udp, None)?;
    let begin = Instant::now();
    while flood.sent() < flooding.packets {
        flood.send(SHOWER.min(flooding.packets - flood.sent()))?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let during = calling.stop()?;
    let counted = counters(agent)?.into_iter().zip(counted);
    Ok(Flooded {
        kind: match wave {
            Wave::Syns => "SYNs",
            Wave::Datagrams => "datagrams",
        },
        at,
        packets: flood.sent(),
        seconds,
        counters: COUNTERS
            .into_iter()
            .zip(counted.map(|(after, before)| after - before))
            .collect(),
        before,
        during,
        full_queue: full_queue(lab, pod)? - full,
    })
}

fn counters(agent: &Agent) -> Result<Vec<u64>> {
    COUNTERS.into_iter().map(|name| agent.counter(name)).collect()
}

/// Of the pod's sockets, both families.
fn full_queue(lab: &Lab, pod: &str) -> Result<u64> {
    let namespace = lab.pod(pod).place.namespace();
    Ok(namespace.statistic("UdpRcvbufErrors")? + namespace.statistic("Udp6RcvbufErrors")?)
}

fn memory(agent: &Agent) -> Result<Memory> {
    let usage = Usage::of(agent.process()?, agent.place().cgroup())?;
    Ok(Memory {
        resident: usage.now,
        peak: usage.peak,
        maps: usage.maps,
    })
}

/// What sweeps have found: room, and what was pushed out.
fn tables(agent: &Agent, family: Family) -> Result<Tables> {
    let number = if family == Family::V4 { 4 } else { 6 };
    let found = |name: &str, labels: &[&str]| -> Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = agent.metric(name, labels)? {
                return Ok(value as u64);
            }
            ensure!(
                Instant::now() < deadline,
                "no sweep has told {name} of {labels:?}"
            );
        }
    };
    let room = |table: &str| found("shunt_map_capacity", &[&format!("map=\"{table}{number}\"")]);
    Ok(Tables {
        embryos: room("TCP_EMBRYOS")?,
        tcp_flows: room("TCP_FLOWS")?,
        udp_flows: room("UDP_FLOWS")?,
        pushed_out: found("shunt_flows_pushed_out_total", &[])?,
    })
}

impl Flooded {
    fn counter(&self, name: &str) -> u64 {
        let found = self.counters.iter().find(|(other, _)| *other == name);
        found.map_or(0, |(_, value)| *value)
    }
}
