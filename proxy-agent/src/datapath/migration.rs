//! Gives maps another size while programs run on them.
//!
//! ```text
//! begin   a map of the new size is pinned below INSTANCE/vN/next, entries are copied, programs are loaded against it
//!         what programs added to the old map while others were loaded is copied
//! (hooks) each gets its new program; those of replies come first
//! finish  what programs added to the old map meanwhile is copied; the new pin takes the old one's place
//! ```
//!
//! An agent that ends anywhere between leaves `next` behind. Programs of some hooks may run on the maps there, so the next
//! agent does not begin anew but goes on with them: every step can be done twice.

use std::fs;
use std::path::PathBuf;

use proxy_common::layout::{Config, Identity, Service, ServiceId, names};
use tracing::{info, warn};

use super::clock::Clock;
use super::error::{Context, DatapathError};
use super::grace::Grace;
use super::instance::{Instance, remove};
use super::map::{self, Map};
use super::memory::{Backends, Services, Slots};
use super::migration_copy::{Copied, Entries, Forms, copy};
use super::sys::{self, MapDefinition, MapFd};
use super::tables::open_pin;

/// Maps that are being replaced.
#[derive(Debug)]
pub(super) struct Migration {
    instance: Instance,
    moves: Vec<Move>,
}

/// One map, as it was and as it will be.
#[derive(Debug)]
struct Move {
    name: &'static str,
    old: MapFd,
    new: MapFd,
    /// Made by this agent: no program can run on it yet.
    fresh: bool,
    copied: Copied,
}

impl Migration {
    /// Makes the maps whose size is another than wanted, and copies what is there. All maps are pinned and fit but for
    /// their sizes. A map into which not all fits that must not be lost stays as it is, and the log names it.
    pub(super) fn begin(
        instance: &Instance,
        wanted: &[MapDefinition<'static>],
    ) -> Result<Self, DatapathError> {
        let mut migration = Self {
            instance: instance.clone(),
            moves: Vec::new(),
        };
        for definition in wanted {
            if let Some(new) = migration.open_or_make(definition)? {
                migration.moves.push(new);
            }
        }
        if migration.moves.is_empty() {
            return Ok(migration);
        }
        let entries = migration.entries()?;
        let moves = std::mem::take(&mut migration.moves);
        for mut one in moves {
            one.copied = copy(one.name, &one.old, &one.new, Forms::default(), &entries)?;
            if one.copied.fits || !one.fresh {
                migration.moves.push(one);
            } else {
                keeps_its_size(one.name, &one.old, one.new.info().max_entries);
                remove(&migration.path(one.name))?;
            }
        }
        Ok(migration)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.instance.next().join(name)
    }

    fn open_or_make(&self, definition: &MapDefinition<'static>) -> Result<Option<Move>, DatapathError> {
        let name = definition.name;
        let Some(old) = open_pin(&self.instance.map(name))? else {
            return Ok(None);
        };
        let path = self.path(name);
        let found = open_pin(&path)?;
        let fresh = found.is_none();
        let new = match found {
            Some(found) => found,
            None if old.info().max_entries == definition.max_entries => return Ok(None),
            None if definition.max_entries < old.info().max_entries
                && definition.max_entries < used(&self.instance, name)? =>
            {
                keeps_its_size(name, &old, definition.max_entries);
                return Ok(None);
            }
            None => {
                let directory = self.instance.next();
                fs::create_dir_all(&directory).file("mkdir", &directory)?;
                let made = map::create(definition)?;
                sys::object_pin(&path, std::os::fd::AsFd::as_fd(&made)).file("BPF_OBJ_PIN", &path)?;
                made
            }
        };
        Ok(Some(Move {
            name,
            old,
            new,
            fresh,
            copied: Copied::default(),
        }))
    }

    /// What tells an entry's age now.
    fn entries(&self) -> Result<Entries, DatapathError> {
        let config = match open_pin(&self.instance.map(names::CONFIG))? {
            Some(map) => Map::<u32, Config>::new(map, names::CONFIG)?.get(&0)?,
            None => None,
        };
        Ok(Entries {
            config: config.unwrap_or_default(),
            now: Clock::new()?.now()?,
        })
    }

    /// Takes back what was made, as long as no hook has got a program that was loaded against it.
    pub(super) fn abandon(self) -> Result<(), DatapathError> {
        for one in self.moves.iter().filter(|one| one.fresh) {
            remove(&self.path(one.name))?;
        }
        if self.moves.iter().all(|one| one.fresh) {
            remove(&self.instance.next())?;
        }
        Ok(())
    }

    /// Copies what programs added since; it takes seconds to load others.
    pub(super) fn catch_up(&self) -> Result<(), DatapathError> {
        if self.moves.is_empty() {
            return Ok(());
        }
        let entries = self.entries()?;
        for one in self
            .moves
            .iter()
            .filter(|one| Entries::are_added_by_programs(&one.old))
        {
            copy(one.name, &one.old, &one.new, Forms::default(), &entries)?;
        }
        Ok(())
    }

    /// Copies what programs added while others ran on the new maps already, and gives the new maps the old ones' names.
    /// All hooks run new programs by now.
    pub(super) fn finish(self) -> Result<(), DatapathError> {
        if !self.moves.is_empty() {
            // A program that was replaced may be at work for a moment more.
            Grace::new()?.wait()?;
            let entries = self.entries()?;
            for one in &self.moves {
                self.finish_one(one, &entries)?;
            }
        }
        remove(&self.instance.next())?;
        Ok(())
    }

    fn finish_one(&self, one: &Move, entries: &Entries) -> Result<(), DatapathError> {
        let late = if Entries::are_added_by_programs(&one.old) {
            copy(one.name, &one.old, &one.new, Forms::default(), entries)?
        } else {
            Copied::default()
        };
        let path = self.path(one.name);
        fs::rename(&path, self.instance.map(one.name)).file("rename", &path)?;
        info!(
            map = one.name,
            from = one.old.info().max_entries,
            to = one.new.info().max_entries,
            entries = one.copied.entries + late.entries,
            left_out = one.copied.left_out.max(late.left_out),
            "the map has another size"
        );
        Ok(())
    }
}

fn keeps_its_size(name: &str, map: &MapFd, wanted: u32) {
    warn!(
        map = name,
        entries = map.info().max_entries,
        wanted,
        "the map keeps its size: what is in use would not fit"
    );
}

/// How long an array must be at least: an index stays what it is.
fn used(instance: &Instance, name: &str) -> Result<u32, DatapathError> {
    let last = match name {
        names::SERVICES => services(instance)?.into_iter().map(|(id, _)| id.0).max(),
        names::SLOTS => {
            let Some(map) = open_pin(&instance.map(names::SLOTS))? else {
                return Ok(0);
            };
            let slots = Slots(map.memory().call("mmap", names::SLOTS)?);
            services(instance)?
                .into_iter()
                .flat_map(|(_, service)| [service.internal, service.external, service.shortcut])
                .filter(|list| list.count() > 0)
                .map(|list| list.first() + slots.length(list) - 1)
                .max()
        }
        names::BACKENDS | names::LOADS => {
            let Some(map) = open_pin(&instance.map(names::BACKENDS))? else {
                return Ok(0);
            };
            let backends = Backends(map.memory().call("mmap", names::BACKENDS)?).used();
            let alive = backends.into_iter().filter(|(_, backend)| backend.is_alive());
            alive.map(|(id, _)| id.0).max()
        }
        _ => None,
    };
    Ok(last.map_or(0, |last| last + 1))
}

fn services(instance: &Instance) -> Result<Vec<(ServiceId, Service)>, DatapathError> {
    let open = |name| open_pin(&instance.map(name));
    let (Some(identity), Some(services)) = (open(names::IDENTITY)?, open(names::SERVICES)?) else {
        return Ok(Vec::new());
    };
    let identity = Map::<ServiceId, Identity>::new(identity, names::IDENTITY)?;
    let services = Services(services.memory().call("mmap", names::SERVICES)?);
    let ids = identity.entries()?.into_iter().map(|(id, _)| id);
    Ok(ids.filter_map(|id| Some((id, services.get(id)?))).collect())
}
