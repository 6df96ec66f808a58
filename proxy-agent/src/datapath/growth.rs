//! Maps that Services have filled grow while the agent runs: what a start does with maps of another size, beside threads and
//! connections that go on.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use tracing::{info, warn};

use super::attach::{Hook, Sockets};
use super::error::DatapathError;
use super::follow::Order;
use super::instance::{Instance, list, remove};
use super::janitor::{Errand, Rest};
use super::migration::Migration;
use super::options::XdpMode;
use super::programs::Programs;
use super::size::{MapSizes, possible_cpus};
use super::sys::MapDefinition;
use super::tables::{Tables, open_pin};
use super::{Datapath, room, specification};
use crate::agent::Room;
use crate::plan::Shortage;

/// Loads programs against the maps of an instance.
type Load = dyn Fn(&Instance) -> Result<Programs, DatapathError> + Send;

/// What growing needs of the start.
pub(super) struct Grower {
    pub(super) instance: Instance,
    pub(super) load: Box<Load>,
    pub(super) hook: Hook,
    pub(super) xdp: XdpMode,
    pub(super) sockets: Sockets,
    /// Bytes that all maps together may take.
    pub(super) limit: u64,
    pub(super) orders: Sender<Order>,
}

impl std::fmt::Debug for Grower {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Grower")
            .field("instance", &self.instance)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Datapath {
    /// Gives full maps more entries, if their memory may be had. Blocks for as long as it takes to load the programs; traffic
    /// goes on. An error leaves hooks with programs of both: the next start goes on from there.
    pub(super) fn make_room(&mut self, shortages: &[Shortage]) -> Result<Room, DatapathError> {
        let maps = maps(&self.grower.instance)?;
        let larger = match room::made(&maps, shortages, self.grower.limit, possible_cpus()?) {
            Ok(larger) => larger,
            Err(why) => return Ok(Room::Refused(why)),
        };
        let names: Vec<&str> = shortages.iter().map(|shortage| shortage.map).collect();
        info!(maps = names.join(","), "maps are full and grow");
        let go_on = self.let_janitor_rest()?;
        let (tables, migration, programs) = match self.grower.prepare(&larger) {
            Ok(prepared) => prepared,
            Err(error) => {
                warn!(%error, "the maps can't grow");
                return Ok(Room::Refused(error.to_string()));
            }
        };
        let tables = Arc::new(tables);
        self.take_over(&tables, programs)?;
        migration.finish()?;
        self.current.set(tables.clone());
        self.tables = tables.clone();
        // It ends when the agent does, and then needs no tables.
        drop(go_on.send(tables));
        Ok(Room::Made)
    }

    /// The janitor goes on when the other end is told, or dropped.
    fn let_janitor_rest(&self) -> Result<Sender<Arc<Tables>>, DatapathError> {
        let (rests, resting) = mpsc::channel();
        let (go_on, told) = mpsc::channel();
        self.tell_janitor(Errand::Rest(Rest { rests, go_on: told }));
        resting
            .recv()
            .map_err(|_| DatapathError::Refused("the janitor is gone: restart the agent".to_owned()))?;
        Ok(go_on)
    }

    /// Every hook gets the programs that know the larger maps.
    fn take_over(&self, tables: &Arc<Tables>, programs: Programs) -> Result<(), DatapathError> {
        let grower = &self.grower;
        let config = tables.config.get(&0)?.unwrap_or_default();
        let gone = || DatapathError::Refused("interfaces are followed no more: restart the agent".to_owned());
        let (done, answer) = mpsc::channel();
        let order = Order {
            tables: tables.clone(),
            instance: grower.instance.clone(),
            programs,
            sockets: Sockets {
                config,
                ..grower.sockets.clone()
            },
            hook: grower.hook,
            xdp: grower.xdp,
            done,
        };
        grower.orders.send(order).map_err(|_| gone())?;
        self.node_ports.wake()?;
        answer.recv().map_err(|_| gone())?
    }
}

/// All maps of an instance as they are.
fn maps(instance: &Instance) -> Result<Vec<MapDefinition<'static>>, DatapathError> {
    let definitions = specification::maps(&MapSizes::for_budget(0, 1));
    let as_it_is = |definition: MapDefinition<'static>| {
        let found = open_pin(&instance.map(definition.name))?;
        Ok(MapDefinition {
            max_entries: found.map_or(definition.max_entries, |map| map.info().max_entries),
            ..definition
        })
    };
    definitions.into_iter().map(as_it_is).collect()
}

/// Bytes that all maps of an instance take when they are full.
pub(super) fn bytes(instance: &Instance) -> Result<u64, DatapathError> {
    let cpus = possible_cpus()?;
    let maps = maps(instance)?;
    Ok(maps.iter().map(|map| specification::bytes(map, cpus)).sum())
}

impl Grower {
    /// Larger maps with all that is in these, and programs that know them; of an attempt that fails nothing is left.
    fn prepare(
        &self,
        larger: &[MapDefinition<'static>],
    ) -> Result<(Tables, Migration, Programs), DatapathError> {
        let prepared = Tables::prepare(&self.instance, larger).and_then(|(tables, migration)| {
            let programs = (self.load)(&self.instance)?;
            migration.catch_up()?;
            Ok((tables, migration, programs))
        });
        if prepared.is_err() {
            let next = self.instance.next();
            for name in list(&next)? {
                remove(&next.join(name))?;
            }
            remove(&next)?;
        }
        prepared
    }
}
