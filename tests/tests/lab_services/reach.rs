//! Everyone reaches Services at all frontends, and both sides see the addresses that they should.

use lab::address::Family;
use lab::call::Transport;

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
const HAIRPIN: [Way; 3] = [
    ("a", Frontend::ClusterIp, Kind::Itself, Peer::Any),
    ("a", Frontend::NodePort(1), Kind::Itself, Peer::Any),
    ("a", Frontend::LoadBalancer, Kind::Itself, Peer::Any),
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
}

fn combinations() -> impl Iterator<Item = (Family, Transport)> {
    Family::BOTH
        .into_iter()
        .flat_map(|family| TRANSPORTS.map(|transport| (family, transport)))
}
