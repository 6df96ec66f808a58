//! The run loop: source -> model -> plan -> maps.

mod failure;
mod observe;
mod reconcile;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

use anyhow::Context;
pub use failure::{Cause, Failure};
pub use observe::Observer;
use proxy_common::layout::{Backend, BackendId, FrontendValue, Networks, ServiceId, Vip};
pub use reconcile::{Done, MapsFailed, Reconciler};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::name::ObjectName;
use crate::plan::{Capacity, Frontend, Mortal, Operation, Part, Shortage, Snapshot, Token};
use crate::source::Batch;

/// What stands at the Services' addresses, and ranges of addresses.
pub type Addresses = (Vec<(IpAddr, Vip)>, Networks);

/// What became of the wish for larger maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// They are larger.
    Made,
    /// They stay as they are, and why.
    Refused(String),
}

/// The maps, as the agent writes them.
pub trait MapWriter {
    /// Why a map could not be read or written.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Carries operations out in their order; stops at the first that fails.
    fn apply(&mut self, operations: &[Operation]) -> Result<(), Self::Error>;

    /// What the maps hold.
    fn snapshot(&mut self) -> Result<Snapshot, Self::Error>;

    /// A part of it, without ranges.
    fn part(&mut self, part: &Part) -> Result<Snapshot, Self::Error> {
        Ok(part.of(self.snapshot()?))
    }

    /// The backends of these ids that are or were in use.
    fn backends(&mut self, ids: Range<BackendId>) -> Result<Vec<(BackendId, Backend)>, Self::Error> {
        let mut backends = self.snapshot()?.backends;
        backends.retain(|(id, _)| ids.contains(id));
        Ok(backends)
    }

    /// All frontends.
    fn frontends(&mut self) -> Result<Vec<(Frontend, FrontendValue)>, Self::Error> {
        Ok(self.snapshot()?.frontends)
    }

    /// All source ranges, with the tags that they carry.
    fn ranges(&mut self) -> Result<Vec<(ServiceId, crate::plan::Range, u32)>, Self::Error> {
        Ok(self.snapshot()?.ranges)
    }

    /// What stands at the Services' addresses, and ranges of addresses.
    fn addresses(&mut self) -> Result<Addresses, Self::Error> {
        let snapshot = self.snapshot()?;
        Ok((snapshot.vips, snapshot.networks))
    }

    /// How much the maps can hold.
    fn capacity(&self) -> Capacity;

    /// Gives maps that were full more entries, if that may be. All that they hold stays where it is.
    fn make_room(&mut self, shortages: &[Shortage]) -> Result<Room, Self::Error>;

    /// Waits until every program that runs now has ended.
    fn wait_for_readers(&mut self) -> Result<(), Self::Error>;

    /// From now on the host's connections through these service ports of a Service end when their endpoint is gone, and
    /// through no others of it. The maps hold what is said of the endpoints.
    fn end_with_endpoints(&mut self, service: &ObjectName, ports: Vec<Mortal>);
}

/// How many sweeps of the flow tables have begun and ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweeps {
    /// Begun since the start.
    pub begun: u64,
    /// Ended since the start.
    pub ended: u64,
}

/// What the run loop waits for, besides changes.
pub struct Surroundings<G, O> {
    /// Batches of the source; its end ends the agent.
    pub batches: mpsc::Receiver<Batch>,
    /// Blocks for a grace period.
    pub grace: G,
    /// Sweeps of the flow tables.
    pub sweeps: watch::Receiver<Sweeps>,
    /// Each asks for a comparison of the maps with what they should hold.
    pub audits: mpsc::Receiver<()>,
    /// Is told how the loop gets on.
    pub observer: O,
}

/// Things taken away that rest.
#[derive(Debug, Default)]
struct Resting {
    /// Waiting for a grace period to begin.
    waiting: Option<Token>,
    /// The grace period that runs.
    grace: Option<(Token, JoinHandle<anyhow::Result<()>>)>,
    /// Past their grace period; to be swept by a sweep that had not begun then.
    unswept: Vec<(Token, u64)>,
}

impl Resting {
    fn add(&mut self, token: Option<Token>) {
        self.waiting = self.waiting.max(token);
    }

    /// One grace period at a time; what comes meanwhile shares the next.
    fn begin_grace<G>(&mut self, grace: &G)
    where
        G: Fn() -> anyhow::Result<()> + Clone + Send + 'static,
    {
        if self.grace.is_none()
            && let Some(token) = self.waiting.take()
        {
            let grace = grace.clone();
            self.grace = Some((token, tokio::task::spawn_blocking(grace)));
        }
    }

    /// The latest token whose sweep has ended.
    fn swept(&mut self, sweeps: Sweeps) -> Option<Token> {
        let swept = self
            .unswept
            .iter()
            .filter(|(_, begun)| sweeps.ended > *begun)
            .map(|(token, _)| *token)
            .max();
        self.unswept.retain(|(_, begun)| sweeps.ended <= *begun);
        swept
    }
}

/// Runs until the source ends; dropped, it leaves the maps as they are.
pub async fn run<M, G, O>(
    mut reconciler: Reconciler<M>,
    surroundings: Surroundings<G, O>,
) -> anyhow::Result<()>
where
    M: MapWriter,
    O: Observer,
    G: Fn() -> anyhow::Result<()> + Clone + Send + 'static,
{
    let Surroundings {
        mut batches,
        grace,
        mut sweeps,
        mut audits,
        mut observer,
    } = surroundings;
    let mut resting = Resting::default();
    let mut news = News::default();
    loop {
        resting.begin_grace(&grace);
        let retry = reconciler.next_retry();
        // What is short comes first, so that no storm of changes keeps it waiting.
        let done = tokio::select! {
            biased;
            passed = passed(&mut resting.grace) => {
                let token = passed.context("waiting for a grace period")?;
                reconciler.grace_passed(token);
                resting.unswept.push((token, sweeps.borrow().begun));
                Done::default()
            }
            Ok(()) = sweeps.changed() => match resting.swept(*sweeps.borrow_and_update()) {
                Some(token) => reconciler.swept(token)?,
                None => Done::default(),
            },
            () = until(retry) => reconciler.retry(Instant::now())?,
            Some(()) = audits.recv(), if reconciler.is_settled() => {
                reconciler.begin_audit();
                Done::default()
            }
            batch = batches.recv() => {
                let Some(batch) = batch else { return Ok(()) };
                let batch = with_later(batch, &mut batches);
                observer.took(&batch);
                take(&mut reconciler, batch, &mut news)?
            }
            () = std::future::ready(()), if reconciler.has_more() => reconciler.go_on()?,
            // Others get their turn between two slices.
            () = tokio::task::yield_now(), if reconciler.is_auditing() => match reconciler.go_on_with_audit()? {
                Some((differences, done)) => {
                    observer.audited(&differences);
                    done
                }
                None => Done::default(),
            },
        };
        reconciler.end_connections();
        resting.add(done.token);
        news.operations += done.operations;
        news.failed += done.failed;
        observer.did(&done);
        for warning in reconciler.warnings() {
            let uid = warning.service().and_then(|service| reconciler.uid(service));
            observer.warned(&warning, uid);
        }
        for failure in reconciler.failures() {
            observer.failed(&failure);
        }
        let health_checks = reconciler.health_check_changes();
        if !health_checks.is_empty() {
            observer.health_checks(&health_checks);
        }
        if !reconciler.has_more() {
            observer.hint_fallbacks(reconciler.hint_fallbacks());
            observer.unknown_ranges(reconciler.unknown_ranges());
            observer.settled(reconciler.failed_services());
            news.tell();
        }
    }
}

/// A batch, and with it all that arrived meanwhile.
fn with_later(mut batch: Batch, batches: &mut mpsc::Receiver<Batch>) -> Batch {
    while let Ok(later) = batches.try_recv() {
        batch.append(later);
    }
    batch
}

/// Takes a batch over.
fn take<M: MapWriter>(reconciler: &mut Reconciler<M>, batch: Batch, news: &mut News) -> anyhow::Result<Done> {
    for refusal in &batch.refusals {
        tracing::warn!(file = refusal.file, error = %refusal, "refused");
    }
    news.files.extend(batch.files);
    news.changes += batch.changes.len();
    news.is_synced = true;
    Ok(reconciler.take(batch.changes, batch.has_unread_files)?)
}

/// What others wait for: told once it is in the maps as a whole.
#[derive(Debug, Default)]
struct News {
    files: BTreeSet<String>,
    changes: usize,
    operations: usize,
    failed: usize,
    is_synced: bool,
    is_ready: bool,
}

impl News {
    fn tell(&mut self) {
        let operations = std::mem::take(&mut self.operations);
        let failed = std::mem::take(&mut self.failed);
        let changes = std::mem::take(&mut self.changes);
        if !self.files.is_empty() {
            let files: Vec<String> = std::mem::take(&mut self.files).into_iter().collect();
            tracing::info!(files = files.join(","), operations, failed, "applied");
        } else if changes != 0 {
            // A cluster's changes are too many to tell of each.
            tracing::debug!(changes, operations, failed, "applied");
        }
        if self.is_synced && !std::mem::replace(&mut self.is_ready, true) {
            tracing::info!("ready");
        }
    }
}

/// The end of the grace period that runs; never, if none does.
async fn passed(grace: &mut Option<(Token, JoinHandle<anyhow::Result<()>>)>) -> anyhow::Result<Token> {
    let Some((token, task)) = grace else {
        return std::future::pending().await;
    };
    let token = *token;
    let result = task.await;
    *grace = None;
    result.context("the task ended")??;
    Ok(token)
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
