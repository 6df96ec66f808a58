//! Nodes, pods and clients that have one family alone.

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Transport};
use lab::manifest::Service;
use lab::options::SocketLb;
use lab::{ECHO_PORT, Lab, Options, Place};

const NODE_PORT: u16 = 30_080;

#[test]
fn nodes_with_ipv4_alone_serve_it() -> Result<()> {
    one_family(Family::V4)
}

#[test]
fn nodes_with_ipv6_alone_serve_it() -> Result<()> {
    one_family(Family::V6)
}

fn one_family(family: Family) -> Result<()> {
    for socket_lb in [SocketLb::Enabled, SocketLb::HostOnly] {
        let options = Options {
            socket_lb,
            ..Options::default()
        };
        let mut lab = Lab::start(options)?;
        lab.add_pod("a", 1)?;
        lab.add_pod("c", 2)?;
        leave(&lab, family)?;
        // From here on the agents know a node of one family.
        for node in [1, 2] {
            lab.agent_mut(node).stop()?;
            lab.agent_mut(node).start()?;
        }
        let service = Service::new("web", 1, 80, ECHO_PORT)
            .node_port(NODE_PORT)
            .over([lab.pod("a"), lab.pod("c")]);
        lab.apply(&service)?;
        calls(&lab, &service, family).with_context(|| format!("{family} alone, socket LB {socket_lb:?}"))?;
        health(&lab, family)?;
    }
    Ok(())
}

/// Takes the other family away wherever there is one.
fn leave(lab: &Lab, family: Family) -> Result<()> {
    let pods = lab
        .pods()
        .map(|pod| lab.place(pod.name()))
        .collect::<Result<Vec<_>>>()?;
    let places = [lab.host(1), lab.host(2), &lab.client].into_iter().chain(pods);
    for place in places {
        match family {
            Family::V4 => succeed(
                place,
                "sh",
                &["-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"],
            )?,
            Family::V6 => succeed(place, "ip", &["-4", "address", "flush", "scope", "global"])?,
        };
        let other = match family {
            Family::V4 => "-6",
            Family::V6 => "-4",
        };
        let left = succeed(place, "ip", &[other, "-o", "address", "show", "scope", "global"])?;
        ensure!(left.is_empty(), "{}: {left}", place.name());
    }
    Ok(())
}

fn calls(lab: &Lab, service: &Service, family: Family) -> Result<()> {
    for transport in [Transport::Tcp, Transport::Udp] {
        let cluster = service.cluster.at(family, 80);
        let node_port = address::node(1).at(family, NODE_PORT);
        for (place, to) in [
            (lab.place("a")?, cluster),
            (lab.place("c")?, cluster),
            (lab.host(1), cluster),
            (&lab.client, node_port),
        ] {
            let outcomes = place.calls(Calls::new(transport, to, 20))?;
            let names = outcomes.by_name();
            ensure!(
                outcomes.all_answered() && names.len() == 2,
                "{transport} from {} to {to}: {outcomes}",
                place.name()
            );
        }
    }
    Ok(())
}

/// As a load balancer asks.
fn health(lab: &Lab, family: Family) -> Result<()> {
    let address = address::node(2).of(family);
    let ask = format!(
        "exec 3<>/dev/tcp/{address}/10256 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
    );
    let answer = succeed(&lab.client, "bash", &["-c", &ask])?;
    ensure!(answer.starts_with("HTTP/1.0 200 "), "{address}: {answer}");
    Ok(())
}

fn succeed(place: &Place, program: &str, arguments: &[&str]) -> Result<String> {
    let output = place.output(program, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {arguments:?} in {}: {said}",
        place.name()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
