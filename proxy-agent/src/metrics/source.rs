//! How the Kubernetes API answers.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::source::{Status, Watched};

/// How a source does.
#[derive(Debug)]
pub(super) struct Source(pub(super) Arc<Status>);

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = &self.0;
        let broken = |watched| status.broken(watched).map_or(0.0, |broken| broken.as_secs_f64());
        each(
            &mut encoder,
            "shunt_api_watch_broken_seconds",
            "For how long a watch of the Kubernetes API has been broken; 0: it is well",
            |watched| ConstGauge::new(broken(watched)),
        )?;
        each(
            &mut encoder,
            "shunt_api_watch_failures",
            "Requests of a watch of the Kubernetes API that failed",
            |watched| ConstCounter::new(status.failures(watched)),
        )?;
        each(
            &mut encoder,
            "shunt_api_lists",
            "Full lists that were received from the Kubernetes API",
            |watched| ConstCounter::new(status.lists(watched)),
        )
    }
}

fn each<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: impl Fn(Watched) -> M,
) -> Result<(), fmt::Error> {
    let kind = metric(Watched::Services).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for watched in Watched::ALL {
        metric(watched).encode(family.encode_family(&[("resource", watched.name())])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watch_is_told_of_by_its_resource() {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(Source(Arc::default())));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "shunt_api_watch_broken_seconds{resource=\"services\"} 0.0",
            "shunt_api_watch_failures_total{resource=\"endpointslices\"} 0",
            "shunt_api_lists_total{resource=\"nodes\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }
}
