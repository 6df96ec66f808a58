//! The thread that does what has time: sweeps the flow tables and ends sockets to gone backends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use proxy_common::layout::{Backend, BackendId};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::gauges::pushed_out;
use super::release::Released;
use super::sockets::{self, Living};
use super::sweep::{FlowCounts, Sweeper};
use super::tables::Tables;
use crate::agent::Sweeps;
use crate::name::ObjectName;
use crate::plan::Mortal;

/// Between two slices of a sweep.
const SLICE: Duration = Duration::from_millis(50);
/// Between two sweeps.
const PAUSE: Duration = Duration::from_secs(30);
/// Between two sweeps while released bits wait.
const SHORT_PAUSE: Duration = Duration::from_secs(5);

/// What the janitor is told.
#[derive(Debug)]
pub(super) enum Errand {
    /// A UDP backend serves no more.
    Gone(BackendId, Backend),
    /// Maps grow: rest until the other end says with which tables to go on, or that it goes on with these.
    Rest(Rest),
    /// Connections through these service ports of a Service end with their endpoints, and through no others of it.
    EndWithEndpoints(ObjectName, Vec<Mortal>),
}

/// A pause in which nothing is read or written.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) rests: Sender<()>,
    pub(super) go_on: Receiver<Arc<Tables>>,
}

/// Everything that the janitor needs.
pub(super) struct Janitor {
    pub(super) tables: Arc<Tables>,
    pub(super) released: Arc<Released>,
    pub(super) sweeper: Sweeper,
    pub(super) errands: Receiver<Errand>,
    pub(super) mortal: BTreeMap<ObjectName, Vec<Mortal>>,
    pub(super) sweeps: watch::Sender<Sweeps>,
    pub(super) counts: watch::Sender<Option<FlowCounts>>,
}

impl Janitor {
    /// Runs until the sender of errands is dropped.
    pub(super) fn run(mut self) {
        let mut pause = PAUSE;
        loop {
            match self.errands.recv_timeout(pause) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(first) => {
                    if let Some(rest) = self.run_errands(first) {
                        self.rest(rest);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if !self.sweeper.is_running() {
                // Counted before the first entry is read: what was taken away before this is seen by this sweep.
                self.sweeps.send_modify(|sweeps| sweeps.begun += 1);
            }
            pause = match self.sweeper.slice() {
                Ok(swept) if !swept.end => SLICE,
                Ok(swept) => {
                    debug!(cleared = swept.cleared, "swept the flow tables");
                    self.sweeps.send_modify(|sweeps| sweeps.ended = sweeps.begun);
                    let before = self.counts.send_replace(Some(swept.counts));
                    tell_of_pushed_out(before.unwrap_or_default(), swept.counts);
                    // Who called while the endpoint went was too late for the errand.
                    self.end_connections();
                    self.pause()
                }
                Err(error) => {
                    warn!(%error, "a sweep of the flow tables failed; tried again");
                    PAUSE
                }
            };
        }
    }

    fn pause(&self) -> Duration {
        if self.released.any() { SHORT_PAUSE } else { PAUSE }
    }

    /// A sweep that had begun begins anew on other tables: programs enter flows into those.
    fn rest(&mut self, Rest { rests, go_on }: Rest) {
        if rests.send(()).is_err() {
            return;
        }
        if let Ok(tables) = go_on.recv() {
            self.sweeper.go_on_with(tables.clone());
            self.tables = tables;
        }
    }

    /// One dump of sockets for all that is known by now.
    fn run_errands(&mut self, first: Errand) -> Option<Rest> {
        let errands: Vec<Errand> = std::iter::once(first).chain(self.errands.try_iter()).collect();
        let (mut gone, mut ends, mut rest) = (Vec::new(), false, None);
        for errand in errands {
            match errand {
                Errand::Gone(id, backend) => gone.push((id, backend)),
                Errand::Rest(wish) => rest = Some(wish),
                Errand::EndWithEndpoints(service, ports) => {
                    ends = true;
                    if ports.is_empty() {
                        self.mortal.remove(&service);
                    } else {
                        self.mortal.insert(service, ports);
                    }
                }
            }
        }
        if !gone.is_empty() {
            self.destroy(&gone);
        }
        if ends {
            self.end_connections();
        }
        rest
    }

    fn destroy(&self, gone: &[(BackendId, Backend)]) {
        match sockets::destroy(&self.tables, gone) {
            Ok(0) => {}
            Ok(destroyed) => debug!(destroyed, "UDP sockets to gone backends were destroyed"),
            Err(error) => warn!(%error, "UDP sockets to gone backends stay connected to them"),
        }
    }

    fn end_connections(&self) {
        if self.mortal.is_empty() {
            return;
        }
        match sockets::end_connections(&self.tables, &Living::new(self.mortal.values().flatten())) {
            Ok(0) => {}
            Ok(reset) => info!(reset, "TCP connections of the host to gone endpoints were reset"),
            Err(error) => warn!(%error, "TCP connections of the host to gone endpoints live on"),
        }
    }
}

/// Names the tables that have pushed established flows out since the sweep before.
fn tell_of_pushed_out(before: FlowCounts, now: FlowCounts) {
    for (before, now) in pushed_out(&before).into_iter().zip(pushed_out(&now)) {
        let flows = now.flows.saturating_sub(before.flows);
        if flows > 0 {
            warn!(
                table = now.map,
                flows,
                "established flows were pushed out of a full table: give the maps more by --map-memory, or this one by \
                 --map-entries {}-flows=",
                now.protocol
            );
        }
    }
}
