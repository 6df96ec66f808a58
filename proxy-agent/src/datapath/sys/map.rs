//! Maps: made, opened, read and written.

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::super::abi::{Batch, BatchAttribute, CreateAttribute, ElementAttribute};
use super::{
    MMAPABLE, MapDefinition, MapInfo, Memory, bpf, bpf_fd, command, info, map_type, object_get, pointer,
    pointer_mut,
};

/// An open map, with what the kernel says of it.
#[derive(Debug)]
pub(crate) struct MapFd {
    fd: OwnedFd,
    info: MapInfo,
    value_length: usize,
}

impl MapFd {
    /// Makes a map; `inner` is the template of a map of maps.
    pub(crate) fn create(definition: &MapDefinition<'_>, inner: Option<&Self>) -> io::Result<Self> {
        let mut name = [0; 16];
        for (to, from) in name[..15].iter_mut().zip(definition.name.bytes()) {
            *to = from;
        }
        let mut attribute = CreateAttribute {
            kind: definition.kind,
            key_size: definition.key_size,
            value_size: definition.value_size,
            max_entries: definition.max_entries,
            flags: definition.flags,
            inner_map_fd: inner.map_or(0, |map| map.fd.as_raw_fd() as u32),
            numa_node: 0,
            name,
        };
        // SAFETY: the attribute holds no pointer.
        Self::from_fd(unsafe { bpf_fd(command::MAP_CREATE, &mut attribute)? })
    }

    /// Opens a pinned map.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(object_get(path)?)
    }

    /// An open map.
    pub(crate) fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let info: MapInfo = info(fd.as_fd())?;
        let value_length = match info.kind {
            map_type::PERCPU_ARRAY => info.value_size.next_multiple_of(8) as usize * possible_cpus()?,
            _ => info.value_size as usize,
        };
        Ok(Self {
            fd,
            info,
            value_length,
        })
    }

    /// What the kernel says of it.
    pub(crate) fn info(&self) -> &MapInfo {
        &self.info
    }

    /// Bytes of a value as a look-up gives it: of all CPUs for a per-CPU map.
    pub(crate) fn value_length(&self) -> usize {
        self.value_length
    }

    fn check(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let right_key = key.len() == self.info.key_size as usize;
        let right_value = value.is_none_or(|value| value.len() == self.value_length);
        if right_key && right_value {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }

    fn element(&self, key: &[u8], value: u64, flags: u64) -> ElementAttribute {
        ElementAttribute {
            fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: pointer(key),
            value,
            flags,
        }
    }

    /// Looks a key up; false if it is not there.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.check(key, Some(value))?;
        let mut attribute = self.element(key, pointer_mut(value), 0);
        // SAFETY: key and value are live and as long as the map's, compared above.
        found(unsafe { bpf(command::MAP_LOOKUP, &mut attribute) })
    }

    /// Writes a key. `flags`: 0 any, 1 only if absent, 2 only if present.
    pub(crate) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        self.check(key, Some(value))?;
        let mut attribute = self.element(key, pointer(value), flags);
        // SAFETY: key and value are live and as long as the map's, compared above; the kernel only reads them.
        unsafe { bpf(command::MAP_UPDATE, &mut attribute)? };
        Ok(())
    }

    /// Puts a map into a map of maps.
    pub(crate) fn update_inner(&self, key: u32, inner: &Self) -> io::Result<()> {
        self.update(
            &key.to_ne_bytes(),
            &(inner.fd.as_raw_fd() as u32).to_ne_bytes(),
            0,
        )
    }

    /// Removes a key; false if it was not there.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.check(key, None)?;
        let mut attribute = self.element(key, 0, 0);
        // SAFETY: the key is live and as long as the map's, compared above.
        found(unsafe { bpf(command::MAP_DELETE, &mut attribute) })
    }

    /// The key after `key` (of any key that is gone, and of `None`: the first); false at the end.
    pub(crate) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
        self.check(key.unwrap_or(next), None)?;
        self.check(next, None)?;
        let mut attribute = self.element(key.unwrap_or_default(), pointer_mut(next), 0);
        if key.is_none() {
            attribute.key = 0;
        }
        // SAFETY: both buffers are live and as long as a key, compared above; a null key means the first.
        found(unsafe { bpf(command::MAP_NEXT_KEY, &mut attribute) })
    }

    /// Looks up as many entries as the buffers hold. `position` is the kernel's cursor: `None` inside at the
    /// beginning, and to be handed back as it is.
    pub(crate) fn lookup_batch(
        &self,
        position: &mut Option<[u8; 64]>,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> io::Result<Batch> {
        let room = keys.len() / (self.info.key_size as usize).max(1);
        if values.len() / self.value_length.max(1) < room || self.info.key_size as usize > 64 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut out = [0_u8; 64];
        let mut attribute = BatchAttribute {
            in_batch: position.as_ref().map_or(0, |position| pointer(position)),
            out_batch: pointer_mut(&mut out),
            keys: pointer_mut(keys),
            values: pointer_mut(values),
            count: room as u32,
            fd: self.fd.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the buffers hold `count` keys and values of the map's sizes, computed above; the cursor is a u32
        // (hash) or a key (array), both of which fit into 64 bytes.
        let result = unsafe { bpf(command::MAP_LOOKUP_BATCH, &mut attribute) };
        let end = !found(result)?;
        *position = Some(out);
        Ok(Batch {
            count: (attribute.count as usize).min(room),
            end,
        })
    }

    /// Writes many entries; on failure says how many were written before it.
    pub(crate) fn update_batch(&self, keys: &[u8], values: &[u8]) -> Result<(), (usize, io::Error)> {
        let invalid = || (0, io::Error::from_raw_os_error(libc::EINVAL));
        let (key, value) = (self.info.key_size as usize, self.value_length);
        let count = keys.len() / key.max(1);
        if keys.len() != count * key || values.len() != count * value {
            return Err(invalid());
        }
        let mut attribute = BatchAttribute {
            in_batch: 0,
            out_batch: 0,
            keys: pointer(keys),
            values: pointer(values),
            count: count as u32,
            fd: self.fd.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the buffers hold exactly `count` keys and values of the map's sizes; the kernel only reads them.
        match unsafe { bpf(command::MAP_UPDATE_BATCH, &mut attribute) } {
            Ok(_) => Ok(()),
            Err(error) => Err(((attribute.count as usize).min(count), error)),
        }
    }

    /// Maps a mmapable array into memory.
    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let stride = (self.info.value_size as usize).next_multiple_of(8);
        let length = stride * self.info.max_entries as usize;
        if self.info.kind != map_type::ARRAY || self.info.flags & MMAPABLE == 0 || length == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Memory::of(self.fd.as_fd(), length, stride)
    }
}

impl AsFd for MapFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn found(result: io::Result<c_long>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many CPUs per-CPU maps have values for.
pub(crate) fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit(['-', ',']).next().unwrap_or_default();
    let last: usize = last
        .parse()
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(last + 1)
}
