//! `--host-routing fast` by real sockets: the node's stack sees neither direction of what goes around it, and both of all else.
//!
//! ```text
//! client ──► eth0 [from_network] ──────► pod near        network ──► pod far, on node 2
//! client ◄── eth0 ◄────── [from_pod] pod near            caller ──► [from_pod] ──► eth0
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Transport, has_sctp};
use lab::manifest::{Port, Service};
use lab::options::{Attach, SocketLb, Style, Xdp};
use lab::{ECHO_PORT, Lab, Options, Place};

const NODE_PORT: u16 = 30_083;
const CALLS: usize = 20;
/// There and back at the same time, each byte compared.
const BYTES: usize = 10_000_000;
const FAST: [&str; 2] = ["--host-routing", "fast"];

fn transports() -> Vec<Transport> {
    let mut all = vec![Transport::Tcp, Transport::Udp, Transport::OneUdpSocket];
    if has_sctp() {
        all.push(Transport::Sctp);
    }
    all
}

/// Where pods of node 1 call by packets: node 1 with a pod that calls and, for a Service, one that is called there or on node 2.
fn scene(options: Options, switches: &[&str], node: u8) -> Result<(Lab, Service)> {
    let mut lab = Lab::build(Options {
        socket_lb: SocketLb::HostOnly,
        ..options
    })?;
    count_forwarded(&lab)?;
    lab.agent_mut(1).use_switches(switches);
    lab.start_agents()?;
    lab.add_pod("caller", 1)?;
    lab.add_pod("called", node)?;
    let mut service = Service {
        load_balancer: Some(address::LOAD_BALANCER),
        ..Service::new("called", 1, 80, ECHO_PORT)
    };
    service.ports.push(Port {
        name: "sctp".to_owned(),
        protocol: "SCTP",
        port: 80,
        target: ECHO_PORT,
        node_port: 0,
    });
    let service = service.node_port(NODE_PORT).over([lab.pod("called")]);
    lab.apply(&service)?;
    Ok((lab, service))
}

/// Counts what node 1 forwards to the pods' port and from it, before anything can drop it.
fn count_forwarded(lab: &Lab) -> Result<()> {
    let rules = format!(
        "table inet seen {{
            counter calls {{}}
            counter answers {{}}
            chain forward {{
                type filter hook forward priority -300; policy accept;
                meta l4proto {{ tcp, udp, sctp }} th dport {ECHO_PORT} counter name calls
                meta l4proto {{ tcp, udp, sctp }} th sport {ECHO_PORT} counter name answers
            }}
        }}"
    );
    nft(lab.host(1), &rules)
}

fn nft(place: &Place, rules: &str) -> Result<()> {
    let output = place.output("nft", &[rules])?;
    ensure!(output.status.success(), "{rules}: {output:?}");
    Ok(())
}

/// How many calls and answers node 1 has forwarded through its stack so far.
fn forwarded(lab: &Lab) -> Result<(u64, u64)> {
    let output = lab.host(1).output("nft", &["-j", "list", "counters"])?;
    ensure!(output.status.success(), "{output:?}");
    let listed: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("reading what nft says")?;
    let packets = |name: &str| {
        let all = listed["nftables"].as_array()?.iter();
        let mut counters = all.filter_map(|entry| entry.get("counter"));
        counters.find(|counter| counter["name"] == name)?["packets"].as_u64()
    };
    packets("calls").zip(packets("answers")).context("no counters")
}

fn frontends(service: &Service, family: Family, is_outside: bool) -> Vec<SocketAddr> {
    let mut all = vec![
        address::node(1).at(family, NODE_PORT),
        address::LOAD_BALANCER.at(family, 80),
    ];
    if !is_outside {
        all.push(service.cluster.at(family, 80));
    }
    all
}

/// What a way of forwarding must show of some calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Neither,
    Both,
}

fn check(lab: &Lab, what: &str, before: (u64, u64), least: usize, seen: Seen) -> Result<()> {
    let after = forwarded(lab)?;
    let (calls, answers) = (after.0 - before.0, after.1 - before.1);
    match seen {
        Seen::Neither => ensure!(
            (calls, answers) == (0, 0),
            "{what}: the stack saw {calls} packets of calls and {answers} of answers"
        ),
        Seen::Both => ensure!(
            calls >= least as u64 && answers >= least as u64,
            "{what}: the stack saw {calls} packets of calls and {answers} of answers of {least} calls"
        ),
    }
    Ok(())
}

/// Calls of all transports and bulk data, from a place.
fn calls(lab: &Lab, service: &Service, from: &Place, seen: Seen) -> Result<()> {
    let is_outside = from.name() == lab.client.name();
    for family in Family::BOTH {
        for to in frontends(service, family, is_outside) {
            for transport in transports() {
                let what = format!("{transport} from {} to {to}", from.name());
                let before = forwarded(lab)?;
                let outcomes = from.calls(Calls::new(transport, to, CALLS))?;
                ensure!(outcomes.all_answered(), "{what}: {outcomes}");
                for answer in outcomes.answers() {
                    ensure!(answer.from == to, "{what}: answered from {}", answer.from);
                    if is_outside {
                        let own = address::CLIENT.at(family, answer.own.port());
                        ensure!(answer.peer == own, "{what}: the backend saw {}", answer.peer);
                    }
                }
                check(lab, &what, before, CALLS, seen)?;
            }
            let what = format!("bulk data from {} to {to}", from.name());
            let before = forwarded(lab)?;
            from.transfer(to, BYTES).with_context(|| what.clone())?;
            check(lab, &what, before, 1, seen)?;
        }
    }
    Ok(())
}

fn no_drops(lab: &Lab) -> Result<()> {
    for name in ["no_route", "rewrite_failed", "flow_table_refused", "hop_limit"] {
        let count = lab.agent(1).counter(name)?;
        ensure!(count == 0, "{count} {name}");
    }
    Ok(())
}

fn around_the_stack(options: Options) -> Result<()> {
    let (lab, service) = scene(options, &FAST, 1)?;
    calls(&lab, &service, &lab.client, Seen::Neither).with_context(|| options.to_string())?;
    calls(&lab, &service, &lab.pod("caller").place, Seen::Neither).with_context(|| options.to_string())?;
    no_drops(&lab)
}

#[test]
fn a_pod_of_this_node_is_reached_around_the_stack() -> Result<()> {
    around_the_stack(Options::default())
}

#[test]
fn a_pod_at_a_bridge_is_reached_around_the_stack() -> Result<()> {
    around_the_stack(Options {
        style: Style::Bridge,
        strict: true,
        ..Options::default()
    })
}

#[test]
fn a_pod_of_a_strict_node_is_reached_around_the_stack_without_offloads() -> Result<()> {
    around_the_stack(Options {
        strict: true,
        offloads: false,
        attach: Attach::Clsact,
        ..Options::default()
    })
}

#[test]
fn a_pod_is_reached_around_the_stack_where_xdp_is() -> Result<()> {
    around_the_stack(Options {
        xdp: Xdp::Native,
        ..Options::default()
    })
}

/// Of another node, where a pod calls: what leaves and what comes back passes node 1's stack neither way. What comes from outside
/// goes on in the node's name, as ever.
fn to_another_node(options: Options) -> Result<()> {
    let networks = [address::pod_networks(1), address::pod_networks(2)]
        .concat()
        .join(",");
    let switches = [&FAST[..], &["--pod-networks", &networks]].concat();
    let (lab, service) = scene(options, &switches, 2)?;
    calls(&lab, &service, &lab.pod("caller").place, Seen::Neither).with_context(|| options.to_string())?;
    for family in Family::BOTH {
        let to = address::LOAD_BALANCER.at(family, 80);
        let outcomes = lab.client.calls(Calls::new(Transport::Tcp, to, CALLS))?;
        ensure!(outcomes.all_answered(), "from outside: {outcomes}");
    }
    no_drops(&lab)
}

#[test]
fn a_pod_of_another_node_is_reached_around_the_stack() -> Result<()> {
    to_another_node(Options {
        strict: true,
        ..Options::default()
    })
}

#[test]
fn a_pod_behind_a_tunnel_is_reached_around_the_stack() -> Result<()> {
    to_another_node(Options {
        tunnel: true,
        ..Options::default()
    })
}

/// An endpoint that nobody said is a pod: the pods' network may masquerade on the way there.
#[test]
fn an_endpoint_that_may_be_no_pod_is_reached_through_the_stack() -> Result<()> {
    let (lab, service) = scene(Options::default(), &FAST, 2)?;
    calls(&lab, &service, &lab.pod("caller").place, Seen::Both)
}

/// What the counters show where nothing goes around it.
#[test]
fn without_the_switch_the_stack_sees_both_directions() -> Result<()> {
    let (lab, service) = scene(Options::default(), &[], 1)?;
    calls(&lab, &service, &lab.client, Seen::Both)?;
    calls(&lab, &service, &lab.pod("caller").place, Seen::Both)
}

/// Connections keep their way, whatever the switch says later.
#[test]
fn the_switch_is_turned_with_connections_standing() -> Result<()> {
    let strict = Options {
        strict: true,
        ..Options::default()
    };
    let (mut lab, service) = scene(strict, &[], 1)?;
    let pause = Duration::from_millis(10);
    let hold = |lab: &Lab| -> Result<Vec<_>> {
        let mut held = Vec::new();
        for family in Family::BOTH {
            for place in [&lab.client, &lab.pod("caller").place] {
                for to in frontends(&service, family, true) {
                    held.push(lab::call::hold(place, to, pause)?);
                }
            }
        }
        Ok(held)
    };
    let mut through = hold(&lab)?;
    lab.agent_mut(1).use_switches(&FAST);
    lab.agent_mut(1).stop()?;
    lab.agent_mut(1).start()?;
    let mut around = hold(&lab)?;
    for held in through.iter_mut().chain(&mut around) {
        held.check()?;
    }
    lab.agent_mut(1).use_switches(&[]);
    lab.agent_mut(1).kill()?;
    for held in through.iter_mut().chain(&mut around) {
        held.check()?;
    }
    lab.agent_mut(1).start()?;
    for held in through.iter_mut().chain(&mut around) {
        held.check()?;
    }
    // Of the two ways, each has its own connections.
    drop(through);
    let before = forwarded(&lab)?;
    for held in &mut around {
        held.check()?;
    }
    check(
        &lab,
        "connections that began around the stack",
        before,
        0,
        Seen::Neither,
    )?;
    calls(&lab, &service, &lab.client, Seen::Both)
}

fn host_routing(lab: &Lab) -> Result<(String, String)> {
    let checks = lab.agent(1).doctor()?;
    let all = checks.as_array().context("the doctor gives no list")?;
    let line = all.iter().find(|check| check["name"] == "host routing");
    let line = line.context("the doctor has no line of host routing")?;
    Ok((line["state"].to_string(), line["found"].to_string()))
}

/// Chains that stand there refuse it; ones that come later end it for new flows.
#[test]
fn a_policy_engine_keeps_flows_in_the_stack() -> Result<()> {
    let (mut lab, service) = scene(
        Options::default(),
        &[&FAST[..], &["--hook-check-period", "1s"]].concat(),
        1,
    )?;
    let (_, found) = host_routing(&lab)?;
    ensure!(found.contains("fast: new flows go around"), "{found}");
    let pause = Duration::from_millis(10);
    let to = frontends(&service, Family::V4, true)[0];
    let mut held = lab::call::hold(&lab.client, to, pause)?;
    let mark = lab.agent(1).mark();
    nft(
        lab.host(1),
        "add table ip filter; add chain ip filter KUBE-POD-FW-67NZLRHBNDSAWJRO",
    )?;
    let refused = |lab: &Lab, mark| {
        lab.agent(1).events()?.wait(mark, "the refusal", |event| {
            event.message().contains("--host-routing fast is refused")
        })
    };
    let event = refused(&lab, mark)?;
    let reason = event.text("reason");
    ensure!(
        reason.contains("kube-router") && reason.contains("KUBE-POD-FW-67NZLRHBNDSAWJRO"),
        "{reason}"
    );
    held.check()?;
    let before = forwarded(&lab)?;
    let outcomes = lab.client.calls(Calls::new(Transport::Tcp, to, CALLS))?;
    ensure!(outcomes.all_answered(), "{outcomes}");
    check(&lab, "with an engine", before, CALLS, Seen::Both)?;
    // The same where it stood before.
    lab.agent_mut(1).stop()?;
    lab.agent_mut(1).start()?;
    refused(&lab, lab::events::Mark::START)?;
    held.check()?;
    let (result, found) = host_routing(&lab)?;
    ensure!(
        result.contains("warn") && found.contains("kube-router") && found.contains("fast is wanted"),
        "{result}: {found}"
    );
    let before = forwarded(&lab)?;
    let outcomes = lab.client.calls(Calls::new(Transport::Tcp, to, CALLS))?;
    ensure!(outcomes.all_answered(), "{outcomes}");
    check(&lab, "with an engine at the start", before, CALLS, Seen::Both)?;
    // It goes, and new flows go around again.
    let mark = lab.agent(1).mark();
    nft(lab.host(1), "delete table ip filter")?;
    lab.agent(1).events()?.wait(mark, "the way around", |event| {
        event.message().contains("new flows go around")
    })?;
    let before = forwarded(&lab)?;
    let outcomes = lab.client.calls(Calls::new(Transport::Tcp, to, CALLS))?;
    ensure!(outcomes.all_answered(), "{outcomes}");
    drop(held);
    check(&lab, "without the engine", before, 0, Seen::Neither)
}
