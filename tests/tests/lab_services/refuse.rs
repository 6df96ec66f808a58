//! A Service without endpoints refuses at once, whoever calls.

use lab::address::Family;
use lab::call::Transport;

use crate::cluster::{Cluster, Frontend, Kind};
use crate::expect::Call;
use crate::runner::Rows;

const WAYS: [(&str, Frontend); 10] = [
    ("a", Frontend::ClusterIp),
    ("a", Frontend::NodePort(1)),
    ("a", Frontend::NodePort(2)),
    ("a", Frontend::LoadBalancer),
    ("n1", Frontend::ClusterIp),
    ("n1", Frontend::NodePort(1)),
    ("n1", Frontend::Loopback),
    ("client", Frontend::NodePort(1)),
    ("client", Frontend::LoadBalancer),
    ("client", Frontend::ExternalIp),
];

/// A UDP socket hears of a refusal only if it is connected.
pub(crate) fn rows(cluster: &Cluster, rows: &mut Rows) {
    for ((from, at), family) in WAYS
        .into_iter()
        .flat_map(|way| Family::BOTH.map(|family| (way, family)))
    {
        for transport in [Transport::Tcp, Transport::ConnectedUdp] {
            let call = Call {
                from,
                to: Kind::None,
                at,
                family,
                transport,
            };
            rows.row(format!("refused {}", call.name()), || call.refused(cluster));
        }
    }
}
