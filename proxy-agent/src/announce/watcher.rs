//! What of the run loop is worth an event.

use std::sync::Arc;

use super::{Announcer, Notice};
use crate::agent::{Done, Failure, Observer};
use crate::model::Warning;
use crate::source::Batch;

/// Watches the run loop.
#[derive(Debug)]
pub struct Announcements(Announcer);

impl Announcements {
    /// Tells this announcer.
    pub fn new(announcer: Announcer) -> Self {
        Self(announcer)
    }
}

impl Observer for Announcements {
    fn took(&mut self, _batch: &Batch) {}

    fn did(&mut self, _done: &Done) {}

    fn settled(&mut self, _failed_services: usize) {}

    fn warned(&mut self, warning: &Warning, uid: Option<&Arc<str>>) {
        if let Some(notice) = Notice::of_warning(warning, uid) {
            self.0.tell(notice);
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.0.tell(Notice::of_failure(failure));
    }
}
