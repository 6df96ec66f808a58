//! ICMP errors that connections and datagrams through a Service need: of narrow ways behind the node, of backends that
//! do not listen, and of ways that end.

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Outcome, Outcomes, Transport};
use lab::manifest::Service;
use lab::options::{SocketLb, Style};
use lab::{ECHO_PORT, Lab, Options, Place};

const REMOTE_PORT: u16 = 30_080;
const LOCAL_PORT: u16 = 30_081;
const CLOSED: u16 = 9_999;
const MTU: u32 = 1300;
const BYTES: usize = 500_000;

/// Pods go by packets, so that there is something to translate.
fn configurations() -> [Options; 3] {
    let plain = Options {
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    };
    [
        plain,
        Options {
            strict: true,
            offloads: false,
            ..plain
        },
        Options {
            style: Style::Bridge,
            strict: true,
            ..plain
        },
    ]
}

/// `a` and `b` on the first node, `c` on the second; Services over `b` and over `c` whose pods' port is `target`.
fn scene(options: Options, target: u16) -> Result<(Lab, Service, Service)> {
    let mut lab = Lab::start(options)?;
    for (name, node) in [("a", 1), ("b", 1), ("c", 2)] {
        lab.add_pod(name, node)?;
    }
    let near = Service::new("near", 1, 80, target)
        .node_port(LOCAL_PORT)
        .over([lab.pod("b")]);
    let far = Service::new("far", 2, 80, target)
        .node_port(REMOTE_PORT)
        .over([lab.pod("c")]);
    lab.apply(&near)?;
    lab.apply(&far)?;
    Ok((lab, near, far))
}

/// Errors that the first node has translated.
fn translated(lab: &Lab) -> Result<u64> {
    let drops = lab.agent(1).ask("drops")?;
    let rows = drops.as_array().context("drops are no list")?;
    let row = rows
        .iter()
        .find(|row| row["name"] == "error_translated")
        .with_context(|| format!("no counter error_translated in {drops}"))?;
    row["value"]
        .as_u64()
        .with_context(|| format!("no count in {row}"))
}

/// A transfer which an ICMP error must come through for.
fn needs_an_error(lab: &Lab, from: &Place, to: std::net::SocketAddr) -> Result<()> {
    let before = translated(lab)?;
    from.transfer(to, BYTES)?;
    ensure!(
        translated(lab)? > before,
        "{} to {to}: no error was translated: the way was not narrow",
        from.name()
    );
    Ok(())
}

#[test]
fn a_narrow_way_behind_the_other_node_is_learnt_through_a_service() -> Result<()> {
    for options in configurations() {
        let (lab, _, far) = scene(options, ECHO_PORT)?;
        let pod = lab.pod("c");
        let device = match options.style {
            Style::Routed => pod.interface.as_str(),
            Style::Bridge => "pods",
        };
        lab.host(2).namespace().ip(&[
            format!("route replace {}/32 dev {device} mtu lock {MTU}", pod.address.v4),
            format!("route replace {}/128 dev {device} mtu lock {MTU}", pod.address.v6),
        ])?;
        for family in Family::BOTH {
            let node_port = address::node(1).at(family, REMOTE_PORT);
            needs_an_error(&lab, &lab.client, node_port)
                .with_context(|| format!("{options}: the client, {family}"))?;
            needs_an_error(&lab, &lab.pod("a").place, far.cluster.at(family, 80))
                .with_context(|| format!("{options}: a pod, {family}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_narrow_way_to_the_client_is_learnt_by_backends() -> Result<()> {
    for options in configurations() {
        let (lab, ..) = scene(options, ECHO_PORT)?;
        lab.network().ip(&[
            format!(
                "route replace {}/32 dev client mtu lock {MTU}",
                address::CLIENT.v4
            ),
            format!(
                "route replace {}/128 dev client mtu lock {MTU}",
                address::CLIENT.v6
            ),
        ])?;
        for family in Family::BOTH {
            // Each has a backend of its own to learn it.
            for port in [LOCAL_PORT, REMOTE_PORT] {
                needs_an_error(&lab, &lab.client, address::node(1).at(family, port))
                    .with_context(|| format!("{options}, {family}, port {port}"))?;
            }
        }
    }
    Ok(())
}

fn datagrams(from: &Place, to: std::net::SocketAddr, hop_limit: u8) -> Result<Outcomes> {
    from.calls(Calls {
        hop_limit,
        timeout: std::time::Duration::from_secs(5),
        timeouts: 1,
        ..Calls::new(Transport::ConnectedUdp, to, 2)
    })
}

#[test]
fn a_datagram_to_a_closed_port_is_refused_through_a_service() -> Result<()> {
    for options in configurations() {
        let (lab, near, far) = scene(options, CLOSED)?;
        for family in Family::BOTH {
            let node = address::node(1);
            for (from, to) in [
                (&lab.client, node.at(family, LOCAL_PORT)),
                (&lab.client, node.at(family, REMOTE_PORT)),
                (&lab.pod("a").place, near.cluster.at(family, 80)),
                (&lab.pod("a").place, far.cluster.at(family, 80)),
                // A pod that reaches itself.
                (&lab.pod("b").place, near.cluster.at(family, 80)),
                (lab.host(1), node.at(family, REMOTE_PORT)),
            ] {
                let outcomes = datagrams(from, to, 0)?;
                ensure!(
                    outcomes.all_refused(),
                    "{options}: {} to {to}: {outcomes}",
                    from.name()
                );
            }
        }
    }
    Ok(())
}

/// What traceroute sees: each hop says that the way ends there, and the last one answers.
#[test]
fn a_way_that_ends_is_told_through_a_service() -> Result<()> {
    for options in configurations() {
        let (lab, near, far) = scene(options, ECHO_PORT)?;
        for family in Family::BOTH {
            let node = address::node(1);
            for (from, to, hops) in [
                // The network, the nodes, the pod.
                (&lab.client, node.at(family, LOCAL_PORT), 3),
                (&lab.client, node.at(family, REMOTE_PORT), 4),
                (&lab.pod("a").place, far.cluster.at(family, 80), 3),
            ] {
                for hop_limit in 1..=hops {
                    let outcomes = datagrams(from, to, hop_limit)?;
                    let is_right = if hop_limit == hops {
                        outcomes.all_answered()
                    } else {
                        outcomes.count(&Outcome::Unreachable) == outcomes.0.len()
                    };
                    ensure!(
                        is_right,
                        "{options}: {} to {to} with {hop_limit} of {hops} hops: {outcomes}",
                        from.name()
                    );
                }
            }
            ensure!(datagrams(&lab.pod("a").place, near.cluster.at(family, 80), 0)?.all_answered());
        }
    }
    Ok(())
}

/// Pods leave checksums to hardware, and the answer goes out of an interface that has none: nothing may be left to be
/// finished in it.
#[test]
fn a_refusal_is_whole_where_the_way_back_has_no_offloads() -> Result<()> {
    let [options, ..] = configurations();
    let mut lab = Lab::start(options)?;
    let pod = lab.add_pod("a", 1)?.interface.clone();
    let service = Service::new("none", 1, 80, ECHO_PORT);
    lab.apply(&service)?;
    lab.host(1).namespace().run(|| {
        let mut command = std::process::Command::new("ethtool");
        let status = command.args(["-K", &pod, "tx", "off"]).status();
        ensure!(
            status.context("starting ethtool")?.success(),
            "ethtool -K {pod} tx off"
        );
        Ok(())
    })?;
    for family in Family::BOTH {
        for transport in [Transport::Tcp, Transport::ConnectedUdp] {
            let to = service.cluster.at(family, 80);
            let outcomes = lab.pod("a").place.calls(Calls {
                timeouts: 1,
                timeout: std::time::Duration::from_secs(5),
                ..Calls::new(transport, to, 2)
            })?;
            ensure!(outcomes.all_refused(), "{transport} to {to}: {outcomes}");
        }
    }
    Ok(())
}
