//! Source ports in use, as the last walk over the flow tables found them.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::datapath::gauges::Gauges;

/// The source ports of an instance.
#[derive(Debug)]
pub(super) struct SourcePorts(pub(super) Gauges);

impl Collector for SourcePorts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let report = self.0.source_ports();
        if report.of == 0 {
            return Ok(());
        }
        for (name, help, value) in [
            (
                "shunt_snat_ports",
                "Source ports of the range for traffic to endpoints of other nodes",
                report.of,
            ),
            (
                "shunt_snat_ports_fullest",
                "Source ports in use towards the destination that uses the most, at the last sweep",
                report.fullest,
            ),
        ] {
            let gauge = ConstGauge::new(i64::from(value));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let (name, help) = (
            "shunt_snat_ports_used",
            "Source ports in use towards destinations that use a fifth of the range or more, at the last sweep",
        );
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for row in &report.near {
            let (destination, source) = (row.destination.to_string(), row.source.to_string());
            let labels = [
                ("protocol", row.protocol),
                ("destination", destination.as_str()),
                ("source", source.as_str()),
                ("service", row.service.as_str()),
            ];
            ConstGauge::new(i64::from(row.used)).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
