//! What the run loop tells of itself.

use super::Done;
use crate::source::Batch;

/// Somebody who is told how the run loop gets on. It must not keep the loop waiting.
pub trait Observer {
    /// Changes were taken on.
    fn took(&mut self, batch: &Batch);

    /// Something was done about them.
    fn did(&mut self, done: &Done);

    /// All that was taken on is in the maps, but for this many Services that stay as they were.
    fn settled(&mut self, failed_services: usize);
}
