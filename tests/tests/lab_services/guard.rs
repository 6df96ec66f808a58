//! loadBalancerSourceRanges: who is in a range is served at the load balancer's address, and nobody else; the other
//! frontends are open to everyone.

use lab::address::Family;
use lab::call::Transport;

use crate::cluster::{Cluster, Frontend, Kind};
use crate::expect::{Call, Peer};
use crate::runner::Rows;

/// The client, pod a and node n1 are in the ranges.
pub(crate) fn rows(cluster: &Cluster, rows: &mut Rows) {
    for (family, transport) in Family::BOTH
        .into_iter()
        .flat_map(|family| [Transport::Tcp, Transport::Udp].map(|transport| (family, transport)))
    {
        let call = |from, at| Call {
            from,
            to: Kind::Guarded,
            at,
            family,
            transport,
        };
        for (from, at) in [
            ("client", Frontend::LoadBalancer),
            ("a", Frontend::LoadBalancer),
            ("n1", Frontend::LoadBalancer),
            ("b", Frontend::ClusterIp),
            ("b", Frontend::NodePort(1)),
            ("d", Frontend::ExternalIp),
            ("n2", Frontend::ClusterIp),
        ] {
            let call = call(from, at);
            rows.row(format!("guarded {}", call.name()), || {
                call.answered(cluster, Peer::Any)
            });
        }
        for from in ["b", "d"] {
            let call = call(from, Frontend::LoadBalancer);
            rows.row(format!("guarded dropped {}", call.name()), || {
                call.dropped(cluster)
            });
        }
        // At the system call there is nothing to drop: the call is refused.
        let call = call("n2", Frontend::LoadBalancer);
        rows.row(format!("guarded refused {}", call.name()), || {
            call.refused(cluster)
        });
    }
}
