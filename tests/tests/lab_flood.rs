//! Floods of clients that do not exist, at NodePorts whose backends answer them: connections and exchanges that stand go on,
//! real clients are served, nothing grows.
//!
//! `SHUNT_FLOOD_PACKETS` says how many new flows each kind of flood makes; by default few enough for a test of some seconds.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Held, Outcome, Outcomes, Transport, hold};
use lab::flood::{Flood, Wave};
use lab::manifest::Service;
use lab::options::SocketLb;
use lab::{Agent, ECHO_PORT, Lab, Options};
use serde_json::Value;

const NEAR: u16 = 30_081;
const FAR: u16 = 30_082;
/// Source ports of exchanges of datagrams that stand.
const UDP_PORTS: std::ops::Range<u16> = 20_000..20_004;
const PAUSE: Duration = Duration::from_millis(20);
/// A machine that a flood keeps busy is slow.
const PATIENCE: Duration = Duration::from_secs(20);
/// Packets between two looks at the counters.
const SHOWER: u64 = 50_000;
/// What the agent's own memory may grow by: a slice of a sweep, and pages that the allocator keeps.
const GROWTH: u64 = 8 << 20;
/// Small, so that a flood goes through the tables of embryos again and again.
const SMALL: &str = "16Mi";

fn flows_of_a_flood() -> Result<u64> {
    match std::env::var("SHUNT_FLOOD_PACKETS") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("SHUNT_FLOOD_PACKETS={text} is no number")),
        Err(_) => Ok(60_000),
    }
}

/// `a` and `b` on the first node, `c` on the second; Services over `b` and over `c`.
fn scene(memory: Option<&'static str>) -> Result<Lab> {
    let mut lab = Lab::build(Options {
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    })?;
    if let Some(memory) = memory {
        for node in [1, 2] {
            lab.agent_mut(node).use_map_memory(memory);
        }
    }
    lab.start_agents()?;
    for (name, node) in [("a", 1), ("b", 1), ("c", 2)] {
        lab.add_pod(name, node)?;
    }
    for (name, number, node_port, pod) in [("near", 1, NEAR, "b"), ("far", 2, FAR, "c")] {
        let service = Service::new(name, number, 80, ECHO_PORT).node_port(node_port);
        lab.apply(&service.over([lab.pod(pod)]))?;
    }
    Ok(lab)
}

fn at(family: Family, node_port: u16) -> SocketAddr {
    address::node(1).at(family, node_port)
}

/// Where clients call from and to.
fn ways(family: Family) -> [(&'static str, SocketAddr); 4] {
    [
        ("client", at(family, NEAR)),
        ("client", at(family, FAR)),
        ("a", address::cluster(1).at(family, 80)),
        ("a", address::cluster(2).at(family, 80)),
    ]
}

/// Connections and exchanges of datagrams that stand before the flood.
struct Standing {
    held: Vec<(String, Held)>,
    flows: BTreeSet<String>,
}

impl Standing {
    fn begin(lab: &Lab) -> Result<Self> {
        let mut held = Vec::new();
        for family in Family::BOTH {
            for (from, to) in ways(family) {
                held.push((format!("{from} to {to}"), hold(lab.place(from)?, to, PAUSE)?));
            }
        }
        datagrams(lab)?;
        let flows = established(lab.agent(1))?;
        // Two entries each; and every exchange of datagrams is among them.
        let expected = 2 * (held.len() + 2 * UDP_PORTS.len() * ways(Family::V4).len());
        ensure!(flows.len() == expected, "{} of {expected} entries", flows.len());
        Ok(Self { held, flows })
    }

    /// Every one goes on, by the entries that it had.
    fn check(&mut self, lab: &Lab) -> Result<()> {
        for (name, held) in &mut self.held {
            held.check().with_context(|| name.clone())?;
        }
        datagrams(lab)?;
        let now = established(lab.agent(1))?;
        let lost: Vec<_> = self.flows.difference(&now).collect();
        ensure!(lost.is_empty(), "entries are gone: {lost:?}");
        Ok(())
    }
}

/// Two datagrams from each of the ports, each way.
fn datagrams(lab: &Lab) -> Result<()> {
    for family in Family::BOTH {
        for (from, to) in ways(family) {
            for source_port in UDP_PORTS {
                let outcomes = lab.place(from)?.calls(Calls {
                    source_port,
                    timeout: PATIENCE,
                    ..Calls::new(Transport::OneUdpSocket, to, 2)
                })?;
                ensure!(
                    outcomes.all_answered(),
                    "{from}:{source_port} to {to}: {outcomes}"
                );
            }
        }
    }
    Ok(())
}

/// The established entries, as they are translated.
fn established(agent: &Agent) -> Result<BTreeSet<String>> {
    let flows = agent.ask("flows")?;
    let entries = flows.as_array().context("flows are no list")?.iter();
    let entries = entries.filter(|entry| entry["table"] == "established");
    let text = |entry: &Value| {
        let words = [
            "direction",
            "protocol",
            "source",
            "destination",
            "new_source",
            "new_destination",
        ];
        words.map(|word| entry[word].to_string()).join(" ")
    };
    Ok(entries.map(text).collect())
}

/// Floods a frontend until so many new flows were made, and meanwhile calls it as a real client.
fn flood(lab: &Lab, wave: Wave, to: SocketAddr, flows: u64) -> Result<Outcomes> {
    let mut flood = Flood::open(lab, wave, to)?;
    let agent = lab.agent(1);
    let (transport, timeout) = match wave {
        Wave::Syns => (Transport::Tcp, PATIENCE),
        Wave::Datagrams => (Transport::Udp, Duration::from_secs(1)),
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let calling = scope.spawn(|| -> Result<Outcomes> {
            let mut all = Outcomes(Vec::new());
            while !is_over.load(Ordering::Relaxed) || all.0.is_empty() {
                all.0.extend(
                    lab.client
                        .calls(Calls {
                            timeout,
                            ..Calls::new(transport, to, 10)
                        })?
                        .0,
                );
            }
            Ok(all)
        });
        let flooded = (|| -> Result<()> {
            let before = agent.counter("flow_created")?;
            while agent.counter("flow_created")? < before + flows {
                flood.send(SHOWER)?;
                ensure!(
                    flood.sent() < 20 * flows,
                    "{} packets made too few flows",
                    flood.sent()
                );
            }
            Ok(())
        })();
        is_over.store(true, Ordering::Relaxed);
        let outcomes = calling.join().map_err(|_| anyhow!("the caller panicked"))?;
        flooded?;
        outcomes
    })
}

/// Connections are made, all of them; a datagram may be lost in the queue of the backend's one socket, and is sent again
/// ([`a_flood_that_its_backend_keeps_up_with_loses_no_call`]). Nobody gets another's answer.
fn served(wave: Wave, outcomes: &Outcomes) -> bool {
    let answered = outcomes.answers().count();
    match wave {
        Wave::Syns => outcomes.all_answered(),
        Wave::Datagrams => {
            let lost = outcomes.count(&Outcome::Timeout);
            answered + lost == outcomes.0.len() && lost <= answered
        }
    }
}

#[test]
fn floods_break_no_flow_and_real_clients_are_served() -> Result<()> {
    let flows = flows_of_a_flood()?;
    let lab = scene(Some(SMALL))?;
    let mut standing = Standing::begin(&lab)?;
    let agent = lab.agent(1);
    let resident = agent.resident()?;
    for family in Family::BOTH {
        for wave in [Wave::Syns, Wave::Datagrams] {
            for node_port in [NEAR, FAR] {
                let to = at(family, node_port);
                let what = format!("{wave:?} at {to}");
                let outcomes = flood(&lab, wave, to, flows).with_context(|| what.clone())?;
                println!("{what}: real clients: {outcomes}");
                ensure!(served(wave, &outcomes), "{what}: {outcomes}");
                standing.check(&lab).context(what)?;
            }
        }
    }
    let grown = agent.resident()?.saturating_sub(resident);
    ensure!(grown <= GROWTH, "the agent grew by {grown} bytes");
    Ok(())
}

/// What else a flood of datagrams loses is lost in the queue of the backend's socket: where each shower fits into that, every
/// call between them is answered, with embryos pushed out and source ports used up all the time.
#[test]
fn a_flood_that_its_backend_keeps_up_with_loses_no_call() -> Result<()> {
    /// A queue of the usual 208 KiB has room for twice as many short datagrams.
    const SHOWER: u64 = 100;
    const SHOWERS: u64 = 400;
    let lab = scene(Some(SMALL))?;
    let full = || -> Result<u64> {
        let mut sum = 0;
        for pod in ["b", "c"] {
            for name in ["UdpRcvbufErrors", "Udp6RcvbufErrors"] {
                sum += lab.pod(pod).place.namespace().statistic(name)?;
            }
        }
        Ok(sum)
    };
    for family in Family::BOTH {
        for wave in [Wave::Syns, Wave::Datagrams] {
            for node_port in [NEAR, FAR] {
                let to = at(family, node_port);
                let what = format!("{wave:?} at {to}");
                let mut flood = Flood::open(&lab, wave, to)?;
                let transport = match wave {
                    Wave::Syns => Transport::Tcp,
                    Wave::Datagrams => Transport::Udp,
                };
                let before = full()?;
                for shower in 0..SHOWERS {
                    flood.send(SHOWER)?;
                    let outcomes = lab.client.calls(Calls {
                        timeout: PATIENCE,
                        ..Calls::new(transport, to, 1)
                    })?;
                    ensure!(
                        outcomes.all_answered(),
                        "{what}: after shower {shower}: {outcomes}"
                    );
                }
                ensure!(full()? == before, "{what}: the backend's queue was full");
            }
        }
    }
    Ok(())
}

/// More flows wait for their client than there are source ports towards one backend: a new client gets one nevertheless; of UDP, one
/// at which no answer is awaited any more.
#[test]
fn a_flood_does_not_use_the_source_ports_up() -> Result<()> {
    const FLOWS: u64 = 60_000;
    let lab = scene(Some("128Mi"))?;
    let counter = |name| lab.agent(1).counter(name);
    for family in Family::BOTH {
        for wave in [Wave::Syns, Wave::Datagrams] {
            let to = at(family, FAR);
            let what = format!("{wave:?} at {to}");
            let before = [
                counter("source_ports_exhausted")?,
                counter("source_port_reclaimed")?,
            ];
            let outcomes = flood(&lab, wave, to, FLOWS).with_context(|| what.clone())?;
            ensure!(served(wave, &outcomes), "{what}: meanwhile {outcomes}");
            // All ports are taken by flows that wait.
            let (transport, deadline) = match wave {
                Wave::Syns => (Transport::Tcp, Instant::now()),
                Wave::Datagrams => (Transport::Udp, Instant::now() + PATIENCE),
            };
            loop {
                let outcomes = lab.client.calls(Calls::new(transport, to, 100))?;
                if outcomes.all_answered() {
                    break;
                }
                ensure!(Instant::now() < deadline, "{what}: afterwards {outcomes}");
            }
            let [exhausted, reclaimed] = [
                counter("source_ports_exhausted")? - before[0],
                counter("source_port_reclaimed")? - before[1],
            ];
            println!("{what}: {exhausted} calls were dropped, {reclaimed} took another's port");
            ensure!(reclaimed > 0, "{what}: the ports were not used up");
            // One of the flood's own meets nothing but ports that another packet takes at this moment.
            ensure!(
                wave == Wave::Datagrams || exhausted * 100 < reclaimed,
                "{what}: {exhausted} calls were dropped, {reclaimed} took another's port"
            );
        }
    }
    Ok(())
}

/// A resolver's storm and TCP share no table.
#[test]
fn a_storm_of_datagrams_pushes_out_no_tcp_flow() -> Result<()> {
    let flows = flows_of_a_flood()?;
    let lab = scene(Some(SMALL))?;
    // A connection whose client has not answered yet is in TCP's table of embryos.
    let handshake = half_open(&lab)?;
    let mut standing = Standing::begin(&lab)?;
    for family in Family::BOTH {
        flood(&lab, Wave::Datagrams, at(family, NEAR), flows)?;
    }
    standing.check(&lab)?;
    ensure!(
        embryos(lab.agent(1), "tcp")?.is_superset(&handshake),
        "an embryo is gone"
    );
    ensure!(!handshake.is_empty(), "no handshake was begun");
    Ok(())
}

/// SYNs whose clients never answer: their entries.
fn half_open(lab: &Lab) -> Result<BTreeSet<String>> {
    for family in Family::BOTH {
        Flood::open(lab, Wave::Syns, at(family, NEAR))?.send(100)?;
    }
    embryos(lab.agent(1), "tcp")
}

fn embryos(agent: &Agent, protocol: &str) -> Result<BTreeSet<String>> {
    let flows = agent.ask("flows")?;
    let entries = flows.as_array().context("flows are no list")?.iter();
    let entries = entries.filter(|entry| entry["table"] == "embryo" && entry["protocol"] == protocol);
    Ok(entries
        .map(|entry| format!("{} {}", entry["source"], entry["destination"]))
        .collect())
}
