//! What of the run loop is worth an event.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Announcer, Notice};
use crate::agent::{Done, Failure, Observer};
use crate::model::Warning;
use crate::name::ObjectName;
use crate::source::{Batch, Change, Object};

/// Watches the run loop.
#[derive(Debug)]
pub struct Announcements {
    announcer: Announcer,
    /// UIDs of the Services that changed last: what is not served of them is told next.
    uids: HashMap<ObjectName, Arc<str>>,
}

impl Announcements {
    /// Tells this announcer.
    pub fn new(announcer: Announcer) -> Self {
        Self {
            announcer,
            uids: HashMap::new(),
        }
    }
}

impl Observer for Announcements {
    fn took(&mut self, batch: &Batch) {
        let services = batch.changes.iter().filter_map(|change| match change {
            Change::Upsert(Object::Service(service)) => Some(service),
            _ => None,
        });
        self.uids = services
            .map(|service| (service.metadata.object_name(), service.metadata.uid.clone()))
            .collect();
    }

    fn did(&mut self, _done: &Done) {}

    fn settled(&mut self, _failed_services: usize) {
        self.uids = HashMap::new();
    }

    fn warned(&mut self, warning: &Warning) {
        if let Some(notice) = Notice::of_warning(warning, |service| self.uids.get(service).cloned()) {
            self.announcer.tell(notice);
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.announcer.tell(Notice::of_failure(failure));
    }
}
