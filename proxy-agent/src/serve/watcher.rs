//! Turns what the run loop tells into health and metrics.

use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use proxy_common::layout::Family;

use crate::agent::{Done, Observer};
use crate::health::{Health, NodeFitness};
use crate::metrics::{Metrics, SyncKind, Synced};
use crate::plan::Difference;
use crate::source::{Batch, Change, EndpointSlice, Node, Object, ObjectKey, SliceAddressType};

/// Watches the run loop.
#[derive(Debug)]
pub struct Watcher {
    node_name: Arc<str>,
    /// What the node is while there is no Node of its name.
    without_node: NodeFitness,
    health: Health,
    metrics: Arc<Metrics>,
    start: Timestamp,
    pending: Option<Pending>,
    was_synced: bool,
}

/// What was taken on and has not settled.
#[derive(Debug)]
struct Pending {
    since: Instant,
    /// When the oldest change of endpoints was heard of.
    endpoints_heard: Option<Instant>,
    /// When endpoints changed, as their slices say.
    triggers: Vec<(Family, Timestamp)>,
}

impl Watcher {
    /// Tells `health` and `metrics`; a node without a Node object is fit if `without_node` says so.
    pub fn new(node_name: &str, without_node: NodeFitness, health: Health, metrics: Arc<Metrics>) -> Self {
        Self {
            node_name: node_name.into(),
            without_node,
            health,
            metrics,
            start: Timestamp::now(),
            pending: None,
            was_synced: false,
        }
    }

    fn node(&self, node: Option<&Node>) {
        self.health.node(match node {
            Some(node) if node.is_leaving() => NodeFitness::Leaving,
            Some(_) => NodeFitness::Eligible,
            None => self.without_node,
        });
    }
}

impl Observer for Watcher {
    fn took(&mut self, batch: &Batch) {
        let now = Instant::now();
        let (mut services, mut slices) = (0, 0);
        let mut triggers = Vec::new();
        for change in &batch.changes {
            match change.key() {
                ObjectKey::Service(_) => services += 1,
                ObjectKey::Slice(_) => slices += 1,
                ObjectKey::Node(name) if name == self.node_name => self.node(match change {
                    Change::Upsert(Object::Node(node)) => Some(node),
                    _ => None,
                }),
                ObjectKey::Node(_) | ObjectKey::ServiceCidr(_) => {}
            }
            if let Change::Upsert(Object::Slice(slice)) = change {
                // What changed before the start is no delay of ours.
                triggers.extend(trigger(slice).filter(|(_, at)| *at > self.start));
            }
        }
        self.health.queued(now);
        self.metrics.sync.queued(Timestamp::now(), services, slices);
        self.metrics.sync.refused(batch.refusals.len());
        let pending = self.pending.get_or_insert(Pending {
            since: now,
            endpoints_heard: None,
            triggers: Vec::new(),
        });
        if slices > 0 {
            pending.endpoints_heard = pending.endpoints_heard.or(batch.heard);
        }
        pending.triggers.extend(triggers);
    }

    fn did(&mut self, done: &Done) {
        self.metrics.sync.wrote(done.operations);
        self.metrics.sync.warned(done.warnings);
    }

    fn hint_fallbacks(&mut self, ports: usize) {
        self.metrics.sync.hint_fallbacks(ports);
    }

    fn unknown_ranges(&mut self, lists: usize) {
        self.metrics.sync.unknown_ranges(lists);
    }

    fn audited(&mut self, differences: &[Difference]) {
        self.metrics.sync.audited(differences.len());
    }

    fn settled(&mut self, failed_services: usize) {
        self.metrics.sync.failing(failed_services);
        let Some(pending) = self.pending.take() else {
            return;
        };
        let (now, at) = (Instant::now(), Timestamp::now());
        self.health.synced(at);
        let is_first = !std::mem::replace(&mut self.was_synced, true);
        let programming = pending.triggers.into_iter().map(|(family, trigger)| {
            // A clock elsewhere may run ahead of ours.
            let duration = at.duration_since(trigger).max(SignedDuration::ZERO);
            (family, duration.unsigned_abs())
        });
        self.metrics.sync.synced(&Synced {
            at,
            kind: if is_first {
                SyncKind::Full
            } else {
                SyncKind::Partial
            },
            duration: now.saturating_duration_since(pending.since),
            // The list at the start is no change.
            latency: pending
                .endpoints_heard
                .filter(|_| !is_first)
                .map(|heard| now.saturating_duration_since(heard)),
            programming: programming.collect(),
        });
    }
}

fn trigger(slice: &EndpointSlice) -> Option<(Family, Timestamp)> {
    let family = match slice.address_type {
        SliceAddressType::V4 => Family::V4,
        SliceAddressType::V6 => Family::V6,
        SliceAddressType::Name => return None,
    };
    Some((family, slice.metadata.annotations.last_change?))
}
