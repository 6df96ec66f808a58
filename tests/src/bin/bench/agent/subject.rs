//! One agent that is measured: model, planner and the kernel's maps, with the programs loaded and attached.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::time::{ClockId, clock_gettime};
use proxy_agent::agent::{MapWriter, Reconciler, Room};
use proxy_agent::datapath::{Datapath, DatapathOptions, cleanup};
use proxy_agent::name::ObjectName;
use proxy_agent::plan::{Capacity, Mortal, Operation, Shortage, Snapshot, Token, Writes};
use proxy_agent::source::{Change, share};
use serde::{Deserialize, Serialize};

use super::objects::{NODE, Size, read_slice};
use crate::usage::Usage;

/// Room for 262,144 backends, whatever the node's memory.
const MEMORY: u64 = 320 << 20;
/// Changes between two grace periods, where there is room for so many old lists beside the new ones.
const RESTING: u32 = 64;

/// What it is to do.
#[derive(Args)]
pub(crate) struct Subject {
    #[arg(long)]
    services: u32,
    #[arg(long)]
    endpoints: u32,
    #[arg(long)]
    changes: u32,
    #[arg(long)]
    instance: PathBuf,
    #[arg(long)]
    cgroup: PathBuf,
}

/// Times in milliseconds, memory in MiB.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) complete: Span,
    /// The same without maps.
    pub(super) planned: Span,
    pub(super) calls: usize,
    pub(super) stores: usize,
    pub(super) change_p50: f64,
    pub(super) change_p99: f64,
    pub(super) change_longest: f64,
    pub(super) change_writes: usize,
    pub(super) change_calls: usize,
    pub(super) change_services: usize,
    pub(super) objects: f64,
    pub(super) peak: f64,
    pub(super) mapped: f64,
    pub(super) maps: f64,
}

/// Milliseconds that pass, and those of them in which this thread has a CPU: the rest is the machine's other work.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Span {
    pub(super) wall: f64,
    pub(super) cpu: f64,
}

impl Span {
    fn of<T>(work: impl FnOnce() -> T) -> Result<(Self, T)> {
        let cpu = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("the thread's CPU time");
        let (begin, cpu_begin) = (Instant::now(), Duration::from(cpu()?));
        let result = work();
        let (wall, cpu) = (begin.elapsed(), Duration::from(cpu()?) - cpu_begin);
        let span = Self {
            wall: milliseconds(wall),
            cpu: milliseconds(cpu),
        };
        Ok((span, result))
    }
}

impl Subject {
    /// Measures and prints.
    pub(crate) fn run(&self) -> Result<()> {
        let measured = self.measure();
        let removed = cleanup::run(&self.instance).context("cleaning up");
        println!("{}", serde_json::to_string(&measured?)?);
        removed.map(drop)
    }

    fn measure(&self) -> Result<Measured> {
        let size = Size {
            services: self.services,
            endpoints: self.endpoints,
        };
        let datapath = Datapath::start(&DatapathOptions {
            memory: Some(MEMORY),
            ..DatapathOptions::new(self.instance.clone(), self.cgroup.clone())
        })?;
        let capacity = datapath.capacity();
        let objects = size.objects()?;
        let usage = Usage::of_this()?;
        let mut reconciler = Reconciler::start(NODE, datapath)?;
        let copy = objects.clone();
        let (complete, done) = Span::of(|| reconciler.take(copy, false))?;
        let done = done?;
        ensure!(done.failed == 0, "{} Services did not fit", done.failed);
        ensure!(done.services == self.services as usize, "{done:?}");
        let mut measured = Measured {
            complete,
            planned: Span::default(),
            calls: done.writes.calls,
            stores: done.writes.stores,
            change_p50: 0.0,
            change_p99: 0.0,
            change_longest: 0.0,
            change_writes: 0,
            change_calls: 0,
            change_services: 0,
            objects: usage.now,
            peak: 0.0,
            mapped: 0.0,
            maps: 0.0,
        };
        self.change(size, &mut reconciler, &mut measured)?;
        let usage = Usage::of_this()?;
        (measured.peak, measured.mapped, measured.maps) = (usage.peak, usage.mapped, usage.maps);
        drop(reconciler);
        // Last, for it takes memory as well.
        let mut on_paper = Reconciler::start(NODE, Paper(capacity))?;
        let (planned, done) = Span::of(|| on_paper.take(objects, false))?;
        done?;
        measured.planned = planned;
        Ok(measured)
    }

    /// One endpoint's change after the other, each from what the API sends to the maps.
    fn change(
        &self,
        size: Size,
        reconciler: &mut Reconciler<Datapath>,
        measured: &mut Measured,
    ) -> Result<()> {
        let mut times = Vec::new();
        let mut token: Option<Token> = None;
        let room = reconciler.maps().capacity().slots / size.endpoints;
        let resting = RESTING.min((room / 2).max(1));
        for number in 0..self.changes {
            // Far from one to the next, and back again.
            let place = u64::from(number / 2) * 7919;
            let service = (place % u64::from(size.services)) as u32;
            let part = (place / u64::from(size.services) % u64::from(size.slices())) as u32;
            let text = size.slice(service, part, number % 2 == 0);
            let begin = Instant::now();
            let mut object = read_slice(&text)?;
            share([&mut object]);
            let done = reconciler.take(vec![Change::Upsert(object)], false)?;
            reconciler.end_connections();
            times.push(milliseconds(begin.elapsed()));
            ensure!(done.writes != Writes::default(), "nothing changed: {done:?}");
            measured.change_writes = measured.change_writes.max(done.writes.all());
            measured.change_calls = measured.change_calls.max(done.writes.calls);
            measured.change_services = measured.change_services.max(done.services);
            token = token.max(done.token);
            if number % resting == resting - 1
                && let Some(token) = token.take()
            {
                reconciler.maps().wait_for_readers()?;
                reconciler.grace_passed(token);
            }
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get(((times.len() - 1) as f64 * share) as usize).copied();
        measured.change_p50 = at(0.5).unwrap_or_default();
        measured.change_p99 = at(0.99).unwrap_or_default();
        measured.change_longest = at(1.0).unwrap_or_default();
        Ok(())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Maps that nothing is written to: what is left is the agent's own work.
#[derive(Debug)]
struct Paper(Capacity);

impl MapWriter for Paper {
    type Error = Infallible;

    fn apply(&mut self, _: &[Operation]) -> Result<(), Infallible> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot, Infallible> {
        Ok(Snapshot::default())
    }

    fn capacity(&self) -> Capacity {
        self.0
    }

    fn make_room(&mut self, _: &[Shortage]) -> Result<Room, Infallible> {
        Ok(Room::Refused("paper does not grow".to_owned()))
    }

    fn wait_for_readers(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn end_with_endpoints(&mut self, _: &ObjectName, _: Vec<Mortal>) {}
}
