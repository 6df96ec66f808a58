//! How the Kubernetes API answers.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;

use crate::source::{Status, Watched};

/// How a source does.
#[derive(Debug)]
pub(super) struct Source(pub(super) Arc<Status>);

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = &self.0;
        one(
            &mut encoder,
            "shunt_source_synced",
            "Whether everything that there is was received from the Kubernetes API once",
            &ConstGauge::new(i64::from(status.is_synced())),
        )?;
        one(
            &mut encoder,
            "shunt_source_outages",
            "Times that the Kubernetes API could not be watched for longer than 5 s",
            &ConstCounter::new(status.outages()),
        )?;
        if let Some(server) = status.server() {
            let server = Info::new([("server", server)]);
            let help = "The server of the Kubernetes API that answered last";
            one(&mut encoder, "shunt_source_server", help, &server)?;
        }
        self.watches(&mut encoder)
    }
}

impl Source {
    fn watches(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = &self.0;
        each(
            encoder,
            ("shunt_source_broken_seconds", MetricType::Gauge),
            "For how long a watch of the Kubernetes API has been broken; 0: it is well",
            |watched| {
                let broken = status.broken(watched).map_or(0.0, |broken| broken.as_secs_f64());
                Some(ConstGauge::new(broken))
            },
        )?;
        each(
            encoder,
            ("shunt_source_failures", MetricType::Counter),
            "Requests of a watch of the Kubernetes API that failed",
            |watched| Some(ConstCounter::new(status.failures(watched))),
        )?;
        each(
            encoder,
            ("shunt_source_lists", MetricType::Counter),
            "Full lists that were received from the Kubernetes API",
            |watched| Some(ConstCounter::new(status.lists(watched))),
        )?;
        each(
            encoder,
            ("shunt_source_last_event_timestamp_seconds", MetricType::Gauge),
            "When a watch of the Kubernetes API last brought something",
            |watched| {
                let at = status.last_event(watched)?;
                Some(ConstGauge::new(at.as_duration().as_secs_f64()))
            },
        )
    }
}

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// A metric of each watch of which there is one.
fn each<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, kind): (&str, MetricType),
    help: &str,
    metric: impl Fn(Watched) -> Option<M>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for watched in Watched::ALL {
        if let Some(metric) = metric(watched) {
            metric.encode(family.encode_family(&[("resource", watched.name())])?)?;
        }
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
            "shunt_source_synced 0",
            "shunt_source_outages_total 0",
            "shunt_source_broken_seconds{resource=\"services\"} 0.0",
            "shunt_source_failures_total{resource=\"endpointslices\"} 0",
            "shunt_source_lists_total{resource=\"nodes\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        // What did not happen yet has no time, and nobody has answered.
        for name in [
            "shunt_source_last_event_timestamp_seconds{",
            "shunt_source_server_info",
        ] {
            assert!(!text.contains(name), "{name} is in {text}");
        }
    }
}
