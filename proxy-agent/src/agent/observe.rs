//! What the run loop tells of itself.

use std::sync::Arc;

use super::{Done, Failure};
use crate::model::{HealthCheck, Warning};
use crate::name::ObjectName;
use crate::plan::Difference;
use crate::source::Batch;

/// Somebody who is told how the run loop gets on. It must not keep the loop waiting.
pub trait Observer {
    /// Changes were taken on.
    fn took(&mut self, batch: &Batch);

    /// Something was done about them.
    fn did(&mut self, done: &Done);

    /// All that was taken on is in the maps, but for this many Services that stay as they were.
    fn settled(&mut self, failed_services: usize);

    /// So many ports of Services have topology hints that are not followed.
    fn hint_fallbacks(&mut self, _ports: usize) {}

    /// So many lists of ranges (of ServiceCIDRs, of pods, of a family each) have no room in the maps.
    fn unknown_ranges(&mut self, _lists: usize) {}

    /// Something is not served as its object asks; with the UID of the Service that it is about.
    fn warned(&mut self, _warning: &Warning, _uid: Option<&Arc<str>>) {}

    /// A Service stays as it was.
    fn failed(&mut self, _failure: &Failure) {}

    /// The maps were compared with what they should hold; what differed, and was mended.
    fn audited(&mut self, _differences: &[Difference]) {}

    /// What load balancers are to hear of these Services has changed; none: nothing any more.
    fn health_checks(&mut self, _changes: &[(ObjectName, Option<HealthCheck>)]) {}
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    fn took(&mut self, batch: &Batch) {
        self.0.took(batch);
        self.1.took(batch);
    }

    fn did(&mut self, done: &Done) {
        self.0.did(done);
        self.1.did(done);
    }

    fn settled(&mut self, failed_services: usize) {
        self.0.settled(failed_services);
        self.1.settled(failed_services);
    }

    fn hint_fallbacks(&mut self, ports: usize) {
        self.0.hint_fallbacks(ports);
        self.1.hint_fallbacks(ports);
    }

    fn unknown_ranges(&mut self, lists: usize) {
        self.0.unknown_ranges(lists);
        self.1.unknown_ranges(lists);
    }

    fn warned(&mut self, warning: &Warning, uid: Option<&Arc<str>>) {
        self.0.warned(warning, uid);
        self.1.warned(warning, uid);
    }

    fn failed(&mut self, failure: &Failure) {
        self.0.failed(failure);
        self.1.failed(failure);
    }

    fn audited(&mut self, differences: &[Difference]) {
        self.0.audited(differences);
        self.1.audited(differences);
    }

    fn health_checks(&mut self, changes: &[(ObjectName, Option<HealthCheck>)]) {
        self.0.health_checks(changes);
        self.1.health_checks(changes);
    }
}
