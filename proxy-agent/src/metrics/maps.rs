//! What the maps say, read whenever somebody asks.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::datapath::dump::CounterEntry;
use crate::datapath::gauges::{FlowFill, Gauges, Idle, XdpState};
use crate::datapath::{DatapathError, Hooks, HostRoutingState};

/// A figure of a flow table.
type OfTable = fn(&FlowFill) -> u64;

/// The maps of the instance.
#[derive(Debug)]
pub(super) struct Maps(pub(super) Gauges);

impl Collector for Maps {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(counters) = told("counters", self.0.counters()) {
            counts(&mut encoder, &counters)?;
        }
        if let Some(fills) = told("the fill of the maps", self.0.fills()) {
            let entries = fills.iter().map(|fill| (fill.map, fill.entries));
            let capacities = fills.iter().map(|fill| (fill.map, fill.capacity));
            let (name, help) = (
                "shunt_map_entries",
                "Entries of a map; of flow tables, at their last sweep",
            );
            by_map(
                encoder.encode_descriptor(name, help, None, MetricType::Gauge)?,
                entries,
            )?;
            let (name, help) = ("shunt_map_capacity", "Entries that a map has room for");
            by_map(
                encoder.encode_descriptor(name, help, None, MetricType::Gauge)?,
                capacities,
            )?;
        }
        if let Some((bytes, limit)) = told("the memory of the maps", self.0.memory()) {
            let sizes = [
                (
                    "shunt_map_memory_bytes",
                    "Memory that all maps take together when they are full",
                    bytes,
                ),
                (
                    "shunt_map_memory_limit_bytes",
                    "Memory that maps may take when they have grown",
                    limit,
                ),
            ];
            for (name, help, value) in sizes {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(signed(value)).encode(metric)?;
            }
        }
        self.flows(&mut encoder)?;
        if let Some(states) = told("UPLINKS", self.0.xdp()) {
            xdp(&mut encoder, &states)?;
        }
        hooks(&mut encoder, &self.0.hooks())?;
        host_routing(&mut encoder, &self.0.host_routing())?;
        match told("Services without local endpoints", self.0.idle()) {
            Some(idle) => no_local_endpoints(&mut encoder, idle),
            None => Ok(()),
        }
    }
}

impl Maps {
    fn flows(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let gauges: [(&str, &str, OfTable); 2] = [
            (
                "shunt_flow_entries",
                "Entries of flows that live, two a flow, at the last sweep",
                |flows| flows.live,
            ),
            (
                "shunt_flow_oldest_seconds",
                "Time without use of the flow unused for longest, at the last sweep; of a full table, how soon flows are pushed out",
                |flows| u64::from(flows.oldest_seconds),
            ),
        ];
        let tables = self.0.flows();
        for (name, help, value) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for flows in &tables {
                let labels = [
                    ("ip_family", flows.family),
                    ("protocol", flows.protocol),
                    ("state", flows.state),
                ];
                ConstGauge::new(signed(value(flows))).encode(metric.encode_family(&labels)?)?;
            }
        }
        let (name, help) = (
            "shunt_flows_pushed_out",
            "Established flows that a full table has pushed out before their time, as sweeps miss them",
        );
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for flows in self.0.pushed_out() {
            let labels = [("ip_family", flows.family), ("protocol", flows.protocol)];
            ConstCounter::new(flows.flows).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Drops and rare events, each with its name as the label.
fn counts(encoder: &mut DescriptorEncoder<'_>, counters: &[CounterEntry]) -> Result<(), fmt::Error> {
    let kinds = [
        (
            true,
            "shunt_drops",
            "Packets and calls dropped or refused, by reason",
            "reason",
        ),
        (false, "shunt_events", "Events of the data path, by kind", "event"),
    ];
    for (drop, name, help, label) in kinds {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for counter in counters.iter().filter(|counter| counter.drop == drop) {
            let labels = [(label, counter.name)];
            ConstCounter::new(counter.value).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn by_map(
    mut metric: MetricEncoder<'_>,
    values: impl Iterator<Item = (&'static str, u64)>,
) -> Result<(), fmt::Error> {
    for (map, value) in values {
        ConstGauge::new(signed(value)).encode(metric.encode_family(&[("map", map)])?)?;
    }
    Ok(())
}

fn no_local_endpoints(encoder: &mut DescriptorEncoder<'_>, idle: [Idle; 2]) -> Result<(), fmt::Error> {
    let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
    let help = "Service ports with a Local traffic policy that have endpoints, but none on this node";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (family, idle) in ["IPv4", "IPv6"].into_iter().zip(idle) {
        for (policy, count) in [("internal", idle.internal), ("external", idle.external)] {
            let labels = [("traffic_policy", policy), ("ip_family", family)];
            ConstGauge::new(signed(count)).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// How XDP takes part, as a label.
fn xdp(encoder: &mut DescriptorEncoder<'_>, states: &[XdpState]) -> Result<(), fmt::Error> {
    let help = "How XDP takes part at an uplink, or why TC does it all there";
    let mut metric = encoder.encode_descriptor("shunt_xdp", help, None, MetricType::Gauge)?;
    for state in states {
        let labels = [
            ("interface", state.interface.as_str()),
            ("mode", state.mode),
            ("reason", state.reason),
        ];
        ConstGauge::new(1_i64).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// How new flows go, as a label.
fn host_routing(encoder: &mut DescriptorEncoder<'_>, state: &HostRoutingState) -> Result<(), fmt::Error> {
    let help =
        "How new flows to pods of this node, and of its pods, go: through the node's stack or around it";
    let mut metric = encoder.encode_descriptor("shunt_host_routing", help, None, MetricType::Gauge)?;
    let labels = [("mode", state.mode()), ("reason", state.reason())];
    ConstGauge::new(1_i64).encode(metric.encode_family(&labels)?)
}

/// Programs that others took away, and what is without them.
fn hooks(encoder: &mut DescriptorEncoder<'_>, hooks: &Hooks) -> Result<(), fmt::Error> {
    let help = "Programs that others had taken from their hooks and that were put back";
    let metric = encoder.encode_descriptor("shunt_hooks_restored", help, None, MetricType::Counter)?;
    ConstCounter::new(hooks.restored).encode(metric)?;
    let help = "Uplinks, and sockets as a whole, that are without their programs";
    let metric = encoder.encode_descriptor("shunt_hooks_broken", help, None, MetricType::Gauge)?;
    ConstGauge::new(signed(hooks.broken.len() as u64)).encode(metric)?;
    let help = "Programs that a frame of the agent's own did not come to: another's before them keeps packets from them";
    let metric = encoder.encode_descriptor("shunt_hooks_unreached", help, None, MetricType::Gauge)?;
    ConstGauge::new(signed(hooks.unreached.len() as u64)).encode(metric)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What could not be read is left out, and said.
fn told<T>(what: &str, result: Result<T, DatapathError>) -> Option<T> {
    result
        .map_err(|error| tracing::warn!(%error, "{what} can't be read for /metrics"))
        .ok()
}
