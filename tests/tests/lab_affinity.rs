//! Session affinity knows a pod by one name, whether socket LB chooses or its packets are looked at: the ClusterIP is socket
//! LB's, the load balancer's address with source ranges is for packets alone.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Transport};
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Options};

const PORT: u16 = 80;
const BACKENDS: [(&str, u8); 3] = [("b", 1), ("c", 2), ("d", 2)];
/// Pods that call there first. Where each frontend has a record of its own, that all of them keep their backend is one case in
/// 3^12.
const CALLERS: [(&str, Way); 6] = [
    ("s1", Way::ClusterIp),
    ("s2", Way::ClusterIp),
    ("m1", Way::MappedClusterIp),
    ("p1", Way::LoadBalancer),
    ("p2", Way::LoadBalancer),
    ("p3", Way::LoadBalancer),
];
/// Calls at a frontend.
const TIMES: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By socket LB.
    ClusterIp,
    /// The same by an IPv6 socket that calls the IPv4 address, if there is one.
    MappedClusterIp,
    /// By packets.
    LoadBalancer,
}

impl Way {
    fn to(self, family: Family) -> SocketAddr {
        let to = match self {
            Self::ClusterIp | Self::MappedClusterIp => address::cluster(1).at(family, PORT),
            Self::LoadBalancer => address::LOAD_BALANCER.at(family, PORT),
        };
        match (self, to.ip()) {
            (Self::MappedClusterIp, IpAddr::V4(four)) => SocketAddr::new(four.to_ipv6_mapped().into(), PORT),
            _ => to,
        }
    }
}

#[test]
fn a_pods_sockets_and_packets_share_a_record() -> Result<()> {
    let mut lab = Lab::start(Options::default())?;
    for (name, node) in BACKENDS {
        lab.add_pod(name, node)?;
    }
    for (name, _) in CALLERS {
        lab.add_pod(name, 1)?;
    }
    let mut service =
        Service::new("sticky", 1, PORT, ECHO_PORT).over(BACKENDS.map(|(name, _)| lab.pod(name)));
    service.affinity = 3600;
    service.load_balancer = Some(address::LOAD_BALANCER);
    let pods = address::pod_networks(1);
    service.source_ranges = pods.iter().map(ToString::to_string).collect();
    lab.apply(&service)?;
    for family in Family::BOTH {
        for (caller, first) in CALLERS {
            one_backend(&lab, caller, first, family)
                .with_context(|| format!("{family} {caller}, {first:?} first"))?;
        }
    }
    Ok(())
}

fn one_backend(lab: &Lab, caller: &str, first: Way, family: Family) -> Result<()> {
    let second = match first {
        Way::LoadBalancer => Way::ClusterIp,
        Way::ClusterIp | Way::MappedClusterIp => Way::LoadBalancer,
    };
    let mut kept = None;
    for (row, way) in [first, second, first, second].into_iter().enumerate() {
        let before = Counters::read(lab)?;
        let calls = Calls::new(Transport::Tcp, way.to(family), TIMES);
        let outcomes = lab.place(caller)?.calls(calls)?;
        ensure!(outcomes.all_answered(), "{way:?}: {outcomes}");
        let names = outcomes.by_name();
        let name = names.keys().next().context("nobody answered")?;
        let expected = kept.get_or_insert_with(|| (*name).to_owned());
        ensure!(
            names.len() == 1 && name == expected,
            "{way:?}: {outcomes}, {expected} was kept"
        );
        // A network namespace is known from its first connection on, which goes by packets.
        let by_packets = match (way, row) {
            (Way::LoadBalancer, _) => TIMES as u64,
            (_, 0) => 1,
            _ => 0,
        };
        let after = Counters::read(lab)?;
        let seen = (after.flows - before.flows, after.sockets - before.sockets);
        ensure!(
            seen == (by_packets, TIMES as u64 - by_packets),
            "{way:?}: {} by packets and {} by socket LB",
            seen.0,
            seen.1
        );
    }
    Ok(())
}

/// What the callers' node has counted.
struct Counters {
    flows: u64,
    sockets: u64,
}

impl Counters {
    fn read(lab: &Lab) -> Result<Self> {
        let all = lab.agent(1).ask("drops")?;
        let count = |name: &str| -> Result<u64> {
            let rows = all.as_array().context("shunt drops -o json prints no list")?;
            let row = rows.iter().find(|row| row["name"] == name);
            let value = row.and_then(|row| row["value"].as_u64());
            value.with_context(|| format!("no count of {name} in {all}"))
        };
        Ok(Self {
            flows: count("flow_created")?,
            sockets: count("socket_translated")?,
        })
    }
}
