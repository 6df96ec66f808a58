//! Going on after a map refused a write.

use std::collections::BTreeSet;

use super::{Done, MapsFailed, Reconciler, read_back};
use crate::agent::{Failure, MapWriter};
use crate::name::ObjectName;
use crate::plan::Plan;

/// Times that maps which refuse writes are read back in one go before the agent gives up.
pub(super) const MOST_RECOVERIES: usize = 8;

impl<M: MapWriter> Reconciler<M> {
    /// The maps are not what the planner thinks: reads them back and compares one Service at a time, so that one
    /// that the maps refuse does not stop the others.
    pub(super) fn recover(&mut self, error: &M::Error) -> Result<Done, MapsFailed<M::Error>> {
        tracing::error!(%error, "a map refused a write; every Service is compared with the maps");
        self.compare_with_maps()
    }

    /// Takes over what the maps hold, and makes of it what they should hold.
    pub(super) fn compare_with_maps(&mut self) -> Result<Done, MapsFailed<M::Error>> {
        let mut done = Done::default();
        let mut refused: BTreeSet<ObjectName> = BTreeSet::new();
        for _ in 0..MOST_RECOVERIES {
            done.add(self.adopt_again()?);
            match self.compare_all(&mut refused, &mut done) {
                Ok(()) => {
                    done.failed = self.failed.len();
                    return Ok(done);
                }
                Err(error) => tracing::error!(%error, "a map refused a write"),
            }
        }
        done.add(self.adopt_again()?);
        self.compare_all(&mut refused, &mut done).map_err(MapsFailed)?;
        Ok(done)
    }

    fn adopt_again(&mut self) -> Result<Done, MapsFailed<M::Error>> {
        let snapshot = read_back(&mut self.maps)?;
        let repairs = Plan {
            operations: self.planner.adopt_again(&snapshot),
            ..Plan::default()
        };
        self.write(&repairs).map_err(MapsFailed)?;
        Ok(Done::of(&repairs))
    }

    /// Stops at the first Service that the maps refuse, and notes it so that it is passed over the next time.
    fn compare_all(&mut self, refused: &mut BTreeSet<ObjectName>, done: &mut Done) -> Result<(), M::Error> {
        let names: Vec<ObjectName> = self.model.services().cloned().collect();
        for name in names {
            let batch = self.compile([name]);
            let Some((name, ports)) = batch.first() else {
                continue;
            };
            if refused.contains(name) || batch.first().is_some_and(|ports| self.hold(ports)) {
                self.planner.keep(&batch);
                continue;
            }
            let plan = self.planner.apply(&batch);
            let write = self.write(&plan);
            self.note_failed(&plan);
            if let Err(error) = &write {
                self.failures.push(Failure::of_write(name, ports, error));
                self.fail(name);
                refused.insert(name.clone());
            } else if plan.failed.is_empty() {
                self.failed.remove(name);
            }
            write?;
            done.services += 1;
            done.add(Done::of(&plan));
        }
        let plan = self.planner.set_exempt(&self.exempt);
        self.write(&plan)?;
        if self.is_synced {
            let plan = self.planner.prune();
            self.write(&plan)?;
            done.add(Done::of(&plan));
            let (networks, _) = self.model.ranges().networks();
            let plan = self.planner.set_networks(networks);
            self.write(&plan)?;
        }
        Ok(())
    }
}
