//! Gives the memory of expired flows back, in bounded slices. Nothing depends on it for correctness: an expired entry
//! does not exist, whether it was swept or not.

use std::sync::Arc;

use foldhash::HashMap;
use proxy_common::layout::{Action, Addr, Affinity, BackendId, Config, Direction, Flow, FlowKey};
use proxy_common::rules::{client, lifetime, load};
use tokio::sync::watch;

use super::clock::Clock;
use super::error::DatapathError;
use super::grace::Grace;
use super::host_routing;
use super::map::{Cursor, Map};
use super::pushed_out::{PushedOut, is_full};
use super::release::{Candidates, Released};
use super::size::possible_cpus;
use super::snat::{SnatReport, Tally};
use super::sys::Layout;
use super::tables::{FlowTables, Tables};

/// Only what expired this long ago is deleted: a program that is about to revive an entry has long finished.
const MARGIN_SECONDS: u32 = 60;
/// The longest time of session affinity that Kubernetes allows.
const LONGEST_AFFINITY: u32 = 86_400;
/// Flow tables of a family.
const TABLES: usize = 4;
/// Tables of established flows: those with odd numbers.
pub(super) const ESTABLISHED: usize = TABLES;
/// What follows the flow tables in a sweep.
const AFFINITY: usize = 2 * TABLES;
const END: usize = AFFINITY + 2;

/// A sweep that goes on slice by slice.
pub(super) struct Sweeper {
    tables: Arc<Tables>,
    released: Arc<Released>,
    grace: Grace,
    clock: Clock,
    running: Option<Sweep>,
    pushed_out: [PushedOut; ESTABLISHED],
    cpus: u64,
    source_ports: watch::Sender<SnatReport>,
}

/// Where a sweep stands.
#[derive(Default)]
struct Sweep {
    /// 0..4 IPv4, 4..8 IPv6, each in the order of the tables: embryos before flows, so that a flow promoted meanwhile
    /// is met at least once. Then AFFINITY and NAMESPACES.
    table: usize,
    cursor: Cursor,
    unused: Candidates,
    counts: FlowCounts,
    /// How many connections each backend has.
    loads: HashMap<BackendId, i32>,
    source_ports: Tally,
    /// The tick at which it began.
    begun: u32,
    /// No new flow went around the stack when it began, though some may be there from before.
    looks_for_bypassed: bool,
    /// It has met one that lives.
    has_bypassed: bool,
}

/// Entries of the flow tables that a whole sweep met, in its order of the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FlowCounts {
    /// Those whose time is not up.
    pub(super) live: [u64; 2 * TABLES],
    /// All that are in the tables now.
    pub(super) all: [u64; 2 * TABLES],
    /// Seconds for which the one of those that live was not used that was not used for longest.
    pub(super) oldest: [u32; 2 * TABLES],
    /// Established flows that were pushed out before their time, since the agent's start: a table of IPv4 and TCP, of IPv4 and
    /// UDP, of IPv6 and TCP, of IPv6 and UDP.
    pub(super) pushed_out: [u64; ESTABLISHED],
}

/// What a slice did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// Entries deleted.
    pub(super) deleted: usize,
    /// Bits of PREFILTER cleared.
    pub(super) cleared: usize,
    /// The sweep is over.
    pub(super) end: bool,
    /// What the sweep met so far.
    pub(super) counts: FlowCounts,
}

impl Sweeper {
    pub(super) fn new(
        tables: Arc<Tables>,
        released: Arc<Released>,
        grace: Grace,
    ) -> Result<Self, DatapathError> {
        Ok(Self {
            tables,
            released,
            grace,
            clock: Clock::new()?,
            running: None,
            pushed_out: Default::default(),
            cpus: possible_cpus()?,
            source_ports: watch::Sender::default(),
        })
    }

    /// Other tables: what was swept of these does not count.
    pub(super) fn go_on_with(&mut self, tables: Arc<Tables>) {
        self.tables = tables;
        self.running = None;
    }

    /// Whether a sweep has begun and not ended.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// What each whole sweep finds of source ports.
    pub(super) fn source_ports(&self) -> watch::Receiver<SnatReport> {
        self.source_ports.subscribe()
    }

    /// Goes on with the sweep, or begins one.
    pub(super) fn slice(&mut self) -> Result<Swept, DatapathError> {
        let mut sweep = match self.running.take() {
            Some(sweep) => sweep,
            None => self.begin()?,
        };
        let judge = Judge {
            config: self.tables.config.get(&0)?.unwrap_or_default(),
            now: self.clock.now()?,
        };
        let (deleted, end) = if sweep.table < TABLES {
            judge.sweep(&self.tables.flows4, sweep.table, &mut sweep, &mut self.pushed_out)?
        } else if sweep.table < 2 * TABLES {
            judge.sweep(
                &self.tables.flows6,
                sweep.table - TABLES,
                &mut sweep,
                &mut self.pushed_out,
            )?
        } else if sweep.table == AFFINITY {
            let life = LONGEST_AFFINITY;
            judge.sweep_seen(&self.tables.affinity, life, Affinity::seen, &mut sweep)?
        } else {
            let life = client::BELIEVED;
            judge.sweep_seen(&self.tables.namespaces, life, |known| known.seen, &mut sweep)?
        };
        let mut swept = Swept {
            deleted,
            counts: sweep.counts,
            ..Swept::default()
        };
        if end {
            sweep.table += 1;
            sweep.cursor = Cursor::default();
        }
        if sweep.table < END {
            self.running = Some(sweep);
        } else {
            self.settle(&sweep.loads)?;
            self.count_pushed_out(&judge, sweep.begun, &mut swept.counts);
            let report = sweep.source_ports.report(&judge.config, &self.tables)?;
            self.source_ports.send_replace(report);
            if sweep.looks_for_bypassed && !sweep.has_bypassed {
                host_routing::forget_bypassed(&self.tables)?;
            }
            swept.cleared = self.released.clear(&self.tables.prefilter, &sweep.unused);
            swept.end = true;
        }
        Ok(swept)
    }

    /// Programs count connections that they see begin and end: what expired or was pushed out is mended here.
    fn settle(&self, loads: &HashMap<BackendId, i32>) -> Result<(), DatapathError> {
        let table = &self.tables.loads;
        let mut cursor = Cursor::default();
        loop {
            let (entries, end) = table.walk(&mut cursor)?;
            for (id, load) in entries {
                let counted = loads.get(&id).copied().unwrap_or_default();
                if load != counted {
                    table.put(&id, &counted)?;
                }
            }
            if end {
                return Ok(());
            }
        }
    }

    fn count_pushed_out(&mut self, judge: &Judge, begun: u32, counts: &mut FlowCounts) {
        let (four, six) = (&self.tables.flows4, &self.tables.flows6);
        let capacities = [
            four.tcp_flows.capacity(),
            four.udp_flows.capacity(),
            six.tcp_flows.capacity(),
            six.udp_flows.capacity(),
        ];
        let entries = counts.all.into_iter().skip(1).step_by(2);
        let tables = self.pushed_out.iter_mut().zip(&mut counts.pushed_out);
        for (((table, total), capacity), entries) in tables.zip(capacities).zip(entries) {
            let is_full = is_full(entries, capacity, self.cpus);
            *total = table.end(&judge.config, begun, judge.now, is_full);
        }
    }

    /// The candidates come first, then the grace period: a program that still saw the frontend or backend of a
    /// released bit has made its flow before the first slice.
    fn begin(&mut self) -> Result<Sweep, DatapathError> {
        let unused = self.released.candidates();
        let config = self.tables.config.get(&0)?.unwrap_or_default();
        let looks_for_bypassed = config.has_bypassed() && !config.is_fast();
        if looks_for_bypassed || self.released.any() {
            self.grace.wait()?;
        }
        self.pushed_out.iter_mut().for_each(PushedOut::begin);
        Ok(Sweep {
            unused,
            begun: self.clock.now()?,
            looks_for_bypassed,
            ..Sweep::default()
        })
    }
}

struct Judge {
    config: Config,
    now: u32,
}

impl Judge {
    fn sweep<A: Addr>(
        &self,
        tables: &FlowTables<A>,
        table: usize,
        sweep: &mut Sweep,
        pushed_out: &mut [PushedOut; ESTABLISHED],
    ) -> Result<(usize, bool), DatapathError>
    where
        FlowKey<A>: Layout,
        Flow<A>: Layout,
    {
        let order = [
            &tables.tcp_embryos,
            &tables.tcp_flows,
            &tables.udp_embryos,
            &tables.udp_flows,
        ];
        let Some(map) = order.get(table) else {
            return Ok((0, true));
        };
        let Some(standing) = pushed_out.get_mut(sweep.table / 2) else {
            return Ok((0, true));
        };
        let (entries, end) = map.walk(&mut sweep.cursor)?;
        let mut deleted = 0;
        for (key, flow) in entries {
            let mut is_there = true;
            standing.met(&key);
            if !lifetime::expired(&self.config, key.protocol, flow.meta, self.now) {
                sweep.unused.met(&key, &flow);
                if sweep.table % 2 == 1 {
                    standing.stands(&self.config, &key, &flow, self.now);
                }
                sweep.source_ports.met(&self.config, &key, &flow);
                sweep.has_bypassed |= flow.action == Action::Bypass as u8;
                if key.direction == Direction::Forward as u8 && load::counts(flow.meta.state()) {
                    *sweep.loads.entry(flow.backend).or_default() += 1;
                }
                sweep.counts.live[sweep.table] += 1;
                let age = lifetime::age(flow.meta, self.now) / self.config.ticks_per_second.max(1);
                let oldest = &mut sweep.counts.oldest[sweep.table];
                *oldest = age.max(*oldest);
            } else if self.is_long_gone(&key, &flow) {
                is_there = !self.delete(map, &key)?;
                deleted += usize::from(!is_there);
            }
            sweep.counts.all[sweep.table] += u64::from(is_there);
        }
        Ok((deleted, end))
    }

    /// What was last seen longer ago than it can count, in seconds: it must be gone before the clock comes round.
    fn sweep_seen<K: Layout, V: Layout>(
        &self,
        map: &Map<K, V>,
        life: u32,
        seen: impl Fn(&V) -> u32,
        sweep: &mut Sweep,
    ) -> Result<(usize, bool), DatapathError> {
        let life = (life + MARGIN_SECONDS) * self.config.ticks_per_second;
        let is_over = |value: &V| lifetime::since(seen(value), self.now) > life;
        let (entries, end) = map.walk(&mut sweep.cursor)?;
        let mut deleted = 0;
        for (key, value) in entries {
            if is_over(&value) && map.get(&key)?.is_some_and(|value| is_over(&value)) {
                deleted += usize::from(map.remove(&key)?);
            }
        }
        Ok((deleted, end))
    }

    fn is_long_gone<A: Addr>(&self, key: &FlowKey<A>, flow: &Flow<A>) -> bool {
        let life = lifetime::of(&self.config, key.protocol, flow.meta.state());
        let margin = MARGIN_SECONDS * self.config.ticks_per_second;
        lifetime::age(flow.meta, self.now) > life.saturating_add(margin)
    }

    /// Deletes an entry if it is still as it was: since it was read, it may have become another flow's.
    fn delete<A: Addr>(&self, map: &Map<FlowKey<A>, Flow<A>>, key: &FlowKey<A>) -> Result<bool, DatapathError>
    where
        FlowKey<A>: Layout,
        Flow<A>: Layout,
    {
        match map.get(key)? {
            Some(flow) if self.is_long_gone(key, &flow) => Ok(map.remove(key)?),
            _ => Ok(false),
        }
    }
}
