//! Larger maps for Services that find no room.

use std::collections::BTreeMap;

use super::{MapsFailed, Reconciler};
use crate::agent::{Failure, MapWriter, Room};
use crate::plan::Shortage;

impl<M: MapWriter> Reconciler<M> {
    /// Asks for room for all that found none; whether there is more now. If not, those Services are told of, and why.
    pub(super) fn make_room(&mut self) -> Result<bool, MapsFailed<M::Error>> {
        if self.shortages.is_empty() {
            return Ok(false);
        }
        match self.maps.make_room(&self.summed()).map_err(MapsFailed)? {
            Room::Made => {
                self.planner.grow(self.maps.capacity());
                self.shortages.clear();
                Ok(true)
            }
            Room::Refused(why) => {
                self.tell_shortages(&why);
                Ok(false)
            }
        }
    }

    /// What is short of each map. A Service stops at the first map without room: what it needs of others shows next time.
    fn summed(&self) -> Vec<Shortage> {
        let mut needed: BTreeMap<&'static str, u32> = BTreeMap::new();
        for error in &self.shortages {
            let sum = needed.entry(error.map).or_default();
            *sum = sum.saturating_add(error.needed);
        }
        let shortages = needed.into_iter();
        shortages.map(|(map, needed)| Shortage { map, needed }).collect()
    }

    pub(super) fn tell_shortages(&mut self, why: &str) {
        for error in std::mem::take(&mut self.shortages) {
            let failure = Failure::of_plan(&error, why);
            tracing::error!(service = %error.service, error = failure.text, "no room");
            self.failures.push(failure);
        }
    }
}
