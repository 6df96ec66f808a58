//! Endpoints come and go: what the agents have said is applied holds for the very next call.

use anyhow::{Context, Result, ensure};
use lab::address::Family;
use lab::call::{Calls, Transport};

use crate::cluster::{Cluster, Frontend, Kind};
use crate::expect::Call;
use crate::runner::Rows;

/// The Service has the pods `c`, then others.
pub(crate) fn rows(cluster: &mut Cluster, rows: &mut Rows) {
    for family in Family::BOTH {
        for (from, at) in [
            ("a", Frontend::ClusterIp),
            ("n1", Frontend::ClusterIp),
            ("client", Frontend::NodePort(1)),
        ] {
            let call = |transport| Call {
                from,
                to: Kind::Changing,
                at,
                family,
                transport,
            };
            for transport in [Transport::Tcp, Transport::Udp] {
                rows.row(format!("scaled {}", call(transport).name()), || {
                    scaled(cluster, &call(transport))
                });
            }
            rows.row(
                format!("a UDP socket is balanced anew {}", call(Transport::Udp).name()),
                || balanced_anew(cluster, from, at, family),
            );
            rows.row(
                format!(
                    "a UDP flow is refused once nobody is left {}",
                    call(Transport::Udp).name()
                ),
                || left_alone(cluster, from, at, family),
            );
        }
    }
    rows.row(
        "a broken manifest is refused and the last good state stands",
        || broken(cluster),
    );
}

/// From one pod to three and to none.
fn scaled(cluster: &Cluster, call: &Call) -> Result<()> {
    for pods in [&["c"][..], &["b", "c", "d"], &["b"], &["c"]] {
        cluster.lab.apply(&cluster.service(Kind::Changing, pods))?;
        call.answered_by(cluster, pods)
            .with_context(|| format!("with the endpoints {pods:?}"))?;
    }
    Ok(())
}

/// The same client port, and another pod once the first is gone.
fn balanced_anew(cluster: &Cluster, from: &str, at: Frontend, family: Family) -> Result<()> {
    let place = cluster.lab.place(from)?;
    let source_port = cluster.ports(1);
    for pods in [["c"], ["b"], ["c"]] {
        cluster.lab.apply(&cluster.service(Kind::Changing, &pods))?;
        let calls = Calls::new(Transport::OneUdpSocket, at.of(Kind::Changing, family), 4);
        let outcomes = place.calls(Calls { source_port, ..calls })?;
        ensure!(
            outcomes.by_name().get(pods[0]) == Some(&4),
            "with the endpoint {pods:?}: {outcomes}"
        );
    }
    Ok(())
}

/// The same client port: to the endpoint, to nobody, which is told at once, and to the endpoint that is there again.
fn left_alone(cluster: &Cluster, from: &str, at: Frontend, family: Family) -> Result<()> {
    let place = cluster.lab.place(from)?;
    let source_port = cluster.ports(1);
    let call = || {
        let calls = Calls::new(Transport::ConnectedUdp, at.of(Kind::Changing, family), 1);
        place.calls(Calls { source_port, ..calls })
    };
    for pods in [&["c"][..], &[], &["b"], &[], &["c"]] {
        cluster.lab.apply(&cluster.service(Kind::Changing, pods))?;
        for _ in 0..2 {
            let outcomes = call()?;
            let is_right = match pods {
                [] => outcomes.all_refused(),
                [pod, ..] => outcomes.by_name().get(pod) == Some(&1),
            };
            ensure!(is_right, "with the endpoints {pods:?}: {outcomes}");
        }
    }
    Ok(())
}

fn broken(cluster: &Cluster) -> Result<()> {
    let agent = cluster.lab.agent(1);
    let mark = agent.events()?.mark();
    let text = cluster
        .service(Kind::Both, &["b"])
        .manifest()
        .replace("protocol: UDP, port: 8080", "protocol: UDP, port: many");
    agent.write("both.yaml", &text)?;
    let event = agent.events()?.wait(mark, "n1 to refuse both.yaml", |event| {
        event.message() == "refused"
    })?;
    ensure!(
        event.text("file").ends_with("both.yaml"),
        "the file is not named: {event:?}"
    );
    ensure!(
        event.text("error").contains("port"),
        "the field is not named: {event:?}"
    );
    let call = Call {
        from: "a",
        to: Kind::Both,
        at: Frontend::ClusterIp,
        family: Family::V4,
        transport: Transport::Tcp,
    };
    call.answered_by(cluster, Kind::Both.pods())
        .context("the last good state")?;
    cluster.lab.apply(&cluster.service(Kind::Both, Kind::Both.pods()))
}
