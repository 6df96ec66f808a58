//! The thread that does what has time: sweeps the flow tables and destroys sockets to gone backends.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use proxy_common::layout::{Backend, BackendId};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::error::DatapathError;
use super::release::Released;
use super::sockets;
use super::sweep::{FlowCounts, Sweeper};
use super::tables::Tables;
use crate::agent::Sweeps;

/// Between two slices of a sweep.
const SLICE: Duration = Duration::from_millis(50);
/// Between two sweeps.
const PAUSE: Duration = Duration::from_secs(30);
/// Between two sweeps while released bits wait.
const SHORT_PAUSE: Duration = Duration::from_secs(5);

/// A UDP backend that serves no more.
pub(super) type Gone = (BackendId, Backend);

/// Everything that the janitor needs.
pub(super) struct Janitor {
    pub(super) tables: Arc<Tables>,
    pub(super) released: Arc<Released>,
    pub(super) sweeper: Sweeper,
    pub(super) gone: Receiver<Gone>,
    pub(super) sweeps: watch::Sender<Sweeps>,
    pub(super) counts: watch::Sender<Option<FlowCounts>>,
}

impl Janitor {
    /// Runs until the sender of `gone` is dropped.
    pub(super) fn run(mut self) {
        let mut pause = PAUSE;
        loop {
            match self.gone.recv_timeout(pause) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(first) => self.destroy(first),
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
                    self.counts.send_replace(Some(swept.counts));
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

    /// One dump for all that are gone by now.
    fn destroy(&self, first: Gone) {
        let gone: Vec<Gone> = std::iter::once(first).chain(self.gone.try_iter()).collect();
        match self.destroy_all(&gone) {
            Ok(0) => {}
            Ok(destroyed) => debug!(destroyed, "UDP sockets to gone backends were destroyed"),
            Err(error) => warn!(%error, "UDP sockets to gone backends stay connected to them"),
        }
    }

    fn destroy_all(&self, gone: &[Gone]) -> Result<usize, DatapathError> {
        sockets::destroy(&self.tables, gone)
    }
}
