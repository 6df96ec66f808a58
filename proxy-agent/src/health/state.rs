//! What is known of the run loop's progress and of the node, and what follows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::datapath::Hooks;

/// A change that has waited for longer than this makes the proxy unhealthy, if nothing else is said: twice kube-proxy's
/// syncPeriod.
const LATE: Duration = Duration::from_secs(60);

/// Shared: the run loop tells, the pages ask.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

/// Whether load balancers should send to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFitness {
    /// Its Node is there and is not about to go.
    Eligible,
    /// Its Node is being deleted, by its owner or by the cluster autoscaler.
    Leaving,
    /// There is no Node of that name.
    Unknown,
}

#[derive(Debug)]
struct State {
    late: Duration,
    node: NodeFitness,
    queued: Option<Instant>,
    synced: Option<Timestamp>,
    /// None: nothing is known of hooks.
    hooks: Option<watch::Receiver<Hooks>>,
}

/// The answer's body. Families differ in nothing: a change reaches both at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    last_updated: Timestamp,
    current_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    /// What is without programs; not in kube-proxy's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    broken: Vec<String>,
    /// All of it is well.
    pub healthy: bool,
    status: Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Status {
    #[serde(rename = "IPv4")]
    v4: FamilyStatus,
    #[serde(rename = "IPv6")]
    v6: FamilyStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyStatus {
    last_updated: Timestamp,
    healthy: bool,
}

impl Health {
    /// Nothing is queued yet, and the node is as given until it is heard of.
    pub fn new(node: NodeFitness) -> Self {
        let state = State {
            late: LATE,
            node,
            queued: None,
            synced: None,
            hooks: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A change waits to be carried out since then, if none waits already.
    pub fn queued(&self, since: Instant) {
        self.state().queued.get_or_insert(since);
    }

    /// Nothing waits.
    pub fn synced(&self, now: Timestamp) {
        let mut state = self.state();
        state.queued = None;
        state.synced = Some(now);
    }

    /// The node was heard of.
    pub fn node(&self, node: NodeFitness) {
        self.state().node = node;
    }

    /// From now on hooks without programs make the node unhealthy.
    pub fn follow_hooks(&self, hooks: watch::Receiver<Hooks>) {
        self.state().hooks = Some(hooks);
    }

    /// A change that waits for longer makes the proxy unhealthy.
    pub fn set_late(&self, late: Duration) {
        self.state().late = late;
    }

    /// Whether the proxy works, whatever becomes of its node.
    pub fn is_live(&self, now: Instant) -> bool {
        self.state().is_live(now)
    }

    /// For /livez.
    pub fn livez(&self, now: Instant, time: Timestamp) -> Report {
        self.state().report(now, time, None)
    }

    /// For /healthz.
    pub fn healthz(&self, now: Instant, time: Timestamp) -> Report {
        let state = self.state();
        state.report(now, time, Some(state.node == NodeFitness::Eligible))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change of the state can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// As in kube-proxy, the first sync may take its time.
    fn is_live(&self, now: Instant) -> bool {
        let waited = |since: Instant| now.saturating_duration_since(since);
        self.synced.is_none() || self.queued.is_none_or(|since| waited(since) < self.late)
    }

    fn report(&self, now: Instant, time: Timestamp, node_eligible: Option<bool>) -> Report {
        let is_live = self.is_live(now);
        // As with the Node, a restart of the agent would mend nothing: liveness is not asked for it.
        let broken = match (&self.hooks, node_eligible) {
            (Some(hooks), Some(_)) => hooks.borrow().broken.clone(),
            _ => Vec::new(),
        };
        let healthy = is_live && node_eligible.unwrap_or(true) && broken.is_empty();
        let synced = self.synced.unwrap_or(time);
        let family = FamilyStatus {
            last_updated: if is_live { time } else { synced },
            healthy: is_live,
        };
        Report {
            // The time of the answer, for clients that take an old one for a sign of illness.
            last_updated: if healthy { time } else { synced },
            current_time: time,
            node_eligible,
            broken,
            healthy,
            status: Status {
                v4: family,
                v6: family,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNCED: Timestamp = Timestamp::constant(1_800_000_000, 0);
    const ASKED: Timestamp = Timestamp::constant(1_800_000_100, 0);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_change_may_wait_for_a_minute() {
        let (health, start) = (Health::new(NodeFitness::Eligible), Instant::now());
        health.synced(SYNCED);
        assert!(health.is_live(after(start, 100_000)), "nothing waits");
        health.queued(after(start, 10));
        health.queued(after(start, 69));
        assert!(health.is_live(after(start, 69)));
        assert!(!health.is_live(after(start, 70)), "the oldest counts");
        health.synced(SYNCED);
        assert!(health.is_live(after(start, 70)));
        health.queued(after(start, 70));
        assert!(health.is_live(after(start, 129)));
        health.set_late(Duration::from_secs(10));
        assert!(!health.is_live(after(start, 129)));
    }

    #[test]
    fn the_first_sync_may_take_longer() {
        let (health, start) = (Health::new(NodeFitness::Eligible), Instant::now());
        health.queued(start);
        assert!(health.is_live(after(start, 1000)));
    }

    #[test]
    fn a_node_that_leaves_is_alive_but_takes_no_traffic() {
        for node in [NodeFitness::Leaving, NodeFitness::Unknown] {
            let (health, start) = (Health::new(NodeFitness::Eligible), Instant::now());
            health.synced(SYNCED);
            health.node(node);
            assert!(health.livez(start, ASKED).healthy);
            assert!(!health.healthz(start, ASKED).healthy);
            health.node(NodeFitness::Eligible);
            assert!(health.healthz(start, ASKED).healthy);
        }
    }

    #[test]
    fn hooks_without_programs_keep_traffic_away() {
        let (health, start) = (Health::new(NodeFitness::Eligible), Instant::now());
        health.synced(SYNCED);
        let hooks = watch::Sender::new(Hooks::default());
        health.follow_hooks(hooks.subscribe());
        assert!(health.healthz(start, ASKED).healthy);
        hooks.send_modify(|hooks| hooks.broken = vec!["uplink eth0: it has no programs".to_owned()]);
        assert!(health.livez(start, ASKED).healthy);
        let text = serde_json::to_string(&health.healthz(start, ASKED)).unwrap();
        let part = r#""nodeEligible":true,"broken":["uplink eth0: it has no programs"],"healthy":false,"#;
        assert!(text.contains(part), "{text}");
        hooks.send_modify(|hooks| hooks.broken.clear());
        assert!(health.healthz(start, ASKED).healthy);
    }

    #[test]
    fn bodies_are_those_of_kube_proxy() {
        let (health, start) = (Health::new(NodeFitness::Eligible), Instant::now());
        health.synced(SYNCED);
        let text = |report| serde_json::to_string(&report).unwrap();
        let family = r#"{"lastUpdated":"2027-01-15T08:01:40Z","healthy":true}"#;
        assert_eq!(
            text(health.livez(start, ASKED)),
            format!(
                r#"{{"lastUpdated":"2027-01-15T08:01:40Z","currentTime":"2027-01-15T08:01:40Z","healthy":true,"status":{{"IPv4":{family},"IPv6":{family}}}}}"#
            )
        );
        health.queued(start);
        health.node(NodeFitness::Leaving);
        let family = r#"{"lastUpdated":"2027-01-15T08:00:00Z","healthy":false}"#;
        assert_eq!(
            text(health.healthz(after(start, 61), ASKED)),
            format!(
                r#"{{"lastUpdated":"2027-01-15T08:00:00Z","currentTime":"2027-01-15T08:01:40Z","nodeEligible":false,"healthy":false,"status":{{"IPv4":{family},"IPv6":{family}}}}}"#
            )
        );
    }
}
