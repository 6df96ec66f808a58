//! The connections of a server, of which there are never too many.

use std::collections::VecDeque;

use tokio::task::AbortHandle;

/// The newest connections. One too many ends the oldest: those who open connections and say nothing can't keep a
/// health check out, which is over in a moment.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            oldest_first: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, connection: AbortHandle) {
        if self.oldest_first.len() >= self.most {
            self.oldest_first.retain(|connection| !connection.is_finished());
        }
        if self.oldest_first.len() >= self.most
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        self.oldest_first.push_back(connection);
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.oldest_first.iter().for_each(AbortHandle::abort);
    }
}
