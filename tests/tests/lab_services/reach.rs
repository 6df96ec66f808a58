//! Everyone reaches Services at all frontends, and both sides see the addresses that they should.

use std::time::Duration;

use anyhow::ensure;
use lab::ECHO_PORT;
use lab::address::Family;
use lab::call::{Calls, Transport};

use crate::cluster::{Cluster, Frontend, Kind};
use crate::expect::{Call, Peer};
use crate::runner::Rows;

const TRANSPORTS: [Transport; 4] = [
    Transport::Tcp,
    Transport::Udp,
    Transport::ConnectedUdp,
    Transport::OneUdpSocket,
];

/// A caller, a frontend, a Service, and whom its pods see.
type Way = (&'static str, Frontend, Kind, Peer);

const FROM_PODS: [Way; 14] = [
    ("a", Frontend::ClusterIp, Kind::Both, Peer::Caller),
    ("a", Frontend::ClusterIp, Kind::First, Peer::Caller),
    ("a", Frontend::ClusterIp, Kind::Second, Peer::Caller),
    ("d", Frontend::ClusterIp, Kind::Both, Peer::Caller),
    ("a", Frontend::NodePort(1), Kind::Both, Peer::Caller),
    ("a", Frontend::NodePort(1), Kind::First, Peer::Caller),
    ("a", Frontend::NodePort(1), Kind::Second, Peer::Caller),
    ("a", Frontend::NodePort(2), Kind::First, Peer::Any),
    ("a", Frontend::NodePort(2), Kind::Second, Peer::Any),
    ("a", Frontend::LoadBalancer, Kind::First, Peer::Caller),
    ("a", Frontend::LoadBalancer, Kind::Second, Peer::Caller),
    ("d", Frontend::LoadBalancer, Kind::Both, Peer::Caller),
    ("a", Frontend::ExternalIp, Kind::First, Peer::Caller),
    ("a", Frontend::ExternalIp, Kind::Second, Peer::Caller),
];

/// A pod that reaches itself through its Service.
const HAIRPIN: [Way; 5] = [
    ("a", Frontend::ClusterIp, Kind::Itself, Peer::Any),
    ("a", Frontend::NodePort(1), Kind::Itself, Peer::Any),
    ("a", Frontend::NodePort(2), Kind::Itself, Peer::Any),
    ("a", Frontend::LoadBalancer, Kind::Itself, Peer::Any),
    ("a", Frontend::ExternalIp, Kind::Itself, Peer::Any),
];

const FROM_HOSTS: [Way; 13] = [
    ("n1", Frontend::ClusterIp, Kind::Both, Peer::Any),
    ("n1", Frontend::ClusterIp, Kind::First, Peer::Caller),
    ("n1", Frontend::ClusterIp, Kind::Second, Peer::Caller),
    ("n2", Frontend::ClusterIp, Kind::Both, Peer::Any),
    ("n1", Frontend::NodePort(1), Kind::First, Peer::Any),
    ("n1", Frontend::NodePort(1), Kind::Second, Peer::Any),
    ("n1", Frontend::NodePort(2), Kind::First, Peer::Any),
    ("n1", Frontend::NodePort(2), Kind::Second, Peer::Any),
    ("n1", Frontend::Loopback, Kind::First, Peer::Any),
    ("n1", Frontend::Loopback, Kind::Second, Peer::Any),
    ("n1", Frontend::LoadBalancer, Kind::Both, Peer::Any),
    ("n1", Frontend::ExternalIp, Kind::First, Peer::Any),
    ("n1", Frontend::ExternalIp, Kind::Second, Peer::Any),
];

/// Load balancer and externalIP are routed to n1.
const FROM_OUTSIDE: [Way; 11] = [
    ("client", Frontend::NodePort(1), Kind::First, Peer::Caller),
    ("client", Frontend::NodePort(1), Kind::Second, Peer::Snat(1)),
    ("client", Frontend::NodePort(1), Kind::Both, Peer::Any),
    ("client", Frontend::NodePort(2), Kind::First, Peer::Snat(2)),
    ("client", Frontend::NodePort(2), Kind::Second, Peer::Caller),
    ("client", Frontend::LoadBalancer, Kind::First, Peer::Caller),
    ("client", Frontend::LoadBalancer, Kind::Second, Peer::Snat(1)),
    ("client", Frontend::LoadBalancer, Kind::Both, Peer::Any),
    ("client", Frontend::ExternalIp, Kind::First, Peer::Caller),
    ("client", Frontend::ExternalIp, Kind::Second, Peer::Snat(1)),
    ("client", Frontend::ExternalIp, Kind::Both, Peer::Any),
];

/// All ways by all transports over both families.
pub(crate) fn rows(cluster: &Cluster, rows: &mut Rows) {
    for way in FROM_PODS
        .iter()
        .chain(&FROM_OUTSIDE)
        .chain(&FROM_HOSTS)
        .chain(&HAIRPIN)
    {
        let (from, at, to, peer) = *way;
        for (family, transport) in combinations() {
            let call = Call {
                from,
                to,
                at,
                family,
                transport,
            };
            rows.row(call.name(), || call.answered(cluster, peer));
        }
    }
    mapped(cluster, rows);
    direct(cluster, rows);
    port_again(cluster, rows);
}

/// IPv6 sockets that call IPv4 frontends, as dual-stack programs do.
fn mapped(cluster: &Cluster, rows: &mut Rows) {
    let ways = [
        ("a", Frontend::ClusterIp, Kind::First),
        ("a", Frontend::ClusterIp, Kind::Second),
        ("n1", Frontend::ClusterIp, Kind::Second),
        ("n1", Frontend::Loopback, Kind::First),
        ("client", Frontend::NodePort(1), Kind::Second),
    ];
    for ((from, at, to), transport) in ways
        .into_iter()
        .flat_map(|way| TRANSPORTS.map(|transport| (way, transport)))
    {
        let call = Call {
            from,
            to,
            at,
            family: Family::V4,
            transport,
        };
        rows.row(format!("mapped {}", call.name()), || {
            call.answered_mapped(cluster)
        });
    }
}

/// Pods at their own addresses, though they are endpoints: nobody's address is changed.
fn direct(cluster: &Cluster, rows: &mut Rows) {
    for (from, to) in [
        ("a", "b"),
        ("a", "c"),
        ("d", "b"),
        ("n1", "b"),
        ("n1", "c"),
        ("client", "b"),
        ("client", "c"),
    ] {
        for (family, transport) in combinations() {
            rows.row(format!("{family} {transport} {from}->{to} itself"), || {
                let target = cluster.lab.pod(to).address.at(family, ECHO_PORT);
                let calls = Calls {
                    source_port: cluster.ports(3),
                    ..Calls::new(transport, target, 3)
                };
                let outcomes = cluster.lab.place(from)?.calls(calls)?;
                ensure!(
                    outcomes.all_answered() && outcomes.by_name().contains_key(to),
                    "{outcomes}"
                );
                for answer in outcomes.answers() {
                    ensure!(answer.from == target, "the caller sees {}", answer.from);
                    ensure!(
                        answer.peer.port() == answer.own.port(),
                        "the pod sees {}",
                        answer.peer
                    );
                }
                Ok(())
            });
        }
    }
}

/// A client's kernel gives a port away again once its connection is over, be it to the same pod by another way.
fn port_again(cluster: &Cluster, rows: &mut Rows) {
    for family in Family::BOTH {
        rows.row(
            format!("{family} tcp n1's port is used again for the pod itself"),
            || {
                let source_port = cluster.ports(1);
                for at in [Frontend::NodePort(2), Frontend::ClusterIp, Frontend::NodePort(2)] {
                    // The pod may not have closed its side yet: then the second SYN gets through.
                    let timeout = Duration::from_secs(5);
                    let calls = Calls {
                        timeout,
                        ..Calls::new(Transport::Tcp, at.of(Kind::Second, family), 1)
                    };
                    let outcomes = cluster.lab.place("n1")?.calls(Calls { source_port, ..calls })?;
                    ensure!(outcomes.all_answered(), "{at}: {outcomes}");
                }
                Ok(())
            },
        );
    }
}

fn combinations() -> impl Iterator<Item = (Family, Transport)> {
    Family::BOTH
        .into_iter()
        .flat_map(|family| TRANSPORTS.map(|transport| (family, transport)))
}
