//! Maps in plain collections.

use proxy_agent::agent::{MapWriter, Room};
use proxy_agent::explain::Store;
use proxy_agent::name::ObjectName;
use proxy_agent::plan::{Capacity, Mortal, Operation, Shortage, Snapshot};

/// Maps on paper, with room for whatever a scenario asks for.
#[derive(Debug, Default)]
pub struct Paper(Store);

impl MapWriter for Paper {
    type Error = std::convert::Infallible;

    fn apply(&mut self, operations: &[Operation]) -> Result<(), Self::Error> {
        self.0.carry_out(operations);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot, Self::Error> {
        Ok(self.0.snapshot())
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            services: 1024,
            backends: 1024,
            slots: 4096,
            frontends4: 1024,
            frontends6: 1024,
            ranges4: 1024,
            ranges6: 1024,
        }
    }

    fn make_room(&mut self, _: &[Shortage]) -> Result<Room, Self::Error> {
        Ok(Room::Refused("paper does not grow".to_owned()))
    }

    fn wait_for_readers(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// On paper there are no connections.
    fn end_with_endpoints(&mut self, _: &ObjectName, _: Vec<Mortal>) {}
}
