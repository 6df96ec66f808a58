//! How often health was asked for, and what was answered.

use hyper::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::Code;

/// Of the pages of health.
#[derive(Clone, Debug, Default)]
pub struct HealthMetrics {
    healthz: Family<Code, Counter>,
    livez: Family<Code, Counter>,
}

impl HealthMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "kubeproxy_proxy_healthz",
            "Answers of /healthz, by status",
            self.healthz.clone(),
        );
        registry.register(
            "kubeproxy_proxy_livez",
            "Answers of /livez, by status",
            self.livez.clone(),
        );
    }

    /// /healthz was answered.
    pub fn answered_healthz(&self, status: StatusCode) {
        count(&self.healthz, status);
    }

    /// /livez was answered.
    pub fn answered_livez(&self, status: StatusCode) {
        count(&self.livez, status);
    }
}

fn count(counters: &Family<Code, Counter>, status: StatusCode) {
    let code = status.as_u16();
    counters.get_or_create(&Code { code }).inc();
}
