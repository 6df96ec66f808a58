//! Shunt beside flannel: pods at a bridge, and a vxlan between the nodes for each family.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use lab::Place;
use lab::address::{CLIENT, Family};
use lab::cluster::echo::{Echo, Service, call, transfer};
use lab::cluster::{Cluster, Cni, Options, Proxy};

/// The interfaces of a node that lead to the other's pods.
fn tunnel(family: Family) -> &'static str {
    match family {
        Family::V4 => "flannel.1",
        Family::V6 => "flannel-v6.1",
    }
}

/// What `ip` says as JSON.
fn ip(place: &Place, arguments: &[&str]) -> Result<serde_json::Value> {
    let output = place.output("ip", &[&["-json"], arguments].concat())?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("ip {arguments:?} in {}", place.name()))
}

/// An interface's first address that is not its link's alone.
fn address_of(place: &Place, interface: &str, family: Family) -> Result<IpAddr> {
    let family = if family == Family::V4 { "-4" } else { "-6" };
    let said = ip(
        place,
        &[family, "address", "show", "dev", interface, "scope", "global"],
    )?;
    let address = said[0]["addr_info"][0]["local"].as_str();
    let address = address.with_context(|| format!("{interface} has no address: {said}"))?;
    address.parse().context("reading an address")
}

/// Every call is answered by the Service's pod, which sees `peer`.
fn call_as(from: &Place, to: std::net::SocketAddr, service: Service, peer: IpAddr) -> Result<()> {
    for answer in call(from, to, service)? {
        let seen = answer.peer.ip();
        ensure!(
            seen == peer,
            "{} at {to} is seen as {seen}, not {peer}",
            from.name()
        );
    }
    transfer(from, to)
}

#[test]
fn services_of_both_families_answer_beside_flannel() {
    let options = Options {
        cni: Cni::Flannel,
        ..Options::of(Proxy::Shunt)
    };
    let cluster = Cluster::start(options).unwrap();
    let echo = Echo::start(&cluster).unwrap();
    let host = cluster.host(1);
    for family in Family::BOTH {
        let uplink = tunnel(family);
        // By IPv6 it carries less than the pods' interfaces do: senders are told by errors.
        let carried = &ip(host, &["link", "show", "dev", uplink]).unwrap()[0]["mtu"];
        assert!(carried.as_u64() < Some(1500), "{carried}");
        let pod = address_of(&echo.client, "eth0", family).unwrap();
        for service in Service::BOTH {
            let frontend = service.at_cluster(&cluster, family).unwrap();
            call_as(&echo.client, frontend, service, pod).unwrap();
            call(host, frontend, service).unwrap();
            transfer(host, frontend).unwrap();
            // A pod of its own through the bridge that both ends are at.
            let own = &echo.pods[usize::from(service.0) - 1];
            call(own, frontend, service).unwrap();
        }
        // The first node's own pod sees the client, the other's sees the end of the tunnel.
        let [local, remote] = Service::BOTH;
        call_as(&echo.outside, local.at_node(1, family), local, CLIENT.of(family)).unwrap();
        let node = address_of(host, uplink, family).unwrap();
        call_as(&echo.outside, remote.at_node(1, family), remote, node).unwrap();
    }
}
