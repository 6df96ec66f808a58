//! Events of Kubernetes: what the operator of a cluster should see at a Node or a Service without reading logs.

mod notice;
mod post;
mod scarcity;
mod watcher;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, Receiver, Sender};

pub use notice::{About, Notice, Severity};
pub use scarcity::tell_of_source_ports;
pub use watcher::Announcements;

/// Notices that wait to be posted; more are counted, and lost.
const WAITING: usize = 256;
/// One and the same notice is posted this often at most.
const PAUSE: Duration = Duration::from_secs(60);

/// Where notices go. A clone can be used on another thread; without the Kubernetes API they go nowhere.
#[derive(Clone, Debug)]
pub struct Announcer(Option<Sender<Notice>>);

impl Announcer {
    /// Goes nowhere.
    pub fn nowhere() -> Self {
        Self(None)
    }

    /// Posts as this node until all clones are gone; within a tokio runtime.
    pub fn start(client: kube::Client, node_name: &str) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(run(client, node_name.to_owned(), receiver));
        Self(Some(sender))
    }

    /// Posts a notice, some time.
    pub fn tell(&self, notice: Notice) {
        if let Some(sender) = &self.0
            && sender.try_send(notice).is_err()
        {
            tracing::debug!("an event is lost: too many wait to be posted");
        }
    }
}

async fn run(client: kube::Client, node_name: String, mut notices: Receiver<Notice>) {
    let mut recent = Recent::default();
    while let Some(notice) = notices.recv().await {
        if recent.is_due(notice.key(), Instant::now()) {
            tokio::spawn(post::post(client.clone(), node_name.clone(), notice));
        }
    }
}

/// When what was posted last.
#[derive(Debug, Default)]
struct Recent(HashMap<u64, Instant>);

impl Recent {
    fn is_due(&mut self, key: u64, now: Instant) -> bool {
        self.0
            .retain(|_, last| now.saturating_duration_since(*last) < PAUSE);
        self.0.insert(key, now).is_none_or(|last| {
            self.0.insert(key, last);
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_the_same_is_due_once_a_minute() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(recent.is_due(1, start));
        assert!(recent.is_due(2, start), "another one");
        assert!(!recent.is_due(1, after(30)));
        assert!(
            !recent.is_due(1, after(59)),
            "the minute is that of the posted one"
        );
        assert!(recent.is_due(1, after(60)));
        assert!(!recent.is_due(1, after(61)));
    }
}
