//! How the source does, for those who report it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watched {
    /// Services.
    Services,
    /// EndpointSlices.
    Slices,
    /// This node's Node.
    Node,
    /// ServiceCIDRs, where the API has them.
    ServiceCidrs,
}

impl Watched {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Services, Self::Slices, Self::Node, Self::ServiceCidrs];

    /// As the API names them.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Slices => "endpointslices",
            Self::Node => "nodes",
            Self::ServiceCidrs => "servicecidrs",
        }
    }

    /// Whether the agent can't do its work without it for long.
    pub const fn is_required(self) -> bool {
        !matches!(self, Self::ServiceCidrs)
    }
}

/// The state of a source, read by others while it runs.
#[derive(Debug)]
pub struct Status {
    start: Instant,
    is_synced: AtomicBool,
    outages: AtomicU64,
    /// The server that answered last; empty: none has.
    server: Mutex<String>,
    watches: [WatchStatus; 4],
    changed: Notify,
}

/// The state of one watch.
#[derive(Debug, Default)]
struct WatchStatus {
    /// Milliseconds after the start, and one; 0: it is not broken.
    broken_since: AtomicU64,
    failures: AtomicU64,
    lists: AtomicU64,
    /// Milliseconds since 1970; 0: there was none.
    last_event: AtomicI64,
    error: Mutex<String>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            is_synced: AtomicBool::new(false),
            outages: AtomicU64::new(0),
            server: Mutex::default(),
            watches: Default::default(),
            changed: Notify::new(),
        }
    }
}

impl Status {
    /// Whether everything that there is was received once.
    pub fn is_synced(&self) -> bool {
        self.is_synced.load(Relaxed)
    }

    /// For how long some watch that is required has been broken; none: all are well.
    pub fn broken_for(&self) -> Option<Duration> {
        let required = Watched::ALL.into_iter().filter(|watched| watched.is_required());
        required.filter_map(|watched| self.broken(watched)).max()
    }

    /// For how long a watch has been broken.
    pub fn broken(&self, watched: Watched) -> Option<Duration> {
        let since = self.watch(watched).broken_since.load(Relaxed).checked_sub(1)?;
        Some(self.start.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    /// Requests of a watch that failed since the start.
    pub fn failures(&self, watched: Watched) -> u64 {
        self.watch(watched).failures.load(Relaxed)
    }

    /// Full lists of a watch since the start: more than one says that changes were missed and made good.
    pub fn lists(&self, watched: Watched) -> u64 {
        self.watch(watched).lists.load(Relaxed)
    }

    /// What the last failure of a watch was; empty: there was none.
    pub fn error(&self, watched: Watched) -> String {
        locked(&self.watch(watched).error).clone()
    }

    /// When a watch last brought an object, or word that one is gone.
    pub fn last_event(&self, watched: Watched) -> Option<Timestamp> {
        let milliseconds = self.watch(watched).last_event.load(Relaxed);
        Timestamp::from_millisecond(milliseconds)
            .ok()
            .filter(|_| milliseconds != 0)
    }

    /// Times that a watch which is required was broken for so long that the log told of it.
    pub fn outages(&self) -> u64 {
        self.outages.load(Relaxed)
    }

    /// The server that answered last.
    pub fn server(&self) -> Option<String> {
        Some(locked(&self.server).clone()).filter(|server| !server.is_empty())
    }

    pub(super) fn set_synced(&self) {
        self.is_synced.store(true, Relaxed);
    }

    pub(super) fn set_event(&self, watched: Watched, at: Timestamp) {
        self.watch(watched).last_event.store(at.as_millisecond(), Relaxed);
    }

    pub(super) fn set_outage(&self) {
        self.outages.fetch_add(1, Relaxed);
    }

    pub(super) fn set_server(&self, url: &str) {
        let mut server = locked(&self.server);
        if *server != url {
            *server = url.to_owned();
        }
    }

    pub(super) fn set_listed(&self, watched: Watched) {
        self.watch(watched).lists.fetch_add(1, Relaxed);
    }

    pub(super) fn set_well(&self, watched: Watched) {
        if self.watch(watched).broken_since.swap(0, Relaxed) != 0 {
            self.changed.notify_one();
        }
    }

    pub(super) fn set_broken(&self, watched: Watched, error: String) {
        let watch = self.watch(watched);
        watch.failures.fetch_add(1, Relaxed);
        *locked(&watch.error) = error;
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        if watch
            .broken_since
            .compare_exchange(0, now, Relaxed, Relaxed)
            .is_ok()
        {
            self.changed.notify_one();
        }
    }

    /// Waits until a watch breaks or is well again.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn watch(&self, watched: Watched) -> &WatchStatus {
        &self.watches[watched as usize]
    }
}

/// No writer leaves a text half written.
fn locked(text: &Mutex<String>) -> MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_broken_since_its_first_failure_and_well_after_a_success() {
        let status = Status::default();
        assert_eq!(status.broken_for(), None);
        status.set_broken(Watched::Slices, "refused".into());
        let first = status.broken_for().unwrap();
        status.set_broken(Watched::Slices, "refused again".into());
        assert!(status.broken_for().unwrap() >= first);
        assert_eq!(
            (
                status.failures(Watched::Slices),
                status.error(Watched::Slices).as_str()
            ),
            (2, "refused again")
        );
        status.set_well(Watched::Slices);
        assert_eq!(status.broken_for(), None);
    }

    #[test]
    fn the_last_event_is_that_of_its_watch_and_the_server_the_last_that_answered() {
        let status = Status::default();
        assert_eq!(
            (status.last_event(Watched::Slices), status.server()),
            (None, None)
        );
        let at = Timestamp::constant(1_800_000_000, 250_000_000);
        status.set_event(Watched::Slices, at);
        assert_eq!(status.last_event(Watched::Slices), Some(at));
        assert_eq!(status.last_event(Watched::Services), None);
        for server in ["https://a", "https://b"] {
            status.set_server(server);
            assert_eq!(status.server().as_deref(), Some(server));
        }
    }

    #[test]
    fn what_is_not_required_breaks_nothing() {
        let status = Status::default();
        status.set_broken(Watched::ServiceCidrs, "forbidden".into());
        assert_eq!(status.broken_for(), None);
        assert!(status.broken(Watched::ServiceCidrs).is_some());
    }
}
