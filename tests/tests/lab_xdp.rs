//! XDP at the nodes' uplinks, by real sockets: calls from outside to a backend elsewhere, with XDP on and off and switched
//! under a connection, and with another's program in the way.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::EbpfLoader;
use aya::programs::xdp::{Xdp as XdpProgram, XdpMode};
use lab::address::{self, Family};
use lab::call::{Calls, Transport, hold};
use lab::manifest::Service;
use lab::options::Xdp;
use lab::{ECHO_PORT, Lab, Options};

const NODE_PORT: u16 = 30_082;
/// Backends on both nodes.
const BOTH_PORT: u16 = 30_083;
const BULK: usize = 10_000_000;

/// A Service over `c` on the second node, called at the first.
fn scene(options: Options) -> Result<Lab> {
    let mut lab = Lab::start(options)?;
    lab.add_pod("b", 1)?;
    lab.add_pod("c", 2)?;
    let far = Service::new("far", 1, 80, ECHO_PORT).node_port(NODE_PORT);
    lab.apply(&far.over([lab.pod("c")]))?;
    let both = Service::new("both", 2, 80, ECHO_PORT).node_port(BOTH_PORT);
    lab.apply(&both.over([lab.pod("b"), lab.pod("c")]))?;
    Ok(lab)
}

/// How many packets XDP of the first node has sent on.
fn forwarded(lab: &Lab) -> Result<u64> {
    let counters = lab.agent(1).ask("drops")?;
    let counters = counters.as_array().context("drops prints a list")?;
    let found = counters.iter().find(|counter| counter["name"] == "xdp_forwarded");
    found
        .and_then(|counter| counter["value"].as_u64())
        .context("xdp_forwarded is not among the counters")
}

/// What the doctor says of XDP on the first node.
fn doctor(lab: &Lab) -> Result<String> {
    let checks = lab.agent(1).doctor()?;
    let checks = checks.as_array().context("doctor prints a list")?.iter();
    let mut found = checks.filter(|check| check["name"] == "xdp");
    let check = found.next().context("the doctor says nothing of XDP")?;
    Ok(check["found"].as_str().unwrap_or_default().to_owned())
}

fn calls(lab: &Lab) -> Result<()> {
    for family in Family::BOTH {
        for transport in [Transport::Tcp, Transport::Udp, Transport::OneUdpSocket] {
            for (port, names) in [(NODE_PORT, 1), (BOTH_PORT, 2)] {
                let to = address::node(1).at(family, port);
                let outcomes = lab.client.calls(Calls::new(transport, to, 30))?;
                ensure!(outcomes.all_answered(), "{transport} to {to}: {outcomes}");
                let seen = outcomes.by_name().len();
                // One socket to one Service stays with one backend.
                let names = if transport == Transport::OneUdpSocket {
                    1
                } else {
                    names
                };
                ensure!(seen == names, "{transport} to {to}: {outcomes}");
            }
        }
    }
    Ok(())
}

fn transfers(lab: &Lab) -> Result<()> {
    for family in Family::BOTH {
        for to in [
            address::node(1).at(family, NODE_PORT),
            address::node(1).at(family, BOTH_PORT),
        ] {
            lab.client.transfer(to, BULK)?;
        }
    }
    Ok(())
}

/// With offloads on, what the client sends has no checksum yet, and goes by TC.
#[test]
fn calls_and_transfers_reach_a_remote_backend_with_xdp_on_and_off() -> Result<()> {
    for (xdp, offloads, takes_part) in [
        (Xdp::Native, false, true),
        (Xdp::Native, true, false),
        (Xdp::Generic, false, true),
        (Xdp::Auto, false, false),
        (Xdp::Off, false, false),
    ] {
        let lab = scene(Options {
            xdp,
            offloads,
            ..Options::default()
        })?;
        let said = doctor(&lab)?;
        let expected = match xdp {
            Xdp::Native => "eth0: native",
            Xdp::Generic => "eth0: generic",
            Xdp::Auto => "eth0: TC only: a veth",
            Xdp::Off => "eth0: TC only: switched off",
        };
        ensure!(said.starts_with(expected), "{}: {said}", lab.options());
        calls(&lab).with_context(|| lab.options().to_string())?;
        transfers(&lab).with_context(|| lab.options().to_string())?;
        let packets = forwarded(&lab)?;
        println!("{}: {packets} packets by XDP", lab.options());
        if takes_part {
            // Far more than half of the packets of the transfers to `far` alone.
            ensure!(
                packets > 10_000,
                "{}: XDP sent only {packets} packets",
                lab.options()
            );
        } else if xdp != Xdp::Native {
            ensure!(packets == 0, "{}: {packets}", lab.options());
        }
    }
    Ok(())
}

#[test]
fn a_connection_lives_through_restarts_and_through_switching() -> Result<()> {
    let mut lab = scene(Options {
        xdp: Xdp::Native,
        offloads: false,
        ..Options::default()
    })?;
    let mut held = Vec::new();
    for family in Family::BOTH {
        let to = address::node(1).at(family, NODE_PORT);
        held.push(hold(&lab.client, to, Duration::from_millis(1))?);
    }
    for (xdp, takes_part) in [
        (Xdp::Native, true),
        (Xdp::Off, false),
        (Xdp::Native, true),
        (Xdp::Generic, true),
        (Xdp::Off, false),
    ] {
        let agent = lab.agent_mut(1);
        agent.kill()?;
        agent.use_xdp(xdp);
        agent.start()?;
        let before = forwarded(&lab)?;
        for held in &mut held {
            let mut lives = || -> Result<()> {
                let first = held.check()?.lines;
                while held.check()?.lines < first + 50 {}
                Ok(())
            };
            let counters = || lab.agent(1).ask("drops").map(|counters| counters.to_string());
            lives_or(lives(), counters).with_context(|| format!("with --xdp {}", xdp.argument()))?;
        }
        let packets = forwarded(&lab)? - before;
        ensure!((packets >= 50) == takes_part, "{xdp:?}: {packets} packets by XDP");
    }
    for family in Family::BOTH {
        let to = address::node(1).at(family, NODE_PORT);
        let outcomes = lab.client.calls(Calls::new(Transport::Tcp, to, 20))?;
        ensure!(outcomes.all_answered(), "{to}: {outcomes}");
    }
    Ok(())
}

/// An error tells what was counted.
fn lives_or(result: Result<()>, counters: impl FnOnce() -> Result<String>) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(counters()?)),
    }
}

/// Whether an XDP program is on the first node's uplink, and its id.
fn attached(lab: &Lab) -> Result<Option<u64>> {
    let output = lab.host(1).namespace().run(|| {
        let mut command = std::process::Command::new("ip");
        command.args(["-j", "link", "show", "dev", "eth0"]);
        command.output().context("starting ip")
    })?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).context("ip prints JSON")?;
    Ok(links[0]["xdp"]["prog"]["id"].as_u64())
}

#[test]
fn anothers_program_is_named_and_left_alone() -> Result<()> {
    let options = Options {
        xdp: Xdp::Native,
        offloads: false,
        ..Options::default()
    };
    let mut lab = Lab::build(options)?;
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/testing.o");
    let bytes = std::fs::read(&object)
        .with_context(|| format!("reading {}: run `cargo xtask build-ebpf`", object.display()))?;
    let mut ebpf = EbpfLoader::new().load(&bytes)?;
    let program: &mut XdpProgram = ebpf
        .program_mut("xdp_empty")
        .context("no xdp_empty")?
        .try_into()?;
    program.load()?;
    let link = lab
        .host(1)
        .namespace()
        .run(|| Ok(program.attach("eth0", XdpMode::Driver)?))?;
    let other = attached(&lab)?.context("the other's program is not there")?;
    lab.start_agents()?;
    lab.add_pod("c", 2)?;
    let far = Service::new("far", 1, 80, ECHO_PORT).node_port(NODE_PORT);
    lab.apply(&far.over([lab.pod("c")]))?;
    let said = doctor(&lab)?;
    ensure!(said.contains("another XDP program"), "{said}");
    let to = address::node(1).at(Family::V4, NODE_PORT);
    let outcomes = lab.client.calls(Calls::new(Transport::Tcp, to, 10))?;
    ensure!(outcomes.all_answered(), "{outcomes}");
    ensure!(attached(&lab)? == Some(other), "the other's program is gone");
    // Once it is gone, the next look attaches ours: an event of the interface is one.
    let mark = lab.agent(1).mark();
    lab.host(1).namespace().run(|| Ok(program.detach(link)?))?;
    lab.host(1)
        .namespace()
        .ip(&["link set eth0 txqueuelen 999".to_owned()])?;
    lab.agent(1).events()?.wait(mark, "XDP to be attached", |event| {
        event.message() == "XDP is attached"
    })?;
    ensure!(doctor(&lab)?.starts_with("eth0: native"));
    let ours = attached(&lab)?.context("no XDP program is attached")?;
    ensure!(ours != other, "the other's program is back");
    let outcomes = lab.client.calls(Calls::new(Transport::Tcp, to, 10))?;
    ensure!(outcomes.all_answered(), "{outcomes}");
    ensure!(forwarded(&lab)? > 0, "XDP takes no part");
    // And cleanup takes it away.
    lab.agent_mut(1).stop()?;
    ensure!(
        attached(&lab)? == Some(ours),
        "an agent that ends leaves everything attached"
    );
    lab.agent(1).clean_up()?;
    ensure!(attached(&lab)?.is_none(), "cleanup left XDP behind");
    Ok(())
}
