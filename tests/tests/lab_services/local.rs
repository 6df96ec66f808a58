//! Traffic policies Local: only pods of the node that the traffic reached.

use lab::address::Family;
use lab::call::Transport;
use lab::options::SocketLb;

use crate::cluster::{Cluster, Frontend, Kind};
use crate::expect::{Call, Peer};
use crate::runner::Rows;

/// Their pod is on n1.
pub(crate) fn rows(cluster: &Cluster, rows: &mut Rows) {
    for (family, transport) in Family::BOTH
        .into_iter()
        .flat_map(|family| [Transport::Tcp, Transport::Udp].map(|transport| (family, transport)))
    {
        let call = |from, to, at| Call {
            from,
            to,
            at,
            family,
            transport,
        };
        for at in [
            Frontend::NodePort(1),
            Frontend::LoadBalancer,
            Frontend::ExternalIp,
        ] {
            let call = call("client", Kind::ExternalLocal, at);
            rows.row(call.name(), || call.answered(cluster, Peer::Caller));
        }
        let elsewhere = call("client", Kind::ExternalLocal, Frontend::NodePort(2));
        rows.row(format!("dropped {}", elsewhere.name()), || {
            elsewhere.dropped(cluster)
        });
        // Pods and hosts of a node without an endpoint are not from outside: they get the cluster's endpoints.
        for (from, at) in [
            ("d", Frontend::NodePort(2)),
            ("d", Frontend::LoadBalancer),
            ("n2", Frontend::NodePort(2)),
        ] {
            let call = call(from, Kind::ExternalLocal, at);
            rows.row(call.name(), || call.answered(cluster, Peer::Any));
        }
        for from in ["a", "n1"] {
            let call = call(from, Kind::InternalLocal, Frontend::ClusterIp);
            rows.row(call.name(), || call.answered(cluster, Peer::Caller));
        }
        let elsewhere = call("d", Kind::InternalLocal, Frontend::ClusterIp);
        let by_socket = cluster.lab.options().socket_lb == SocketLb::Enabled && transport == Transport::Tcp;
        if by_socket {
            // At the system call there is nothing to drop: the call is refused.
            rows.row(format!("refused {}", elsewhere.name()), || {
                elsewhere.refused(cluster)
            });
        } else {
            rows.row(format!("dropped {}", elsewhere.name()), || {
                elsewhere.dropped(cluster)
            });
        }
    }
}
