//! Copies a map's entries into another, of the same layout or not. A second time it adds what is new, and never puts an
//! older entry in the place of a newer one.

use std::io;
use std::sync::atomic::Ordering;

use proxy_common::layout::{Affinity, AffinityKey, Config, Flow, FlowKey, Meta, V4, V6};
use proxy_common::rules::lifetime;

use super::error::{CallError, Context};
use super::layouts::{Entry, Form};
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

/// What the entries of two maps of one name are, each if others than this version's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forms<'a> {
    pub(super) old: Option<&'a Form>,
    pub(super) new: Option<&'a Form>,
}

impl Forms<'_> {
    fn are_the_same(self) -> bool {
        self.old.is_none() && self.new.is_none()
    }

    /// An entry of the new map, given this version's.
    fn write(self, key: &[u8], value: &[u8]) -> Option<Entry> {
        match self.new {
            Some(form) => (form.downgrade)(key, value),
            None => Some((key.to_vec(), value.to_vec())),
        }
    }
}

/// An entry as this version has it.
fn read(form: Option<&Form>, key: &[u8], value: &[u8]) -> Option<Entry> {
    match form {
        Some(form) => (form.upgrade)(key, value),
        None => Some((key.to_vec(), value.to_vec())),
    }
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

    /// Ticks since an entry of this version's form was last used; `None` for one whose time is up, 0 where nothing tells.
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
    forms: Forms<'_>,
    entries: &Entries,
) -> Result<Copied, CallError> {
    if old.info().flags & MMAPABLE != 0 {
        let copied = if forms.are_the_same() {
            copy_memory(old, new)
        } else {
            convert_memory(old, new, forms)
        };
        return copied.call("mmap", name);
    }
    let found = Found::read(old).call("BPF_MAP_LOOKUP_BATCH", name)?;
    let found = found.into_this(forms.old);
    if Entries::are_added_by_programs(old) {
        return merge(&found, new, forms, entries).call("BPF_MAP_UPDATE_ELEM", name);
    }
    for (key, value) in found.iter() {
        let Some((key, value)) = forms.write(key, value) else {
            continue;
        };
        match new.update(&key, &value, 0) {
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
fn merge(found: &Found, new: &MapFd, forms: Forms<'_>, entries: &Entries) -> io::Result<Copied> {
    let ages = found.iter().enumerate();
    let mut living: Vec<(u32, usize)> = ages
        .filter_map(|(index, (key, value))| Some((entries.age(key, value)?, index)))
        .collect();
    living.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
    let left_out = living.len().saturating_sub(new.info().max_entries as usize);
    let mut written = 0;
    for (age, index) in living.into_iter().skip(left_out) {
        let entry = found.get(index).and_then(|(key, value)| forms.write(key, value));
        let Some((key, value)) = entry else {
            continue;
        };
        let is_older = |there: &[u8]| {
            let there = read(forms.new, &key, there);
            there.is_none_or(|(key, there)| entries.age(&key, &there).is_none_or(|other| age < other))
        };
        written += usize::from(put_newer(new, &key, &value, is_older)?);
    }
    Ok(Copied {
        entries: written,
        left_out,
        fits: true,
    })
}

/// Writes an entry if it is absent, or what is there is older.
fn put_newer(new: &MapFd, key: &[u8], value: &[u8], is_older: impl Fn(&[u8]) -> bool) -> io::Result<bool> {
    match new.update(key, value, ABSENT) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        other => return other.map(|()| true),
    }
    let mut there = vec![0; value.len()];
    if !new.lookup(key, &mut there)? || !is_older(&there) {
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

/// The same, each element into another form. No program reads the new map yet.
fn convert_memory(old: &MapFd, new: &MapFd, forms: Forms<'_>) -> io::Result<Copied> {
    let (from, to) = (old.memory()?, new.memory()?);
    let length = from.len().min(to.len());
    for index in 0..length {
        let words = from.element_words(index).unwrap_or_default().iter();
        let mut value: Vec<u8> = words
            .flat_map(|word| word.load(Ordering::Acquire).to_ne_bytes())
            .collect();
        value.truncate(old.value_length());
        let key = index.to_ne_bytes();
        let this = read(forms.old, &key, &value);
        let Some((_, mut value)) = this.and_then(|(key, value)| forms.write(&key, &value)) else {
            continue;
        };
        value.resize(value.len().next_multiple_of(8), 0);
        let words = value.chunks_exact(8).filter_map(sys::from_bytes::<u64>);
        for (to, word) in to.element_words(index).unwrap_or_default().iter().zip(words) {
            to.store(word, Ordering::Release);
        }
    }
    Ok(Copied {
        entries: length as usize,
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

    /// The same as this version has it.
    fn into_this(self, form: Option<&Form>) -> Self {
        if form.is_none() {
            return self;
        }
        let mut converted = Self {
            keys: Vec::new(),
            values: Vec::new(),
            key: 0,
            value: 0,
        };
        for (key, value) in self.iter().filter_map(|(key, value)| read(form, key, value)) {
            (converted.key, converted.value) = (key.len(), value.len());
            converted.keys.extend(key);
            converted.values.extend(value);
        }
        converted
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
