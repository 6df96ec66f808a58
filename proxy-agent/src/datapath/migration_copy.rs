//! Copies a map's entries into another of the same layout. A second time it adds what is new, and never puts an older
//! entry in the place of a newer one.

use std::io;
use std::sync::atomic::Ordering;

use proxy_common::layout::{Affinity, AffinityKey, Config, Flow, FlowKey, Meta, V4, V6};
use proxy_common::rules::lifetime;

use super::error::{CallError, Context};
use super::map::lacks_batches;
use super::sys::{self, MMAPABLE, MapFd, map_type};

/// How many entries one batch look-up asks for.
const BATCH: usize = 4096;
/// BPF_NOEXIST and BPF_EXIST.
const ABSENT: u64 = 1;
const PRESENT: u64 = 2;

/// What became of a map's entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// Entries that were written.
    pub(super) entries: usize,
    /// The longest unused, for which the new map has no room.
    pub(super) left_out: usize,
    /// Whether all is there that must not be lost.
    pub(super) fits: bool,
}

/// Tells which entries still live, and which is the newer of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    pub(super) config: Config,
    pub(super) now: u32,
}

impl Entries {
    /// Whether programs enter what they like into such a map, and push out what was not used for long.
    pub(super) fn are_added_by_programs(map: &MapFd) -> bool {
        map.info().kind == map_type::LRU_HASH
    }

    /// Ticks since an entry was last used; `None` for one whose time is up, 0 where nothing tells.
    fn age(&self, key: &[u8], value: &[u8]) -> Option<u32> {
        let meta = Meta(value.first_chunk().copied().map_or(0, u64::from_ne_bytes));
        let protocol = match (key.len(), value.len()) {
            FLOW4 => sys::from_bytes::<FlowKey<V4>>(key)?.protocol,
            FLOW6 => sys::from_bytes::<FlowKey<V6>>(key)?.protocol,
            AFFINITY => return Some(lifetime::since(meta.seen(), self.now)),
            _ => return Some(0),
        };
        let lives = !lifetime::expired(&self.config, protocol, meta, self.now);
        lives.then(|| lifetime::age(meta, self.now))
    }
}

/// Sizes of key and value.
const FLOW4: (usize, usize) = (size_of::<FlowKey<V4>>(), size_of::<Flow<V4>>());
const FLOW6: (usize, usize) = (size_of::<FlowKey<V6>>(), size_of::<Flow<V6>>());
const AFFINITY: (usize, usize) = (size_of::<AffinityKey>(), size_of::<Affinity>());

/// Copies all entries of a map with this name.
pub(super) fn copy(
    name: &'static str,
    old: &MapFd,
    new: &MapFd,
    entries: &Entries,
) -> Result<Copied, CallError> {
    if old.info().flags & MMAPABLE != 0 {
        return copy_memory(old, new).call("mmap", name);
    }
    let found = Found::read(old).call("BPF_MAP_LOOKUP_BATCH", name)?;
    if Entries::are_added_by_programs(old) {
        return merge(&found, new, entries).call("BPF_MAP_UPDATE_ELEM", name);
    }
    for (key, value) in found.iter() {
        match new.update(key, value, 0) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC)) => {
                return Ok(Copied::default());
            }
            other => other.call("BPF_MAP_UPDATE_ELEM", name)?,
        }
    }
    Ok(Copied {
        entries: found.len(),
        left_out: 0,
        fits: true,
    })
}

/// The oldest first, so that it is they that make room.
fn merge(found: &Found, new: &MapFd, entries: &Entries) -> io::Result<Copied> {
    let ages = found.iter().enumerate();
    let mut living: Vec<(u32, usize)> = ages
        .filter_map(|(index, (key, value))| Some((entries.age(key, value)?, index)))
        .collect();
    living.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
    let left_out = living.len().saturating_sub(new.info().max_entries as usize);
    let mut written = 0;
    for (age, index) in living.into_iter().skip(left_out) {
        let Some((key, value)) = found.get(index) else {
            continue;
        };
        written += usize::from(put_newer(new, key, value, age, entries)?);
    }
    Ok(Copied {
        entries: written,
        left_out,
        fits: true,
    })
}

fn put_newer(new: &MapFd, key: &[u8], value: &[u8], age: u32, entries: &Entries) -> io::Result<bool> {
    match new.update(key, value, ABSENT) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        other => return other.map(|()| true),
    }
    let mut there = vec![0; value.len()];
    let is_newer = new.lookup(key, &mut there)? && entries.age(key, &there).is_none_or(|other| age < other);
    if !is_newer {
        return Ok(false);
    }
    match new.update(key, value, PRESENT) {
        // Pushed out at this moment.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Nothing but the agent writes these, and what is in use fits: that was asked before.
fn copy_memory(old: &MapFd, new: &MapFd) -> io::Result<Copied> {
    let (old, new) = (old.memory()?, new.memory()?);
    for (to, from) in new.words().iter().zip(old.words()) {
        to.store(from.load(Ordering::Acquire), Ordering::Release);
    }
    Ok(Copied {
        entries: old.len().min(new.len()) as usize,
        left_out: 0,
        fits: true,
    })
}

/// All entries of a map, one after another.
struct Found {
    keys: Vec<u8>,
    values: Vec<u8>,
    key: usize,
    value: usize,
}

impl Found {
    fn read(map: &MapFd) -> io::Result<Self> {
        let mut found = Self {
            keys: Vec::new(),
            values: Vec::new(),
            key: map.info().key_size as usize,
            value: map.value_length(),
        };
        let room = BATCH.min(map.info().max_entries.max(1) as usize * 2);
        let (mut keys, mut values) = (vec![0; room * found.key], vec![0; room * found.value]);
        let mut position = None;
        loop {
            match map.lookup_batch(&mut position, &mut keys, &mut values) {
                Ok(batch) => {
                    found.keys.extend(keys.iter().take(batch.count * found.key));
                    found.values.extend(values.iter().take(batch.count * found.value));
                    if batch.end {
                        return Ok(found);
                    }
                }
                Err(error) if lacks_batches(&error) && position.is_none() => {
                    found.read_singly(map)?;
                    return Ok(found);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Only of maps from which no program deletes: a key that goes meanwhile would begin the walk anew.
    fn read_singly(&mut self, map: &MapFd) -> io::Result<()> {
        let (mut key, mut value) = (vec![0; self.key], vec![0; self.value]);
        let mut last: Option<Vec<u8>> = None;
        while map.next_key(last.as_deref(), &mut key)? {
            if map.lookup(&key, &mut value)? {
                self.keys.extend(&key);
                self.values.extend(&value);
            }
            last = Some(key.clone());
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.keys.len() / self.key.max(1)
    }

    fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let key = self.keys.get(index * self.key..(index + 1) * self.key)?;
        Some((
            key,
            self.values.get(index * self.value..(index + 1) * self.value)?,
        ))
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}
