//! Carries the maps of an instance from one layout into another, while programs run on them.
//!
//! ```text
//! begin   maps of the other layout are pinned below INSTANCE/vM/maps, beside INSTANCE/vN/maps, and entries are converted;
//!         maps whose form is the same are pinned in both places. Programs are loaded against the new pins
//! move    the pins of links and the marks go from vN to vM, and what was added meanwhile is converted
//! (hooks) each gets its new program; those of replies come first
//! finish  what programs added to the old maps until then is converted; the old pins go
//! ```
//!
//! An agent that ends anywhere between leaves both, and hooks whose programs run on either. One mark, `incomplete`, says
//! which layout's maps are not whole: who comes next goes on, or turns round, and every step can be done twice. Of what
//! only the agent writes, the whole layout's is right; what programs write is right in both, the newer entry more so.
//!
//! Sizes stay: a map takes the size wanted at the agent's next start.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use proxy_common::layout::{Config, names};
use tracing::info;

use super::clock::Clock;
use super::error::{Context, DatapathError};
use super::grace::Grace;
use super::instance::{Instance, list, make, remove};
use super::layouts::{self, Form, Layout};
use super::map;
use super::migration_copy::{Entries, Forms, copy};
use super::specification::mismatch;
use super::sys::{self, MapDefinition, MapFd};
use super::tables::open_pin;

/// An instance with the maps of one layout.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) instance: Instance,
    /// `None`: this version's.
    pub(super) layout: Option<&'a Layout>,
}

impl<'a> Place<'a> {
    /// The place of this version's layout.
    pub(super) fn of_this(instance: &Instance) -> Self {
        Self {
            instance: instance.clone(),
            layout: None,
        }
    }

    /// The place of another layout.
    pub(super) fn of_other(instance: &Instance, layout: &'a Layout) -> Self {
        Self {
            instance: instance.of_layout(layout.version),
            layout: Some(layout),
        }
    }

    fn form(&self, name: &str) -> Option<&'a Form> {
        self.layout.and_then(|layout| layout.form(name))
    }

    /// Opens a pinned map; refuses one that does not fit this layout.
    fn open(&self, path: &Path, now: &MapDefinition<'_>) -> Result<Option<MapFd>, DatapathError> {
        let Some(fd) = open_pin(path)? else {
            return Ok(None);
        };
        let expected = layouts::defined(self.form(now.name), now);
        match mismatch(&expected, fd.info()) {
            None => Ok(Some(fd)),
            Some(difference) => Err(DatapathError::Refused(format!(
                "{} does not fit layout version {} ({difference}); traffic goes on as it was. Run the version of Shunt that \
                 made it, or its `shunt cleanup`",
                path.display(),
                self.instance.layout()
            ))),
        }
    }
}

/// Maps that are carried into another layout.
#[derive(Debug)]
pub(super) struct Conversion<'a> {
    from: Place<'a>,
    to: Place<'a>,
    /// The new place had whole maps when this began: it is turned back to.
    turns_back: bool,
    moves: Vec<Move<'a>>,
    /// Pins that were made here.
    made: Vec<PathBuf>,
}

/// One map, as it was and as it will be.
#[derive(Debug)]
struct Move<'a> {
    name: &'static str,
    /// Where entries are; two, if it was about to change its size.
    old: Vec<MapFd>,
    new: MapFd,
    forms: Forms<'a>,
    by_programs: bool,
}

impl<'a> Conversion<'a> {
    /// Makes the maps of the new place and converts what is there. `maps` are this version's definitions of all maps that
    /// both layouts have.
    pub(super) fn begin(
        from: Place<'a>,
        to: Place<'a>,
        maps: &[MapDefinition<'static>],
    ) -> Result<Self, DatapathError> {
        let turns_back = to.instance.is_whole()?;
        if turns_back && from.instance.is_whole()? {
            return Err(DatapathError::Refused(format!(
                "{} and {} both hold whole maps, which no version of Shunt leaves: remove one of them by hand",
                from.instance.version().display(),
                to.instance.version().display()
            )));
        }
        let mut conversion = Self {
            from,
            to,
            turns_back,
            moves: Vec::new(),
            made: Vec::new(),
        };
        if !turns_back {
            // Before the first pin: from now on only a version that knows both layouts goes on here.
            make(&conversion.to.instance.incomplete())?;
        }
        conversion.to.instance.make_directories()?;
        let begun = conversion.begin_all(maps);
        match begun {
            Ok(()) => Ok(conversion),
            Err(error) => {
                conversion.abandon()?;
                Err(error)
            }
        }
    }

    fn begin_all(&mut self, maps: &[MapDefinition<'static>]) -> Result<(), DatapathError> {
        for definition in maps {
            self.open_or_make(definition)?;
        }
        self.copy(true)
    }

    fn open_or_make(&mut self, definition: &MapDefinition<'static>) -> Result<(), DatapathError> {
        let name = definition.name;
        let (here, there) = (self.from.instance.map(name), self.from.instance.next().join(name));
        let current = self.from.open(&here, definition)?;
        let next = self.from.open(&there, definition)?;
        let mut old: Vec<MapFd> = current.into_iter().chain(next).collect();
        let path = self.to.instance.map(name);
        let forms = Forms {
            old: self.from.form(name),
            new: self.to.form(name),
        };
        let new = match (self.to.open(&path, definition)?, old.pop()) {
            (Some(new), last) => {
                old.extend(last);
                new
            }
            (None, Some(last)) if forms.old.is_none() && forms.new.is_none() => {
                self.pin(&path, &last)?;
                last
            }
            (None, last) => {
                let mut wanted = layouts::defined(forms.new, definition);
                if let Some(last) = &last {
                    wanted.max_entries = last.info().max_entries;
                }
                old.extend(last);
                let made = map::create(&wanted)?;
                self.pin(&path, &made)?;
                made
            }
        };
        let by_programs = Entries::are_added_by_programs(&new);
        old.retain(|old| old.info().id != new.info().id);
        if !by_programs {
            // What the agent writes is whole in the map that was there first.
            old.truncate(1);
        }
        if !old.is_empty() && (by_programs || !self.turns_back) {
            self.moves.push(Move {
                name,
                old,
                new,
                forms,
                by_programs,
            });
        }
        Ok(())
    }

    fn pin(&mut self, path: &Path, map: &MapFd) -> Result<(), DatapathError> {
        sys::object_pin(path, map.as_fd()).file("BPF_OBJ_PIN", path)?;
        self.made.push(path.to_owned());
        Ok(())
    }

    fn copy(&self, all: bool) -> Result<(), DatapathError> {
        let entries = self.entries()?;
        for one in self.moves.iter().filter(|one| all || one.by_programs) {
            for old in &one.old {
                let copied = copy(one.name, old, &one.new, one.forms, &entries)?;
                if !copied.fits {
                    return Err(DatapathError::Refused(format!(
                        "the entries of {} do not fit into the map of layout version {}",
                        one.name,
                        self.to.instance.layout()
                    )));
                }
                info!(
                    map = one.name,
                    layout = self.to.instance.layout(),
                    entries = copied.entries,
                    left_out = copied.left_out,
                    "entries were converted"
                );
            }
        }
        Ok(())
    }

    /// What tells an entry's age now.
    fn entries(&self) -> Result<Entries, DatapathError> {
        Ok(Entries {
            config: config(&self.from)?.or(config(&self.to)?).unwrap_or_default(),
            now: Clock::new()?.now()?,
        })
    }

    /// Takes back what was made, as long as no hook has got a program that was loaded against it.
    pub(super) fn abandon(self) -> Result<(), DatapathError> {
        for path in &self.made {
            remove(path)?;
        }
        if !self.turns_back && list(&self.to.instance.maps())?.is_empty() {
            self.to.instance.remove_directories()?;
        }
        Ok(())
    }

    /// Carries the pins of links and the marks over, so that hooks keep their links, and converts what was added while
    /// programs were loaded.
    pub(super) fn take_links(&self) -> Result<(), DatapathError> {
        take_links(&self.from.instance, &self.to.instance)?;
        self.copy(false)
    }

    /// Converts what programs added while others ran on the new maps already, and removes the old pins. All hooks run new
    /// programs by now.
    pub(super) fn finish(self) -> Result<(), DatapathError> {
        // A program that was replaced may be at work for a moment more.
        Grace::new()?.wait()?;
        self.copy(false)?;
        let (to, from) = (self.to.instance.incomplete(), self.from.instance.incomplete());
        if to.exists() {
            // In one step: the new maps are those that count, the old ones are not.
            fs::rename(&to, &from).file("rename", &to)?;
        }
        discard(&self.from.instance)
    }
}

/// Removes an instance's maps and directories of one layout.
fn discard(instance: &Instance) -> Result<(), DatapathError> {
    for directory in [instance.next(), instance.maps()] {
        for name in list(&directory)? {
            remove(&directory.join(name))?;
        }
    }
    instance.remove_directories()
}

/// Carries the pins of links and the marks from one layout's place to another's.
pub(super) fn take_links(from: &Instance, to: &Instance) -> Result<(), DatapathError> {
    to.make_directories()?;
    let pairs = [
        (from.cgroup_links(), to.cgroup_links()),
        (from.tcx_links(), to.tcx_links()),
        (from.xdp_links(), to.xdp_links()),
        (from.clsact_marks(), to.clsact_marks()),
        (from.reserved_marks(), to.reserved_marks()),
    ];
    for (from, to) in pairs {
        for name in list(&from)? {
            let path = from.join(&name);
            fs::rename(&path, to.join(&name)).file("rename", &path)?;
        }
    }
    Ok(())
}

/// CONFIG as this version has it; `None` if it is not there.
pub(super) fn config(place: &Place<'_>) -> Result<Option<Config>, DatapathError> {
    let Some(map) = open_pin(&place.instance.map(names::CONFIG))? else {
        return Ok(None);
    };
    let (key, mut value) = (0_u32.to_ne_bytes(), vec![0; map.value_length()]);
    map.lookup(&key, &mut value)
        .call("BPF_MAP_LOOKUP_ELEM", names::CONFIG)?;
    let value = match place.form(names::CONFIG) {
        Some(form) => (form.upgrade)(&key, &value).map(|(_, value)| value),
        None => Some(value),
    };
    Ok(value.and_then(|value| sys::from_bytes(&value)))
}
