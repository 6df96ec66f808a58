//! Session affinity: a caller keeps its pod, at every frontend, for as long as said and the pod serves.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::address::Family;
use lab::call::Transport;

use crate::cluster::{Cluster, Frontend, Kind, STICKY};
use crate::expect::Call;
use crate::runner::Rows;

/// Enough to see another pod, if there is no affinity: the odds against are 3^-19.
const CALLS: usize = 20;

const WAYS: [(&str, Frontend); 6] = [
    ("a", Frontend::ClusterIp),
    ("a", Frontend::NodePort(1)),
    ("n1", Frontend::ClusterIp),
    ("n1", Frontend::Loopback),
    ("client", Frontend::NodePort(1)),
    ("client", Frontend::LoadBalancer),
];

pub(crate) fn rows(cluster: &Cluster, rows: &mut Rows) {
    for family in Family::BOTH {
        for transport in [Transport::Tcp, Transport::Udp, Transport::ConnectedUdp] {
            for (from, at) in WAYS {
                let call = sticky(from, at, family, transport);
                rows.row(format!("affinity {}", call.name()), || {
                    call.kept(cluster).map(drop)
                });
            }
        }
    }
    for (family, transport) in combinations() {
        rows.row(
            format!("affinity is one for all frontends {family} {transport}"),
            || one_for_all_frontends(cluster, family, transport),
        );
    }
    rows.row("affinity ends when its pod goes, and stays with the next", || {
        everywhere(|call| call.outlived(cluster))?;
        cluster.lab.apply(&cluster.service(Kind::Sticky, STICKY))
    });
    rows.row("affinity is switched off and on", || switched(cluster));
    rows.row("affinity ends with its time", || expires(cluster));
}

fn sticky(from: &'static str, at: Frontend, family: Family, transport: Transport) -> Call<'static> {
    Call {
        from,
        to: Kind::Sticky,
        at,
        family,
        transport,
    }
}

fn combinations() -> impl Iterator<Item = (Family, Transport)> {
    Family::BOTH
        .into_iter()
        .flat_map(|family| [Transport::Tcp, Transport::Udp].map(|transport| (family, transport)))
}

/// A pod, a host and a client, over both families and transports.
fn everywhere(mut check: impl FnMut(Call<'static>) -> Result<()>) -> Result<()> {
    for (family, transport) in combinations() {
        for (from, at) in [WAYS[0], WAYS[2], WAYS[4]] {
            let call = sticky(from, at, family, transport);
            check(call).with_context(|| call.name())?;
        }
    }
    Ok(())
}

impl Call<'_> {
    /// The pods that answer so many calls.
    fn answering(&self, cluster: &Cluster, times: usize) -> Result<Vec<String>> {
        let outcomes = cluster.lab.place(self.from)?.calls(self.calls(cluster, times))?;
        ensure!(outcomes.all_answered(), "{outcomes}");
        Ok(outcomes.by_name().into_keys().map(str::to_owned).collect())
    }

    /// The one pod that answers all calls.
    fn kept(&self, cluster: &Cluster) -> Result<String> {
        match &self.answering(cluster, CALLS)?[..] {
            [one] => Ok(one.clone()),
            several => bail!("{several:?} answer"),
        }
    }

    /// Another pod is kept once the first has gone, also when that comes back.
    fn outlived(&self, cluster: &Cluster) -> Result<()> {
        cluster.lab.apply(&cluster.service(Kind::Sticky, STICKY))?;
        let first = self.kept(cluster)?;
        let rest: Vec<_> = STICKY.iter().copied().filter(|pod| *pod != first).collect();
        cluster.lab.apply(&cluster.service(Kind::Sticky, &rest))?;
        let second = self.kept(cluster)?;
        ensure!(second != first, "{first} still answers");
        cluster.lab.apply(&cluster.service(Kind::Sticky, STICKY))?;
        let third = self.kept(cluster)?;
        ensure!(third == second, "{second} was kept, now {third} is");
        Ok(())
    }
}

fn one_for_all_frontends(cluster: &Cluster, family: Family, transport: Transport) -> Result<()> {
    for (from, frontends) in [
        (
            "a",
            [Frontend::ClusterIp, Frontend::NodePort(1), Frontend::LoadBalancer],
        ),
        (
            "n1",
            [Frontend::ClusterIp, Frontend::Loopback, Frontend::ExternalIp],
        ),
        (
            "client",
            [
                Frontend::NodePort(1),
                Frontend::LoadBalancer,
                Frontend::ExternalIp,
            ],
        ),
    ] {
        let kept = frontends.map(|at| sticky(from, at, family, transport).kept(cluster));
        let [first, second, third] = kept;
        let (first, second, third) = (first?, second?, third?);
        ensure!(
            first == second && second == third,
            "{from}: {first}, {second}, {third}"
        );
    }
    Ok(())
}

fn switched(cluster: &Cluster) -> Result<()> {
    let mut service = cluster.service(Kind::Sticky, STICKY);
    for seconds in [0, 3600, 0, 3600] {
        service.affinity = seconds;
        cluster.lab.apply(&service)?;
        everywhere(|call| {
            let pods = call.answering(cluster, 2 * CALLS)?.len();
            let expected = if seconds == 0 { STICKY.len() } else { 1 };
            ensure!(pods == expected, "{pods} pods answer with {seconds} s");
            Ok(())
        })?;
    }
    Ok(())
}

/// After a second everyone is balanced anew, and meets another pod sooner or later.
fn expires(cluster: &Cluster) -> Result<()> {
    let mut service = cluster.service(Kind::Sticky, STICKY);
    service.affinity = 1;
    cluster.lab.apply(&service)?;
    let mut waiting = Vec::new();
    everywhere(|call| {
        waiting.push((call, call.answering(cluster, 1)?));
        Ok(())
    })?;
    for _ in 0..CALLS {
        // It is the time itself that is looked at.
        thread::sleep(Duration::from_millis(1100));
        let mut left = Vec::new();
        for (call, pods) in waiting {
            if call.answering(cluster, 1)? == pods {
                left.push((call, pods));
            }
        }
        waiting = left;
        if waiting.is_empty() {
            return cluster.lab.apply(&cluster.service(Kind::Sticky, STICKY));
        }
    }
    bail!("{} keeps its pod", waiting[0].0.name())
}
