//! Much data through each path, compared byte for byte; large datagrams, whole and in fragments.

use lab::address::Family;
use lab::call::Transport;

use crate::cluster::{Cluster, Frontend, Kind};
use crate::expect::Call;
use crate::runner::Rows;

/// There and back.
const BYTES: usize = 10_000_000;
/// A datagram that fills a packet over both families.
const FULL: usize = 1_400;
/// A datagram in fragments.
const FRAGMENTED: usize = 4_000;

const PATHS: [(&str, Frontend, Kind); 9] = [
    ("a", Frontend::ClusterIp, Kind::First),
    ("a", Frontend::ClusterIp, Kind::Second),
    ("a", Frontend::ClusterIp, Kind::Itself),
    ("a", Frontend::NodePort(2), Kind::First),
    ("n1", Frontend::ClusterIp, Kind::Second),
    ("client", Frontend::NodePort(1), Kind::First),
    ("client", Frontend::NodePort(1), Kind::Second),
    ("client", Frontend::LoadBalancer, Kind::First),
    ("client", Frontend::LoadBalancer, Kind::Second),
];

/// Each path over both families.
pub(crate) fn rows(cluster: &Cluster, rows: &mut Rows) {
    for ((from, at, to), family) in PATHS
        .into_iter()
        .flat_map(|path| Family::BOTH.map(|family| (path, family)))
    {
        let tcp = Call {
            from,
            to,
            at,
            family,
            transport: Transport::Tcp,
        };
        rows.row(format!("{BYTES} bytes {}", tcp.name()), || {
            cluster.lab.place(from)?.transfer(at.of(to, family), BYTES)
        });
        let udp = Call {
            transport: Transport::Udp,
            ..tcp
        };
        for size in [FULL, FRAGMENTED] {
            rows.row(format!("datagrams of {size} {}", udp.name()), || {
                udp.answered_whole(cluster, size)
            });
        }
    }
}
