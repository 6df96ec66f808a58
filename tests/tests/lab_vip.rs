//! The addresses of Services beside their ports: ping, ports that no Service has, addresses that no Service has; with real
//! sockets, from pods, from the host and from outside.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Transport};
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Options};

const UNKNOWN: u16 = 81;
/// No Service of the test has it.
const NOBODYS: u8 = 99;
const SERVICE_CIDR: &str = "apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16, 'fd00:96::/112']}
";

#[test]
fn services_have_manners_at_their_addresses() -> Result<()> {
    let mut lab = Lab::start(Options::default())?;
    lab.add_pod("a", 1)?;
    lab.add_pod("c", 2)?;
    let mut service = Service::new("polite", 1, 80, ECHO_PORT).over([lab.pod("c")]);
    service.load_balancer = Some(address::LOAD_BALANCER);
    lab.apply(&service)?;
    for node in [1, 2] {
        lab.agent(node).apply("cidr.yaml", SERVICE_CIDR)?;
    }
    let empty = Service {
        endpoints: Vec::new(),
        ..service.clone()
    };
    for family in Family::BOTH {
        ping(&lab, family, true)?;
        unknown_ports(&lab, family)?;
        nobodys(&lab, family)?;
    }
    lab.apply(&empty)?;
    for family in Family::BOTH {
        ping(&lab, family, false)?;
        unknown_ports(&lab, family)?;
    }
    Ok(())
}

/// Who can reach an address of the Service at all.
fn callers(family: Family) -> [(&'static str, IpAddr); 5] {
    let (cluster, balancer) = (address::cluster(1).of(family), address::LOAD_BALANCER.of(family));
    [
        ("a", cluster),
        ("n1", cluster),
        ("a", balancer),
        ("n1", balancer),
        ("client", balancer),
    ]
}

fn ping(lab: &Lab, family: Family, has_endpoints: bool) -> Result<()> {
    for (caller, address) in callers(family) {
        // One that fits, and one in three pieces. Where nobody answers, one is enough.
        let sizes: &[&str] = if has_endpoints { &["56", "3000"] } else { &["56"] };
        for size in sizes {
            let address = address.to_string();
            let arguments = ["-n", "-c", "1", "-W", "1", "-s", size, &address];
            let output = lab.place(caller)?.output("ping", &arguments)?;
            let is_answered = output.status.success();
            ensure!(
                is_answered == has_endpoints,
                "{caller} pings {address} with {size} bytes: {}",
                String::from_utf8_lossy(&output.stdout)
            );
        }
    }
    Ok(())
}

fn unknown_ports(lab: &Lab, family: Family) -> Result<()> {
    let at = address::cluster(1).at(family, UNKNOWN);
    for caller in ["a", "n1"] {
        for transport in [Transport::Tcp, Transport::ConnectedUdp] {
            let outcomes = lab.place(caller)?.calls(Calls::new(transport, at, 3))?;
            ensure!(
                outcomes.all_refused(),
                "{caller} -> {at} by {transport}: {outcomes:?}"
            );
        }
    }
    Ok(())
}

fn nobodys(lab: &Lab, family: Family) -> Result<()> {
    let at: SocketAddr = address::cluster(NOBODYS).at(family, 80);
    for caller in ["a", "n1"] {
        let before = counter(lab, "unallocated_address")?;
        let outcomes = lab
            .place(caller)?
            .calls(Calls::new(Transport::ConnectedUdp, at, 1))?;
        ensure!(
            !outcomes.all_answered() && !outcomes.all_refused(),
            "{caller} -> {at}: {outcomes:?}"
        );
        let after = counter(lab, "unallocated_address")?;
        ensure!(after > before, "{caller} -> {at}: nothing was dropped");
    }
    Ok(())
}

fn counter(lab: &Lab, name: &str) -> Result<u64> {
    let drops = lab.agent(1).ask("drops")?;
    let mut rows = drops.as_array().context("drops are no list")?.iter();
    let row = rows.find(|row| row["name"] == name);
    let value = row.and_then(|row| row["value"].as_u64());
    value.with_context(|| format!("no count of {name} in {drops}"))
}
