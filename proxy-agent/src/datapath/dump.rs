//! What an instance's pinned maps hold, as plain data for the command line.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use proxy_common::layout::{
    Action, Addr, BackendId, ChoiceRule, Config, Counter, Direction, Flow, FlowKey, FrontendKind,
    HintFallback, ListWord, Port, When, protocol, state,
};
use proxy_common::rules::lifetime;
use serde::Serialize;

use super::clock::Clock;
use super::error::DatapathError;
use super::instance::Instance;
use super::snapshot;
use super::snat::{SnatUse, Tally};
use super::sys::Layout;
use super::tables::{FlowTables, Tables};
use crate::plan::{Capacity, Forwarding, Snapshot};

/// A service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceEntry {
    /// Its id: index into SERVICES.
    pub id: u32,
    /// `namespace/name` or `namespace/name:port`.
    pub name: String,
    /// Where it is reached.
    pub frontends: Vec<FrontendEntry>,
    /// The list for the ClusterIP.
    pub internal: ListEntry,
    /// The list for calls from outside.
    pub external: ListEntry,
    /// The list for calls of this node to the outside addresses.
    pub shortcut: ListEntry,
    /// How packets from outside go to backends of other nodes: `snat` or `dsr`. With `dsr`, calls of this node use the list for
    /// calls from outside, and the shortcut list is this node's backends, for what other nodes hand on.
    pub forwarding: &'static str,
    /// Seconds for which a client keeps its backend; 0: not at all.
    pub affinity_seconds: u32,
    /// Why its topology hints are not followed, and all endpoints used; none: there are none, or they are.
    pub hints_not_followed: Option<String>,
}

/// Where a service port is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FrontendEntry {
    /// The address; unspecified: every node address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalIP`.
    pub kind: &'static str,
}

/// One list of backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListEntry {
    /// Backend ids in the order of the slots.
    pub backends: Vec<u32>,
    /// How one of them is chosen: `random`, `weighted`, `maglev` or `least-connections`.
    pub choice: &'static str,
    /// What happens to a new flow if there are none: `reject`, `drop` or `pass`.
    pub when_empty: &'static str,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendEntry {
    /// Its id: index into BACKENDS.
    pub id: u32,
    /// The endpoint's address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// The service port that owns it.
    pub service: u32,
    /// On this node.
    pub local: bool,
    /// Serves new flows.
    pub alive: bool,
    /// Which use of the id it is.
    pub generation: u32,
    /// How many connections and UDP exchanges it has through packets of this node, closing ones left out.
    pub connections: u32,
}

/// One direction of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowEntry {
    /// `embryo` or `established`.
    pub table: &'static str,
    /// `forward` (from the client) or `reverse` (from the backend).
    pub direction: &'static str,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Source as the packet arrives.
    pub source: SocketAddr,
    /// Destination as the packet arrives.
    pub destination: SocketAddr,
    /// Source as the packet leaves.
    pub new_source: SocketAddr,
    /// Destination as the packet leaves.
    pub new_destination: SocketAddr,
    /// `stack`, `redirect`, `hairpin` or `foreign`.
    pub action: &'static str,
    /// The service port.
    pub service: u32,
    /// The backend.
    pub backend: u32,
    /// The backend's generation when the flow was made.
    pub generation: u32,
    /// `replied`, `established`, `fin-forward`, `fin-reverse`, `reset`, `joined`.
    pub state: Vec<&'static str>,
    /// Seconds since it was last seen, at most one too many.
    pub idle_seconds: u32,
    /// Seconds until it does not exist any more without traffic; 0: expired, its memory not yet taken back.
    pub expires_seconds: u32,
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CounterEntry {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether it counts drops and refusals.
    pub drop: bool,
    /// The count over all CPUs since the maps were made.
    pub value: u64,
}

/// All that an instance's maps hold of Services.
pub fn snapshot(instance: &Path) -> Result<Snapshot, DatapathError> {
    snapshot::read(&Tables::open(&Instance::new(instance))?)
}

/// The same, with how much the maps can hold, and with CONFIG.
pub fn installed(instance: &Path) -> Result<(Snapshot, Capacity, Config), DatapathError> {
    let tables = Tables::open(&Instance::new(instance))?;
    let config = tables.config.get(&0)?.unwrap_or_default();
    Ok((snapshot::read(&tables)?, snapshot::capacity(&tables), config))
}

/// The service ports of an instance and where they are reached.
pub fn services(instance: &Path) -> Result<Vec<ServiceEntry>, DatapathError> {
    let tables = Tables::open(&Instance::new(instance))?;
    let mut frontends: BTreeMap<u32, Vec<FrontendEntry>> = BTreeMap::new();
    for (frontend, value) in snapshot::frontends(&tables)? {
        frontends.entry(value.service.0).or_default().push(FrontendEntry {
            address: frontend.address,
            port: frontend.port.number(),
            protocol: protocol_name(frontend.protocol),
            kind: FrontendKind::from_byte(value.kind).map_or("unknown", kind_name),
        });
    }
    let mut identities = tables.identity.entries()?;
    identities.sort_unstable_by_key(|(id, _)| *id);
    let entries = identities.iter().filter_map(|(id, identity)| {
        let service = tables.services.get(*id)?;
        Some(ServiceEntry {
            id: id.0,
            name: identity.name.as_str().to_owned(),
            frontends: frontends.remove(&id.0).unwrap_or_default(),
            internal: list(&tables, service.internal),
            external: list(&tables, service.external),
            shortcut: list(&tables, service.shortcut),
            forwarding: match service.affinity.hands_on() {
                true => Forwarding::Dsr.name(),
                false => Forwarding::Snat.name(),
            },
            affinity_seconds: service.affinity.seconds(),
            hints_not_followed: HintFallback::from_fields(identity.hint_fallback, identity.without_hints)
                .map(|why| why.to_string()),
        })
    });
    Ok(entries.collect())
}

fn list(tables: &Tables, word: ListWord) -> ListEntry {
    ListEntry {
        backends: tables
            .slots
            .get(word.first(), word.count())
            .into_iter()
            .map(|id| id.0)
            .collect(),
        choice: match word.rule() {
            ChoiceRule::Random => "random",
            ChoiceRule::Weighted => "weighted",
            ChoiceRule::Maglev => "maglev",
            ChoiceRule::LeastConnections => "least-connections",
        },
        when_empty: match word.when_empty() {
            _ if word.count() > 0 => "",
            When::Reject => "reject",
            When::Drop => "drop",
            When::Pass => "pass",
        },
    }
}

/// The backends of an instance that are or were in use.
pub fn backends(instance: &Path) -> Result<Vec<BackendEntry>, DatapathError> {
    let tables = Tables::open(&Instance::new(instance))?;
    let loads: HashMap<BackendId, i32> = tables.loads.entries()?.into_iter().collect();
    let entries = tables
        .backends
        .used()
        .into_iter()
        .map(|(id, backend)| BackendEntry {
            id: id.0,
            address: snapshot::ip(backend.address),
            port: backend.port.number(),
            protocol: protocol_name(backend.protocol),
            service: backend.service.0,
            local: backend.is_local(),
            alive: backend.is_alive(),
            generation: backend.life.max(backend.last_life),
            connections: loads.get(&id).map_or(0, |load| (*load).max(0).unsigned_abs()),
        });
    Ok(entries.collect())
}

/// The flows of an instance, both directions of each.
pub fn flows(instance: &Path) -> Result<Vec<FlowEntry>, DatapathError> {
    let tables = Tables::open(&Instance::new(instance))?;
    let clock = Clock::new()?;
    let judge = Judge {
        config: tables.config.get(&0)?.unwrap_or_default(),
        now: clock.now()?,
    };
    let mut entries = Vec::new();
    judge.family(&tables.flows4, &mut entries)?;
    judge.family(&tables.flows6, &mut entries)?;
    entries.sort_unstable_by_key(|entry| (entry.protocol, entry.source, entry.destination, entry.direction));
    Ok(entries)
}

/// Source ports in use towards each destination of an instance, those that use the most first.
pub fn source_ports(instance: &Path) -> Result<Vec<SnatUse>, DatapathError> {
    let tables = Tables::open(&Instance::new(instance))?;
    let judge = Judge {
        config: tables.config.get(&0)?.unwrap_or_default(),
        now: Clock::new()?.now()?,
    };
    let mut tally = Tally::default();
    judge.tally(&tables.flows4, &mut tally)?;
    judge.tally(&tables.flows6, &mut tally)?;
    tally.all(&judge.config, &tables)
}

/// All counters of an instance.
pub fn counters(instance: &Path) -> Result<Vec<CounterEntry>, DatapathError> {
    counters_of(&Tables::open(&Instance::new(instance))?)
}

pub(super) fn counters_of(tables: &Tables) -> Result<Vec<CounterEntry>, DatapathError> {
    let counters = (0..tables.counters.capacity()).zip(Counter::ALL);
    let entries = counters.map(|(index, counter)| {
        Ok(CounterEntry {
            name: counter.name(),
            help: counter.help().trim(),
            drop: counter.is_drop(),
            value: tables.counters.sum(index)?,
        })
    });
    entries.collect()
}

struct Judge {
    config: Config,
    now: u32,
}

impl Judge {
    fn family<A: Addr>(
        &self,
        tables: &FlowTables<A>,
        entries: &mut Vec<FlowEntry>,
    ) -> Result<(), DatapathError>
    where
        FlowKey<A>: Layout,
        Flow<A>: Layout,
    {
        let named = [
            ("embryo", &tables.tcp_embryos),
            ("established", &tables.tcp_flows),
            ("embryo", &tables.udp_embryos),
            ("established", &tables.udp_flows),
        ];
        for (table, map) in named {
            entries.extend(
                map.entries()?
                    .iter()
                    .map(|(key, flow)| self.entry(table, key, flow)),
            );
        }
        Ok(())
    }

    fn tally<A: Addr>(&self, tables: &FlowTables<A>, tally: &mut Tally) -> Result<(), DatapathError>
    where
        FlowKey<A>: Layout,
        Flow<A>: Layout,
    {
        for map in [
            &tables.tcp_embryos,
            &tables.tcp_flows,
            &tables.udp_embryos,
            &tables.udp_flows,
        ] {
            for (key, flow) in map.entries()? {
                if !lifetime::expired(&self.config, key.protocol, flow.meta, self.now) {
                    tally.met(&self.config, &key, &flow);
                }
            }
        }
        Ok(())
    }

    fn entry<A: Addr>(&self, table: &'static str, key: &FlowKey<A>, flow: &Flow<A>) -> FlowEntry {
        let seconds = |ticks: u32| ticks / self.config.ticks_per_second.max(1);
        let age = lifetime::age(flow.meta, self.now);
        let life = lifetime::of(&self.config, key.protocol, flow.meta.state());
        FlowEntry {
            table,
            direction: Direction::from_byte(key.direction).map_or("unknown", direction_name),
            protocol: protocol_name(key.protocol),
            source: socket_address(key.source, key.source_port),
            destination: socket_address(key.destination, key.destination_port),
            new_source: socket_address(flow.source, flow.source_port),
            new_destination: socket_address(flow.destination, flow.destination_port),
            action: Action::from_byte(flow.action).map_or("unknown", action_name),
            service: flow.service.0,
            backend: flow.backend.0,
            generation: flow.generation,
            state: state_names(flow.meta.state()),
            idle_seconds: seconds(age),
            expires_seconds: seconds(life.saturating_sub(age)),
        }
    }
}

pub(super) fn socket_address<A: Addr>(address: A, port: Port) -> SocketAddr {
    SocketAddr::new(snapshot::ip(address), port.number())
}

fn state_names(bits: u8) -> Vec<&'static str> {
    let names = [
        (state::REPLIED, "replied"),
        (state::ESTABLISHED, "established"),
        (state::FIN_FORWARD, "fin-forward"),
        (state::FIN_REVERSE, "fin-reverse"),
        (state::RESET, "reset"),
        (state::JOINED, "joined"),
    ];
    names
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| *name)
        .collect()
}

pub(super) fn protocol_name(number: u8) -> &'static str {
    match number {
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::SCTP => "sctp",
        _ => "unknown",
    }
}

fn kind_name(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "ClusterIP",
        FrontendKind::NodePort => "NodePort",
        FrontendKind::LoadBalancer | FrontendKind::GuardedLoadBalancer => "LoadBalancer",
        FrontendKind::ExternalIp => "ExternalIP",
    }
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
    }
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Stack => "stack",
        Action::Redirect => "redirect",
        Action::Hairpin => "hairpin",
        Action::Foreign => "foreign",
        Action::Encapsulate => "encapsulate",
        Action::Bypass => "bypass",
    }
}
