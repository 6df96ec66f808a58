//! Path MTU end to end: a hop of 1,400 bytes in the middle, between the client and the nodes, which both have more. TCP marks
//! its packets not to be fragmented; whoever sends too much is told by the hop, through the Service's translation.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::manifest::Service;
use lab::options::SocketLb;
use lab::{ECHO_PORT, Lab, Options, Place};

const MTU: u32 = 1400;
/// There and back at the same time, each byte compared.
const BYTES: usize = 10_000_000;
const LOCAL_PORT: u16 = 30_081;
const REMOTE_PORT: u16 = 30_082;

#[test]
fn ten_megabytes_arrive_through_a_narrow_hop() -> Result<()> {
    the_hop_is_learnt(Options::default())
}

#[test]
fn ten_megabytes_arrive_on_strict_nodes_without_offloads() -> Result<()> {
    the_hop_is_learnt(Options {
        strict: true,
        offloads: false,
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    })
}

fn the_hop_is_learnt(options: Options) -> Result<()> {
    let mut lab = Lab::start(options)?;
    let pods = [("near", 1, LOCAL_PORT), ("far", 2, REMOTE_PORT)];
    let mut ways: Vec<(&str, Family, SocketAddr)> = Vec::new();
    for ((name, node, port), number) in pods.into_iter().zip(1..) {
        lab.add_pod(name, node)?;
        let mut service = Service::new(name, number, port, ECHO_PORT)
            .node_port(port)
            .over([lab.pod(name)]);
        service.load_balancer = Some(address::LOAD_BALANCER);
        lab.apply(&service)?;
        for family in Family::BOTH {
            for frontend in [address::node(1), address::LOAD_BALANCER] {
                ways.push((name, family, frontend.at(family, port)));
            }
        }
    }
    narrow_the_network(&lab)?;
    for (pod, family, to) in ways {
        whole(&lab, pod, family, to).with_context(|| format!("{options}, {family}: {to}, {pod}"))?;
    }
    Ok(())
}

/// Towards the nodes and towards the client the network has bridges of 1,400 bytes, whose ports keep 1,500: a port of 1,400
/// would lose what comes in and is larger, in silence.
fn narrow_the_network(lab: &Lab) -> Result<()> {
    let gateway = address::CLIENT_GATEWAY;
    lab.network().ip(&[
        format!("link set nodes mtu {MTU}"),
        "link add middle type bridge forward_delay 0".to_owned(),
        "address flush dev client scope global".to_owned(),
        "link set client master middle up".to_owned(),
        format!("address add {}/24 dev middle", gateway.v4),
        format!("address add {}/64 dev middle nodad", gateway.v6),
        format!("link set middle mtu {MTU} up"),
    ])
}

/// Both ends begin without knowledge, are told, and lose nothing.
fn whole(lab: &Lab, pod: &str, family: Family, to: SocketAddr) -> Result<()> {
    let ends = [&lab.client, lab.place(pod)?];
    for end in ends {
        forget(end, family)?;
    }
    let before = told(ends, family)?;
    lab.client.transfer(to, BYTES)?;
    let after = told(ends, family)?;
    for (place, (before, after)) in ends.iter().zip(before.into_iter().zip(after)) {
        ensure!(
            after > before,
            "{} was never told of the narrow hop: it was not narrow",
            place.name()
        );
    }
    let fragments = lab.network().statistic("IpFragCreates")?;
    ensure!(
        fragments == 0,
        "the hop made {fragments} fragments: not all packets said not to"
    );
    Ok(())
}

/// What was learnt of ways stays for minutes.
fn forget(place: &Place, family: Family) -> Result<()> {
    let option = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    let output = place.output("ip", &[option, "route", "flush", "cache"])?;
    ensure!(output.status.success(), "{}: {output:?}", place.name());
    Ok(())
}

/// How many packets each end has heard of that were too big.
fn told(ends: [&Place; 2], family: Family) -> Result<[u64; 2]> {
    let name = match family {
        Family::V4 => "IcmpInDestUnreachs",
        Family::V6 => "Icmp6InPktTooBigs",
    };
    let [client, pod] = ends.map(|place| place.namespace().statistic(name));
    Ok([client?, pod?])
}
