//! The agent comes and goes, traffic stays; only `cleanup` takes the data path away.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::Agent;
use lab::address::Family;
use lab::call::{Calls, Held, Transport, hold};

use crate::cluster::{Cluster, Frontend, Kind};
use crate::expect::{Call, Peer};
use crate::runner::Rows;

const PAUSE: Duration = Duration::from_millis(2);

const WAYS: [(&str, Frontend, Kind); 6] = [
    ("a", Frontend::ClusterIp, Kind::First),
    ("a", Frontend::ClusterIp, Kind::Second),
    ("n1", Frontend::ClusterIp, Kind::Second),
    ("client", Frontend::NodePort(1), Kind::First),
    ("client", Frontend::NodePort(1), Kind::Second),
    ("client", Frontend::LoadBalancer, Kind::Second),
];

/// Kill, restart, resize the maps, stop and clean up, in this order.
pub(crate) fn rows(cluster: &mut Cluster, rows: &mut Rows, resizes: bool) {
    let Some(mut held) = rows.build("connections are held", || held(cluster)) else {
        return;
    };
    rows.row("connections outlive the agents' kill", || {
        for node in [1, 2] {
            cluster.lab.agent_mut(node).kill()?;
        }
        check(&mut held)
    });
    called(cluster, rows, "without agents");
    rows.row("agents come back to held connections", || {
        cluster.lab.start_agents()?;
        check(&mut held)
    });
    called(cluster, rows, "after the agents' return");
    rows.row("a new pod is served after the agents' return", || {
        cluster.lab.add_pod("e", 2)?;
        cluster.lab.apply(&cluster.service(Kind::Changing, &["e"]))?;
        let call = Call {
            from: "a",
            to: Kind::Changing,
            at: Frontend::ClusterIp,
            family: Family::V6,
            transport: Transport::Udp,
        };
        call.answered_by(cluster, &["e"])
    });
    if resizes {
        resized(cluster, rows, &mut held);
    }
    rows.row("agents end when asked to, and connections go on", || {
        for node in [1, 2] {
            cluster.lab.agent_mut(node).stop()?;
        }
        check(&mut held)
    });
    drop(held);
    called(cluster, rows, "after the agents' end");
    rows.row("cleanup leaves nothing", || clean_up(cluster));
}

fn resized(cluster: &mut Cluster, rows: &mut Rows, held: &mut [(String, Held)]) {
    rows.row("connections live on while maps grow and shrink", || {
        for size in ["64Mi", "16Mi"] {
            resize(cluster, size)?;
            check(held)?;
        }
        Ok(())
    });
    called(cluster, rows, "with smaller maps");
    rows.row(
        "connections live on when an agent is killed while maps grow",
        || {
            for size in ["64Mi", "32Mi"] {
                interrupt(cluster, size)?;
                check(held)?;
                resize(cluster, size)?;
                check(held)?;
            }
            Ok(())
        },
    );
    called(cluster, rows, "after a second attempt");
}

fn held(cluster: &Cluster) -> Result<Vec<(String, Held)>> {
    let ways = WAYS
        .into_iter()
        .flat_map(|way| Family::BOTH.map(|family| (way, family)));
    let open = |((from, at, to), family): ((&str, Frontend, Kind), Family)| {
        let name = format!("{family} {from}->{at} {to:?}");
        Ok((name, hold(cluster.lab.place(from)?, at.of(to, family), PAUSE)?))
    };
    ways.map(open).collect()
}

fn check(held: &mut [(String, Held)]) -> Result<()> {
    held.iter_mut()
        .try_for_each(|(name, held)| held.check().map(drop).with_context(|| name.clone()))
}

fn called(cluster: &Cluster, rows: &mut Rows, when: &str) {
    for ((from, at, to), family) in WAYS
        .into_iter()
        .flat_map(|way| Family::BOTH.map(|family| (way, family)))
    {
        for transport in [Transport::Tcp, Transport::Udp] {
            let call = Call {
                from,
                to,
                at,
                family,
                transport,
            };
            rows.row(format!("{when} {}", call.name()), || {
                call.answered(cluster, Peer::Any)
            });
        }
    }
}

/// New agents with maps of this size.
fn resize(cluster: &mut Cluster, size: &'static str) -> Result<()> {
    for node in [1, 2] {
        let agent = cluster.lab.agent_mut(node);
        if agent.is_running() {
            agent.kill()?;
        }
        agent.use_map_memory(size);
        agent.start()?;
        let next = next(agent);
        ensure!(!next.exists(), "{} is still there", next.display());
    }
    Ok(())
}

/// Kills agents that have begun to change the maps' size, before they can be done.
fn interrupt(cluster: &mut Cluster, size: &'static str) -> Result<()> {
    for node in [1, 2] {
        let agent = cluster.lab.agent_mut(node);
        agent.kill()?;
        agent.use_map_memory(size);
        agent.launch()?;
        let deadline = Instant::now() + Duration::from_secs(120);
        // No event tells, and the moment is short.
        while !next(agent).exists() {
            ensure!(Instant::now() < deadline, "the maps do not change");
            std::thread::sleep(Duration::from_millis(1));
        }
        agent.kill()?;
        let next = next(agent);
        ensure!(next.exists(), "the agent was done before it was killed");
    }
    Ok(())
}

/// Where maps are that take others' place.
fn next(agent: &Agent) -> PathBuf {
    agent.instance().join("v1/next")
}

fn clean_up(cluster: &Cluster) -> Result<()> {
    for node in [1, 2] {
        let agent = cluster.lab.agent(node);
        agent.clean_up()?;
        ensure!(
            !agent.instance().exists(),
            "{} is still there",
            agent.instance().display()
        );
    }
    for family in Family::BOTH {
        let target = Frontend::NodePort(1).of(Kind::First, family);
        let outcomes = cluster.lab.client.calls(Calls::new(Transport::Tcp, target, 1))?;
        ensure!(
            outcomes.all_refused(),
            "a node without Shunt has no NodePort: {outcomes}"
        );
        let direct = cluster.lab.pod("b").address.at(family, lab::ECHO_PORT);
        let outcomes = cluster.lab.client.calls(Calls::new(Transport::Tcp, direct, 1))?;
        ensure!(
            outcomes.all_answered(),
            "a pod is reached without Shunt: {outcomes}"
        );
    }
    Ok(())
}
