//! Two uplinks, by real sockets: a client behind the second one, whom the first one does not lead to, calls addresses that
//! belong to neither.
//!
//! ```text
//! client ──eth0── network ── eth0── n1 ── pod b          the node's default route is by eth0
//!   └──── alt ─────────────── alt────┘ └─ n2 ── pod c
//! ```
//! The client calls from an address that the network does not know: an answer by eth0 is lost.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Transport};
use lab::events::Mark;
use lab::manifest::Service;
use lab::options::Xdp;
use lab::{ECHO_PORT, Lab, Namespace, Options};

/// The cable's ends.
const CLIENT: [&str; 2] = ["192.168.77.2", "fd00:77::2"];
const NODE: [&str; 2] = ["192.168.77.1", "fd00:77::1"];
/// The client's address behind it.
const BEHIND: [&str; 2] = ["192.168.78.2", "fd00:78::2"];
const NODE_PORT: u16 = 30_082;
const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::OneUdpSocket];
const CALLS: usize = 20;

/// What the node's second uplink has, as on many a node with two: a table of its own for packets from its address.
const BY_SOURCE: [&str; 4] = [
    "route add default via 192.168.77.2 table 77",
    "route add default via fd00:77::2 table 77",
    "rule add from 192.168.77.1 table 77",
    "rule add from fd00:77::1 table 77",
];

/// The network beyond the second uplink is known to the node.
const BY_DESTINATION: [&str; 2] = [
    "route add 192.168.78.0/24 via 192.168.77.2",
    "route add fd00:78::/64 via fd00:77::2",
];

/// What goes back by the second uplink is told by a mark of the connection, which it has from our mark. It stands in for
/// default routes alone: pods are where they are.
const BY_MARK: [&str; 6] = [
    "route add default via 192.168.77.2 table 77",
    "route add default via fd00:77::2 table 77",
    "rule add pref 100 fwmark 0x4d table main suppress_prefixlength 0",
    "rule add pref 101 fwmark 0x4d table 77",
    "-6 rule add pref 100 fwmark 0x4d table main suppress_prefixlength 0",
    "-6 rule add pref 101 fwmark 0x4d table 77",
];
const MARKING: &str = "
    table inet uplinks {
        chain prerouting {
            type filter hook prerouting priority mangle; policy accept;
            iifname \"alt\" meta mark & 0x80 == 0x80 ct mark set 0x4d meta mark set 0x4d
            iifname \"pod*\" ct mark 0x4d meta mark set 0x4d
        }
    }";

fn run(namespace: &Namespace, program: &str, arguments: &[&str]) -> Result<String> {
    let output = namespace.run(|| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .output()
            .with_context(|| format!("starting {program}"))
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Pods on both nodes, each behind a Service of its own, and the second cable. The load balancer's address is that of `c` on
/// the other node, the external one that of `b` on this one.
fn scene(options: Options, arguments: &[&str], ways: &[&str]) -> Result<Lab> {
    let mut lab = Lab::build(options)?;
    let [client, node] = [lab.client.namespace(), lab.host(1).namespace()].map(Clone::clone);
    node.ip(&[format!(
        "link add alt type veth peer name alt netns {}",
        client.name()
    )])?;
    for (namespace, own) in [(&node, NODE), (&client, CLIENT)] {
        namespace.ip(&[
            "link set alt up".to_owned(),
            format!("address add {}/24 dev alt", own[0]),
            format!("address add {}/64 dev alt nodad", own[1]),
        ])?;
        if !options.offloads {
            let all_off = "rx off tx off tso off gso off";
            let off: Vec<&str> = ["-K", "alt"].into_iter().chain(all_off.split(' ')).collect();
            run(namespace, "ethtool", &off)?;
        }
        // What XDP sends to it arrives.
        run(namespace, "ethtool", &["-K", "alt", "gro", "on"])?;
    }
    let frontends = [address::LOAD_BALANCER, address::EXTERNAL];
    let mut commands = vec![
        format!("address add {}/32 dev lo", BEHIND[0]),
        format!("address add {}/128 dev lo nodad", BEHIND[1]),
    ];
    for frontend in frontends {
        commands.push(format!("route add {} via {}", frontend.v4, NODE[0]));
        commands.push(format!("route add {} via {}", frontend.v6, NODE[1]));
    }
    client.ip(&commands)?;
    for way in ways {
        let words: Vec<&str> = way.split(' ').collect();
        // `rule` has no family of its own.
        let is_six = way.contains("fd00");
        let words = if is_six {
            [&["-6"], &words[..]].concat()
        } else {
            words
        };
        run(&node, "ip", &words)?;
    }
    lab.agent_mut(1).use_switches(arguments);
    lab.start_agents()?;
    lab.agent(1)
        .events()?
        .wait(Mark::START, "alt to be attached to", |event| {
            event.message() == "attached" && event.text("interface") == "alt"
        })?;
    lab.add_pod("b", 1)?;
    lab.add_pod("c", 2)?;
    let near = Service {
        external: Some(frontends[1]),
        ..Service::new("near", 1, 80, ECHO_PORT).over([lab.pod("b")])
    };
    let far = Service {
        load_balancer: Some(frontends[0]),
        ..Service::new("far", 2, 80, ECHO_PORT)
            .node_port(NODE_PORT)
            .over([lab.pod("c")])
    };
    lab.apply(&near)?;
    lab.apply(&far)?;
    Ok(lab)
}

fn behind(family: Family, addresses: [&str; 2]) -> Result<IpAddr> {
    let [four, six] = addresses;
    Ok(match family {
        Family::V4 => four.parse()?,
        Family::V6 => six.parse()?,
    })
}

/// Calls from behind the second cable.
fn calls(lab: &Lab, family: Family, to: SocketAddr, name: &str) -> Result<()> {
    for transport in TRANSPORTS {
        let outcomes = lab.client.calls(Calls {
            source: Some(behind(family, BEHIND)?),
            ..Calls::new(transport, to, CALLS)
        })?;
        let names = outcomes.by_name();
        ensure!(
            outcomes.all_answered() && names.len() == 1 && names.contains_key(name),
            "{transport} to {to}: {outcomes}"
        );
    }
    Ok(())
}

/// Packets that the node has sent by its second uplink.
fn sent(lab: &Lab) -> Result<u64> {
    let text = run(
        lab.host(1).namespace(),
        "ip",
        &["-j", "-s", "link", "show", "dev", "alt"],
    )?;
    let links: serde_json::Value = serde_json::from_str(&text).context("ip prints JSON")?;
    links[0]["stats64"]["tx"]["packets"]
        .as_u64()
        .context("ip shows no packets")
}

fn counted(lab: &Lab, name: &str) -> Result<u64> {
    let counters = lab.agent(1).ask("drops")?;
    let mut counters = counters.as_array().context("drops prints a list")?.iter();
    let found = counters.find(|counter| counter["name"] == name);
    found
        .and_then(|counter| counter["value"].as_u64())
        .with_context(|| format!("{name} is not among the counters"))
}

#[test]
fn answers_of_other_nodes_backends_leave_by_the_uplink_of_the_call() -> Result<()> {
    for xdp in [Xdp::Off, Xdp::Native] {
        let lab = scene(
            Options {
                xdp,
                offloads: xdp == Xdp::Off,
                ..Options::default()
            },
            &[],
            &BY_SOURCE,
        )?;
        for family in Family::BOTH {
            let before = sent(&lab)?;
            for to in [
                address::LOAD_BALANCER.at(family, 80),
                SocketAddr::new(behind(family, NODE)?, NODE_PORT),
            ] {
                calls(&lab, family, to, "c").with_context(|| lab.options().to_string())?;
            }
            let packets = sent(&lab)? - before;
            ensure!(packets >= 6 * CALLS as u64, "{family}: {packets} packets by alt");
        }
    }
    Ok(())
}

#[test]
fn xdp_sends_from_one_uplink_to_the_other() -> Result<()> {
    let lab = scene(
        Options {
            xdp: Xdp::Native,
            offloads: false,
            ..Options::default()
        },
        &[],
        &BY_DESTINATION,
    )?;
    for family in Family::BOTH {
        let before = counted(&lab, "xdp_forwarded")?;
        calls(&lab, family, address::LOAD_BALANCER.at(family, 80), "c")?;
        // A neighbour is asked for by the stack once in a while; all else is XDP's, calls by `alt` and answers by `eth0`.
        let packets = counted(&lab, "xdp_forwarded")? - before;
        ensure!(packets >= 6 * CALLS as u64, "{family}: {packets} packets by XDP");
    }
    Ok(())
}

#[test]
fn answers_of_this_nodes_backends_follow_the_mark() -> Result<()> {
    for (mark, is_answered) in [(&[][..], false), (&["--dnat-mark", "0x80"][..], true)] {
        let options = Options {
            strict: true,
            ..Options::default()
        };
        let lab = scene(options, mark, &BY_MARK)?;
        let node = lab.host(1).namespace();
        run(node, "nft", &[MARKING])?;
        // A router asks for its neighbour from its own address, and the filter of reverse paths would see another.
        lab.client.namespace().sysctl("ipv4/conf/all/arp_announce", "2")?;
        // A strict filter judges by the mark, too.
        node.sysctl("ipv4/conf/all/src_valid_mark", "1")?;
        for family in Family::BOTH {
            let to = address::EXTERNAL.at(family, 80);
            if is_answered {
                calls(&lab, family, to, "b")?;
            } else {
                let outcomes = lab.client.calls(Calls {
                    source: Some(behind(family, BEHIND)?),
                    ..Calls::new(Transport::Udp, to, 1)
                })?;
                ensure!(outcomes.answers().count() == 0, "without a mark: {outcomes}");
            }
        }
    }
    Ok(())
}
