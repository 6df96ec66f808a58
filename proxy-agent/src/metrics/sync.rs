//! How the run loop gets on.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use proxy_common::layout::Family as AddressFamily;

use super::labels::IpFamily;

type Durations = Family<IpFamily, Histogram, fn() -> Histogram>;
type Times = Family<IpFamily, Gauge<f64, AtomicU64>>;

/// Of the run loop. Its handles are shared: what one clone counts, all show.
#[derive(Clone, Debug)]
pub struct SyncMetrics {
    all: Durations,
    full: Durations,
    partial: Durations,
    programming: Durations,
    last: Times,
    queued: Times,
    endpoint_changes: Changes,
    service_changes: Changes,
    latency: Histogram,
    operations: Counter,
    failed_services: Gauge,
    refusals: Counter,
    warnings: Counter,
    hint_fallbacks: Gauge,
    unknown_ranges: Gauge,
    audits: Counter,
    differences: Counter,
}

#[derive(Clone, Debug, Default)]
struct Changes {
    pending: Gauge,
    total: Counter,
}

/// How much of the Services was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// All of them, at the start.
    Full,
    /// Those that a change touched.
    Partial,
}

/// Changes that reached the maps together.
#[derive(Clone, Debug)]
pub struct Synced {
    /// When that was.
    pub at: Timestamp,
    /// How much was looked at.
    pub kind: SyncKind,
    /// How long it took from their arrival at the run loop.
    pub duration: Duration,
    /// How long it took since they were first heard of, if endpoints were among them.
    pub latency: Option<Duration>,
    /// How long it took since the endpoints changed, as their slices say.
    pub programming: Vec<(AddressFamily, Duration)>,
}

impl Default for SyncMetrics {
    fn default() -> Self {
        Self {
            all: Family::new_with_constructor(sync_histogram),
            full: Family::new_with_constructor(sync_histogram),
            partial: Family::new_with_constructor(sync_histogram),
            programming: Family::new_with_constructor(programming_histogram),
            last: Times::default(),
            queued: Times::default(),
            endpoint_changes: Changes::default(),
            service_changes: Changes::default(),
            latency: Histogram::new(exponential_buckets(0.000_1, 2.0, 20)),
            operations: Counter::default(),
            failed_services: Gauge::default(),
            refusals: Counter::default(),
            warnings: Counter::default(),
            hint_fallbacks: Gauge::default(),
            unknown_ranges: Gauge::default(),
            audits: Counter::default(),
            differences: Counter::default(),
        }
    }
}

/// As kube-proxy: 1 ms to 16 s.
fn sync_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// As kube-proxy: 0.25 s to 5 minutes, finest where most is expected.
fn programming_histogram() -> Histogram {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    Histogram::new([0.0, 0.25, 0.5].into_iter().chain(seconds.map(f64::from)))
}

impl SyncMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        self.register_as_kube_proxy(registry);
        registry.register(
            "shunt_endpoint_change_latency_seconds",
            "Seconds from hearing of a change of endpoints to its being in the maps",
            self.latency.clone(),
        );
        registry.register("shunt_map_writes", "Writes to maps", self.operations.clone());
        registry.register(
            "shunt_failed_services",
            "Services that stay as they were because a map has no room for them or refused them",
            self.failed_services.clone(),
        );
        registry.register(
            "shunt_refusals",
            "Objects and files that could not be taken over",
            self.refusals.clone(),
        );
        registry.register(
            "shunt_warnings",
            "Things that objects ask for and do not get",
            self.warnings.clone(),
        );
        registry.register(
            "shunt_hint_fallbacks",
            "Ports of Services, by family, whose topology hints are not followed: all endpoints are used",
            self.hint_fallbacks.clone(),
        );
        registry.register(
            "shunt_unknown_ranges",
            "Lists of ranges, of ServiceCIDRs or of pods of a family, of which there are more than the programs can know",
            self.unknown_ranges.clone(),
        );
        registry.register(
            "shunt_audits",
            "Comparisons of the maps with what they should hold",
            self.audits.clone(),
        );
        registry.register(
            "shunt_audit_differences",
            "What such a comparison found otherwise, and was mended",
            self.differences.clone(),
        );
    }

    fn register_as_kube_proxy(&self, registry: &mut Registry) {
        let durations = [
            ("duration", "Seconds that changes took into the maps", &self.all),
            ("full", "The same, of all Services at the start", &self.full),
            (
                "partial",
                "The same, of the Services that a change touched",
                &self.partial,
            ),
        ];
        for (name, help, durations) in durations {
            let name = match name {
                "duration" => "kubeproxy_sync_proxy_rules_duration_seconds".to_owned(),
                kind => format!("kubeproxy_sync_{kind}_proxy_rules_duration_seconds"),
            };
            registry.register(name, help, durations.clone());
        }
        registry.register(
            "kubeproxy_network_programming_duration_seconds",
            "Seconds from a change of endpoints in the cluster to its being in the maps",
            self.programming.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "When changes were last in the maps as a whole",
            self.last.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "When a change was last taken on",
            self.queued.clone(),
        );
        for (of, changes) in [
            ("endpoint", &self.endpoint_changes),
            ("service", &self.service_changes),
        ] {
            registry.register(
                format!("kubeproxy_sync_proxy_rules_{of}_changes_pending"),
                format!("Changes of this kind ({of}) that are not in the maps yet"),
                changes.pending.clone(),
            );
            registry.register(
                format!("kubeproxy_sync_proxy_rules_{of}_changes"),
                format!("Changes of this kind ({of}) that were taken on"),
                changes.total.clone(),
            );
        }
    }

    /// Changes were taken on.
    pub fn queued(&self, at: Timestamp, services: usize, slices: usize) {
        for family in IpFamily::BOTH {
            self.queued.get_or_create(&family).set(seconds(at));
        }
        for (changes, count) in [
            (&self.service_changes, services),
            (&self.endpoint_changes, slices),
        ] {
            changes.total.inc_by(count as u64);
            changes.pending.inc_by(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Those changes are in the maps.
    pub fn synced(&self, synced: &Synced) {
        let kind = match synced.kind {
            SyncKind::Full => &self.full,
            SyncKind::Partial => &self.partial,
        };
        for family in IpFamily::BOTH {
            self.last.get_or_create(&family).set(seconds(synced.at));
            for durations in [&self.all, kind] {
                durations
                    .get_or_create(&family)
                    .observe(synced.duration.as_secs_f64());
            }
        }
        for changes in [&self.service_changes, &self.endpoint_changes] {
            changes.pending.set(0);
        }
        if let Some(latency) = synced.latency {
            self.latency.observe(latency.as_secs_f64());
        }
        for (family, duration) in &synced.programming {
            let family = match family {
                AddressFamily::V4 => IpFamily::V4,
                AddressFamily::V6 => IpFamily::V6,
            };
            self.programming
                .get_or_create(&family)
                .observe(duration.as_secs_f64());
        }
    }

    /// So many ports have hints that are not followed.
    pub fn hint_fallbacks(&self, ports: usize) {
        self.hint_fallbacks.set(i64::try_from(ports).unwrap_or(i64::MAX));
    }

    /// So many lists of ranges are not known.
    pub fn unknown_ranges(&self, lists: usize) {
        self.unknown_ranges.set(i64::try_from(lists).unwrap_or(i64::MAX));
    }

    /// The maps were compared with what they should hold.
    pub fn audited(&self, differences: usize) {
        self.audits.inc();
        self.differences.inc_by(differences as u64);
    }

    /// Maps were written.
    pub fn wrote(&self, operations: usize) {
        self.operations.inc_by(operations as u64);
    }

    /// So many Services stay as they were.
    pub fn failing(&self, services: usize) {
        self.failed_services
            .set(i64::try_from(services).unwrap_or(i64::MAX));
    }

    /// So many objects and files were refused.
    pub fn refused(&self, count: usize) {
        self.refusals.inc_by(count as u64);
    }

    /// So many things are not served as asked.
    pub fn warned(&self, count: usize) {
        self.warnings.inc_by(count as u64);
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &SyncMetrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn synced(kind: SyncKind) -> Synced {
        Synced {
            at: Timestamp::constant(1_800_000_000, 500_000_000),
            kind,
            duration: Duration::from_millis(3),
            latency: Some(Duration::from_millis(5)),
            programming: vec![(AddressFamily::V6, Duration::from_secs(7))],
        }
    }

    #[test]
    fn names_labels_and_buckets_are_those_of_kube_proxy() {
        let metrics = SyncMetrics::default();
        metrics.queued(Timestamp::constant(1_800_000_000, 0), 2, 3);
        let before = text(&metrics);
        assert!(
            before.contains("kubeproxy_sync_proxy_rules_endpoint_changes_pending 3\n"),
            "{before}"
        );
        metrics.synced(&synced(SyncKind::Full));
        metrics.synced(&synced(SyncKind::Partial));
        let text = text(&metrics);
        for line in [
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.001\",ip_family=\"IPv4\"} 0",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.004\",ip_family=\"IPv4\"} 2",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"16.384\",ip_family=\"IPv6\"} 2",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"6.0\",ip_family=\"IPv6\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"7.0\",ip_family=\"IPv6\"} 2",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"300.0\",ip_family=\"IPv6\"} 2",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1800000000.5",
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv6\"} 1800000000.0",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "kubeproxy_sync_proxy_rules_service_changes_total 2",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        // 0, 0.25, 0.5, 1 to 59 by 1, 60 to 115 by 5, 120 to 300 by 30, and infinity.
        let buckets = text
            .matches("network_programming_duration_seconds_bucket{")
            .count();
        assert_eq!(buckets, 3 + 59 + 12 + 7 + 1);
    }
}
