//! What is counted and measured, for Prometheus: kube-proxy's names where the meaning is the same, `shunt_` else.

mod health;
mod labels;
mod maps;
mod page;
mod process;
mod snat;
mod source;
mod sync;

pub use health::HealthMetrics;
pub use page::{PORT, Pages};
pub use sync::{SyncKind, SyncMetrics, Synced};

use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::datapath::gauges::Gauges;
use crate::source::Status;
use process::Process;

/// Everything that is counted and measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Of the pages of health.
    pub health: HealthMetrics,
    /// Of the run loop.
    pub sync: SyncMetrics,
}

impl Metrics {
    /// All at nought; the maps and the state of the source are read whenever somebody asks.
    pub fn new(gauges: Gauges, source: Option<Arc<Status>>) -> Self {
        let mut registry = Registry::default();
        let (health, sync) = (HealthMetrics::default(), SyncMetrics::default());
        health.register(&mut registry);
        sync.register(&mut registry);
        registry.register_collector(Box::new(snat::SourcePorts(gauges.clone())));
        registry.register_collector(Box::new(maps::Maps(gauges)));
        registry.register_collector(Box::new(Process::new()));
        if let Some(status) = source {
            registry.register_collector(Box::new(source::Source(status)));
        }
        Self {
            registry,
            health,
            sync,
        }
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
