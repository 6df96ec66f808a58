//! Maps that Services have filled grow under traffic: no connection breaks, no agent restarts, every Service is served.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Held, Transport, hold};
use lab::events::Event;
use lab::manifest::Service;
use lab::options::{Attach, SocketLb};
use lab::{ECHO_PORT, Lab, Options};

/// The smallest maps that there are.
const SWITCHES: [&str; 2] = [
    "--map-entries",
    "services=64,frontends=64,backends=64,slots=64,source-ranges=64",
];
/// Each takes four service ports, and as many frontends a family as it has.
const SERVICES: u8 = 40;
const NODE_PORT: u16 = 30_081;
const PAUSE: Duration = Duration::from_millis(2);

#[test]
fn services_that_fill_the_maps_are_served_and_connections_live_on() -> Result<()> {
    for attach in [Attach::Tcx, Attach::Clsact] {
        grown(attach).with_context(|| format!("{attach:?}"))?;
    }
    Ok(())
}

fn grown(attach: Attach) -> Result<()> {
    let mut lab = Lab::build(Options {
        attach,
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    })?;
    for node in [1, 2] {
        lab.agent_mut(node).use_switches(&SWITCHES);
    }
    lab.start_agents()?;
    for (name, node) in [("a", 1), ("b", 1), ("c", 2)] {
        lab.add_pod(name, node)?;
    }
    let first = Service::new("first", 1, 80, ECHO_PORT).node_port(NODE_PORT);
    lab.apply(&first.over(["b", "c"].map(|name| lab.pod(name))))?;
    let mut held = held(&lab)?;
    let mark = lab.agent(1).mark();
    for number in 2..=SERVICES {
        let service = Service::new(&format!("s{number}"), number, 80, ECHO_PORT);
        lab.apply(&service.over([lab.pod("b")]))?;
    }
    for number in 1..=SERVICES {
        for family in Family::BOTH {
            let to = address::cluster(number).at(family, 80);
            for transport in [Transport::Tcp, Transport::Udp] {
                served(&lab, transport, to).with_context(|| format!("Service {number}, {family}"))?;
            }
        }
    }
    for (name, one) in &mut held {
        one.check().with_context(|| name.clone())?;
    }
    let resized = lab.agent(1).events()?.since(mark);
    let resized = resized
        .iter()
        .filter(|event| event.message() == "the map has another size");
    let names: Vec<&str> = resized.map(|event: &Event| event.text("map")).collect();
    for map in ["SERVICES", "IDENTITY", "BACKENDS", "LOADS", "SLOTS"] {
        ensure!(names.contains(&map), "{map} has not grown: {names:?}");
    }
    ensure!(!names.contains(&"TCP_FLOWS4"), "flows were moved: {names:?}");
    Ok(())
}

/// Tries until its Service is there: an agent asks for room when a Service has found none twice.
fn served(lab: &Lab, transport: Transport, to: std::net::SocketAddr) -> Result<()> {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let outcomes = lab.place("a")?.calls(Calls::new(transport, to, 1))?;
        if outcomes.all_answered() {
            return Ok(());
        }
        ensure!(
            std::time::Instant::now() < deadline,
            "{transport} to {to}: {outcomes}"
        );
    }
}

fn held(lab: &Lab) -> Result<Vec<(String, Held)>> {
    let mut all = Vec::new();
    for family in Family::BOTH {
        for (from, to) in [
            ("client", address::node(1).at(family, NODE_PORT)),
            ("a", address::cluster(1).at(family, 80)),
        ] {
            for _ in 0..4 {
                all.push((format!("{from} to {to}"), hold(lab.place(from)?, to, PAUSE)?));
            }
        }
    }
    Ok(all)
}
