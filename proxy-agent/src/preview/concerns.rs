//! What somebody who applies manifests should know before.

use std::collections::BTreeSet;
use std::str::FromStr;

use proxy_common::layout::FrontendKind;

use crate::datapath::SnatPorts;
use crate::explain::World;
use crate::model::Warning;
use crate::name::ObjectName;
use crate::plan::ServicePort;
use crate::source::TrafficPolicy;

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl Default for PortRange {
    /// The kernel's own default of net.ipv4.ip_local_port_range.
    fn default() -> Self {
        Self {
            first: 32_768,
            last: 60_999,
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('-').and_then(|(first, last)| {
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            Some(Self { first, last })
        });
        parsed
            .filter(|range| range.first <= range.last)
            .ok_or_else(|| format!("`{text}` is no range of ports; write it as 32768-60999"))
    }
}

impl PortRange {
    /// Those of the kernel, in the calling thread's network namespace.
    ///
    /// # Errors
    /// They can't be read.
    pub fn of_kernel() -> std::io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
        let text = text.split_whitespace().collect::<Vec<_>>().join("-");
        text.parse().map_err(std::io::Error::other)
    }

    /// So many from this one.
    pub(super) fn new(first: u16, count: u16) -> Self {
        Self {
            first,
            last: first.saturating_add(count.saturating_sub(1)),
        }
    }

    fn has(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl From<&SnatPorts> for PortRange {
    fn from(ports: &SnatPorts) -> Self {
        Self::new(ports.first(), ports.count())
    }
}

/// Ports of the node that others use.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenPorts {
    /// For outgoing connections.
    pub(super) ephemeral: PortRange,
    /// For calls that are handed to another node.
    pub(super) snat: PortRange,
}

/// The warnings about these Services, and those of the objects that are new, in order.
pub(super) fn of(
    now: &[Warning],
    after: &World,
    affected: &BTreeSet<ObjectName>,
    taken: TakenPorts,
) -> Vec<String> {
    let is_about = |warning: &&Warning| match warning.service() {
        Some(service) => affected.contains(service),
        None => !now.contains(warning),
    };
    let model = after.warnings.iter().filter(is_about).map(ToString::to_string);
    let mut warnings: Vec<String> = model.collect();
    let ports = after.services.iter().filter(|(name, _)| affected.contains(name));
    for port in ports.flat_map(|(_, ports)| ports) {
        of_port(after, port, taken, &mut warnings);
    }
    warnings.extend(after.failed.iter().map(ToString::to_string));
    warnings.sort_unstable();
    warnings.dedup();
    warnings
}

fn of_port(after: &World, port: &ServicePort, taken: TakenPorts, warnings: &mut Vec<String>) {
    let key = &port.key;
    let has_inside = port
        .frontends
        .iter()
        .any(|(_, kind)| *kind == FrontendKind::ClusterIp);
    let has_outside = port
        .frontends
        .iter()
        .any(|(_, kind)| *kind != FrontendKind::ClusterIp);
    let TakenPorts { ephemeral, snat } = taken;
    for (frontend, _) in port
        .frontends
        .iter()
        .filter(|(_, kind)| *kind == FrontendKind::NodePort)
    {
        let number = frontend.port.number();
        if ephemeral.has(number) {
            warnings.push(format!(
                "Service {key}: the NodePort {number} is of the ports that the kernel gives to outgoing connections \
                 ({}-{}): some of those to this node's own address may not get through; choose one of 30000-32767",
                ephemeral.first, ephemeral.last
            ));
        }
        if snat.has(number) {
            warnings.push(format!("Service {key}: the NodePort {number} is of --snat-ports"));
        }
    }
    let Some(reasons) = after.model.reasons(key) else {
        return;
    };
    let is_served = !port.shortcut.members.is_empty()
        || !port.external.members.is_empty()
        || reasons
            .endpoints
            .iter()
            .any(|judged| judged.standings.cluster.is_in());
    if !is_served {
        warnings.push(format!("Service {key}: no endpoint is usable: calls are refused"));
        return;
    }
    if has_outside && reasons.external == TrafficPolicy::Local && port.external.members.is_empty() {
        warnings.push(format!(
            "Service {key}: externalTrafficPolicy Local, and no endpoint on this node: calls from outside are dropped here"
        ));
    }
    if has_inside && reasons.internal == TrafficPolicy::Local && port.internal.members.is_empty() {
        warnings.push(format!(
            "Service {key}: internalTrafficPolicy Local, and no endpoint on this node: calls to its cluster IP are dropped here"
        ));
    }
    let fallen = after.model.hint_fallbacks(&key.service);
    warnings.extend(fallen.iter().map(ToString::to_string));
}
