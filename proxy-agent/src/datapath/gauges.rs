//! How full the maps are and what they count, for those who watch.

use proxy_common::layout::{
    Addr, FrontendKey, FrontendKind, FrontendValue, ListWord, ServiceId, When, names,
};
use std::collections::BTreeMap;
use tokio::sync::watch;

use super::dump::{self, CounterEntry};
use super::error::DatapathError;
use super::hooks::Hooks;
use super::host_routing::HostRoutingState;
use super::instance::Instance;
use super::map::{Cursor, Map};
use super::snat::SnatReport;
use super::sweep::FlowCounts;
use super::sys::Layout;
use super::tables::{Current, Tables};
use super::xdp::{Reason, Way};
use super::{follow, growth, netlink};

/// Reads an instance's maps; a clone can be asked on another thread.
#[derive(Clone, Debug)]
pub struct Gauges {
    tables: Current,
    instance: Instance,
    limit: u64,
    swept: watch::Receiver<Option<FlowCounts>>,
    source_ports: watch::Receiver<SnatReport>,
    hooks: watch::Receiver<Hooks>,
    host_routing: watch::Receiver<HostRoutingState>,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Its name.
    pub map: &'static str,
    /// Its entries.
    pub entries: u64,
    /// Those that it has room for.
    pub capacity: u64,
}

/// Flows of one flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowFill {
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// `embryo` or `established`.
    pub state: &'static str,
    /// Entries whose time is not up.
    pub live: u64,
    /// Seconds for which the one of them was not used that was not used for longest. Of a full table: how soon an entry is
    /// pushed out.
    pub oldest_seconds: u32,
}

/// Established flows that a full table has pushed out before their time, since the agent's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushedOutFlows {
    /// The map.
    pub map: &'static str,
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// How many.
    pub flows: u64,
}

/// How XDP takes part at an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpState {
    /// The interface.
    pub interface: String,
    /// `native`, `generic` or `tc`.
    pub mode: &'static str,
    /// Why it takes no part; empty if it does.
    pub reason: &'static str,
}

/// Service ports that drop because a Local traffic policy finds no endpoint on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// By the internal traffic policy.
    pub internal: u64,
    /// By the external traffic policy.
    pub external: u64,
}

/// Names of the flow tables, in the order of a sweep, with what they hold.
const FLOW_TABLES: [(&str, &str, &str, &str); 8] = [
    (names::TCP_EMBRYOS4, "IPv4", "tcp", "embryo"),
    (names::TCP_FLOWS4, "IPv4", "tcp", "established"),
    (names::UDP_EMBRYOS4, "IPv4", "udp", "embryo"),
    (names::UDP_FLOWS4, "IPv4", "udp", "established"),
    (names::TCP_EMBRYOS6, "IPv6", "tcp", "embryo"),
    (names::TCP_FLOWS6, "IPv6", "tcp", "established"),
    (names::UDP_EMBRYOS6, "IPv6", "udp", "embryo"),
    (names::UDP_FLOWS6, "IPv6", "udp", "established"),
];

impl Gauges {
    pub(super) fn new(
        tables: Current,
        instance: Instance,
        limit: u64,
        swept: watch::Receiver<Option<FlowCounts>>,
        source_ports: watch::Receiver<SnatReport>,
        hooks: watch::Receiver<Hooks>,
        host_routing: watch::Receiver<HostRoutingState>,
    ) -> Self {
        Self {
            tables,
            instance,
            limit,
            swept,
            source_ports,
            hooks,
            host_routing,
        }
    }

    /// How new flows go.
    pub fn host_routing(&self) -> HostRoutingState {
        self.host_routing.borrow().clone()
    }

    /// Source ports in use, at the last sweep.
    pub fn source_ports(&self) -> SnatReport {
        self.source_ports.borrow().clone()
    }

    /// What is known of the hooks.
    pub fn hooks(&self) -> Hooks {
        self.hooks.borrow().clone()
    }

    /// All counters.
    pub fn counters(&self) -> Result<Vec<CounterEntry>, DatapathError> {
        dump::counters_of(&self.tables.get())
    }

    /// Bytes that all maps take together when they are full, and bytes that they may grow to.
    pub fn memory(&self) -> Result<(u64, u64), DatapathError> {
        Ok((growth::bytes(&self.instance)?, self.limit))
    }

    /// How full the maps are; flow tables only once they were swept.
    pub fn fills(&self) -> Result<Vec<Fill>, DatapathError> {
        let tables = self.tables.get();
        let fill = |map, entries, capacity: u32| Fill {
            map,
            entries,
            capacity: u64::from(capacity),
        };
        let services = ids(&tables.identity)?;
        let mut fills = vec![
            fill(
                names::FRONTENDS4,
                count(&tables.frontends4)?,
                tables.frontends4.capacity(),
            ),
            fill(
                names::FRONTENDS6,
                count(&tables.frontends6)?,
                tables.frontends6.capacity(),
            ),
            fill(names::SERVICES, services.len() as u64, tables.services.len()),
            fill(names::SLOTS, slots(&tables, &services), tables.slots.len()),
            fill(names::BACKENDS, tables.backends.alive(), tables.backends.len()),
        ];
        if let Some(swept) = *self.swept.borrow() {
            let capacities = flow_capacities(&tables);
            let counts = FLOW_TABLES.iter().zip(swept.all).zip(capacities);
            fills.extend(counts.map(|(((map, ..), entries), capacity)| fill(map, entries, capacity)));
        }
        Ok(fills)
    }

    /// Flows that live, once they were swept.
    pub fn flows(&self) -> Vec<FlowFill> {
        let swept = *self.swept.borrow();
        let counts = swept.map(|swept| swept.live.into_iter().zip(swept.oldest));
        let tables = FLOW_TABLES.iter().zip(counts.into_iter().flatten());
        let tables = tables.map(
            |((_, family, protocol, state), (live, oldest_seconds))| FlowFill {
                family,
                protocol,
                state,
                live,
                oldest_seconds,
            },
        );
        tables.collect()
    }

    /// Established flows that were pushed out, once the tables were swept.
    pub fn pushed_out(&self) -> Vec<PushedOutFlows> {
        (*self.swept.borrow()).map_or_else(Vec::new, |swept| pushed_out(&swept))
    }

    /// How XDP takes part at the uplinks.
    pub fn xdp(&self) -> Result<Vec<XdpState>, DatapathError> {
        let uplinks = follow::known(&self.tables.get())?.into_values();
        let states = uplinks.map(|uplink| XdpState {
            interface: netlink::text(&uplink.name),
            mode: Way::of_byte(uplink.mode).map_or("tc", Way::name),
            reason: Reason::of_byte(uplink.reason).map_or("", Reason::word),
        });
        Ok(states.collect())
    }

    /// Service ports that drop because of a Local traffic policy, of IPv4 and of IPv6.
    pub fn idle(&self) -> Result<[Idle; 2], DatapathError> {
        let tables = self.tables.get();
        Ok([
            idle(&tables, &tables.frontends4)?,
            idle(&tables, &tables.frontends6)?,
        ])
    }
}

/// The tables of established flows with what sweeps have missed of them.
pub(super) fn pushed_out(swept: &FlowCounts) -> Vec<PushedOutFlows> {
    let tables = FLOW_TABLES.iter().filter(|(.., state)| *state == "established");
    let counts = tables.zip(swept.pushed_out);
    let rows = counts.map(|((map, family, protocol, _), flows)| PushedOutFlows {
        map,
        family,
        protocol,
        flows,
    });
    rows.collect()
}

fn idle<A: Addr>(
    tables: &Tables,
    frontends: &Map<FrontendKey<A>, FrontendValue>,
) -> Result<Idle, DatapathError>
where
    FrontendKey<A>: Layout,
{
    let mut reached: BTreeMap<ServiceId, (bool, bool)> = BTreeMap::new();
    each(frontends, |_, value| {
        let (inside, outside) = reached.entry(value.service).or_default();
        let is_cluster_ip = FrontendKind::from_byte(value.kind) == Some(FrontendKind::ClusterIp);
        *inside |= is_cluster_ip;
        *outside |= !is_cluster_ip;
    })?;
    let drops = |list: ListWord| list.count() == 0 && list.when_empty() == When::Drop;
    let mut idle = Idle::default();
    for (id, (inside, outside)) in reached {
        if let Some(service) = tables.services.get(id) {
            idle.internal += u64::from(inside && drops(service.internal));
            idle.external += u64::from(outside && drops(service.external));
        }
    }
    Ok(idle)
}

/// Slots that lists show.
fn slots(tables: &Tables, services: &[ServiceId]) -> u64 {
    let mut runs: BTreeMap<u32, u32> = BTreeMap::new();
    for service in services.iter().filter_map(|id| tables.services.get(*id)) {
        for list in [service.internal, service.external, service.shortcut] {
            let run = runs.entry(list.first()).or_default();
            *run = tables.slots.length(list).max(*run);
        }
    }
    runs.values().map(|count| u64::from(*count)).sum()
}

fn flow_capacities(tables: &Tables) -> [u32; 8] {
    let (four, six) = (&tables.flows4, &tables.flows6);
    [
        four.tcp_embryos.capacity(),
        four.tcp_flows.capacity(),
        four.udp_embryos.capacity(),
        four.udp_flows.capacity(),
        six.tcp_embryos.capacity(),
        six.tcp_flows.capacity(),
        six.udp_embryos.capacity(),
        six.udp_flows.capacity(),
    ]
}

fn count<K: Layout, V: Layout>(map: &Map<K, V>) -> Result<u64, DatapathError> {
    let mut entries = 0;
    each(map, |_, _| entries += 1)?;
    Ok(entries)
}

fn ids<V: Layout>(map: &Map<ServiceId, V>) -> Result<Vec<ServiceId>, DatapathError> {
    let mut ids = Vec::new();
    each(map, |id, _| ids.push(id))?;
    Ok(ids)
}

/// Slice by slice, so that a large map takes little memory.
fn each<K: Layout, V: Layout>(map: &Map<K, V>, mut body: impl FnMut(K, V)) -> Result<(), DatapathError> {
    let mut cursor = Cursor::default();
    loop {
        let (slice, end) = map.walk(&mut cursor)?;
        slice.into_iter().for_each(|(key, value)| body(key, value));
        if end {
            return Ok(());
        }
    }
}
