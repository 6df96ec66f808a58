//! Typed maps over `sys`.

use std::marker::PhantomData;

use super::error::{CallError, Context};
use super::sys::{self, Layout, MapDefinition, MapFd};

/// How many entries one batch look-up asks for; above the longest chain of a hash bucket that can be expected.
const BATCH: usize = 4096;
/// Fewer are asked for if they are large: what a walk holds is part of the agent's peak.
const BATCH_BYTES: usize = 416 << 10;

/// A hash or array with keys `K` and values `V`.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    fd: MapFd,
    name: &'static str,
    types: PhantomData<fn(K) -> V>,
}

/// Where a walk over a map stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    position: Option<[u8; 64]>,
    /// Set once the kernel has said that the map has no batch operations.
    single: bool,
    last_key: Option<Vec<u8>>,
}

/// A slice of a walk: its entries, and whether the walk is over.
pub(super) type Slice<K, V> = (Vec<(K, V)>, bool);

impl<K: Layout, V: Layout> Map<K, V> {
    /// Wraps an open map whose key and value sizes are those of the types.
    pub(super) fn new(fd: MapFd, name: &'static str) -> Result<Self, CallError> {
        let sizes = (fd.info().key_size as usize, fd.value_length());
        if sizes != (size_of::<K>(), size_of::<V>()) {
            let invalid = std::io::Error::from_raw_os_error(libc::EINVAL);
            return Err(invalid).call(
                "BPF_OBJ_GET_INFO_BY_FD",
                format!("{name} (key and value sizes {sizes:?})"),
            );
        }
        Ok(Self {
            fd,
            name,
            types: PhantomData,
        })
    }

    pub(super) fn capacity(&self) -> u32 {
        self.fd.info().max_entries
    }

    pub(super) fn get(&self, key: &K) -> Result<Option<V>, CallError> {
        let mut value = vec![0; size_of::<V>()];
        let found = self
            .fd
            .lookup(sys::bytes_of(key), &mut value)
            .call("BPF_MAP_LOOKUP_ELEM", self.name)?;
        Ok(if found { sys::from_bytes(&value) } else { None })
    }

    pub(super) fn put(&self, key: &K, value: &V) -> Result<(), CallError> {
        self.fd
            .update(sys::bytes_of(key), sys::bytes_of(value), 0)
            .call("BPF_MAP_UPDATE_ELEM", self.name)
    }

    /// Writes many entries in order; on failure says how many were written before the one that failed.
    pub(super) fn put_all(&self, entries: &[(K, V)]) -> Result<(), (usize, CallError)> {
        if let [(key, value)] = entries {
            return self.put(key, value).map_err(|error| (0, error));
        }
        let keys: Vec<K> = entries.iter().map(|(key, _)| *key).collect();
        let values: Vec<V> = entries.iter().map(|(_, value)| *value).collect();
        match self
            .fd
            .update_batch(sys::bytes_of_slice(&keys), sys::bytes_of_slice(&values))
        {
            Ok(()) => Ok(()),
            Err((_, error)) if lacks_batches(&error) => entries
                .iter()
                .enumerate()
                .try_for_each(|(index, (key, value))| self.put(key, value).map_err(|error| (index, error))),
            Err((done, error)) => {
                let failed: Result<(), _> = Err(error).call("BPF_MAP_UPDATE_BATCH", self.name);
                failed.map_err(|error| (done, error))
            }
        }
    }

    /// Removes a key; false if it was not there.
    pub(super) fn remove(&self, key: &K) -> Result<bool, CallError> {
        self.fd
            .delete(sys::bytes_of(key))
            .call("BPF_MAP_DELETE_ELEM", self.name)
    }

    /// All entries.
    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, CallError> {
        let mut cursor = Cursor::default();
        let mut all = Vec::new();
        loop {
            let (slice, end) = self.walk(&mut cursor)?;
            all.extend(slice);
            if end {
                return Ok(all);
            }
        }
    }

    /// The next slice of a walk.
    pub(super) fn walk(&self, cursor: &mut Cursor) -> Result<Slice<K, V>, CallError> {
        if cursor.single {
            return self.walk_singly(cursor);
        }
        let fitting = BATCH_BYTES / (size_of::<K>() + size_of::<V>()).max(1);
        let room = BATCH.min(fitting).min(self.capacity().max(1) as usize * 2);
        let mut keys = vec![0; room * size_of::<K>()];
        let mut values = vec![0; room * size_of::<V>()];
        match self.fd.lookup_batch(&mut cursor.position, &mut keys, &mut values) {
            Ok(batch) => {
                let entries = keys
                    .chunks_exact(size_of::<K>())
                    .zip(values.chunks_exact(size_of::<V>()));
                let entries = entries
                    .take(batch.count)
                    .filter_map(|(key, value)| Some((sys::from_bytes(key)?, sys::from_bytes(value)?)));
                Ok((entries.collect(), batch.end))
            }
            Err(error) if lacks_batches(&error) && cursor.position.is_none() => {
                cursor.single = true;
                self.walk_singly(cursor)
            }
            Err(error) => Err(error).call("BPF_MAP_LOOKUP_BATCH", self.name),
        }
    }

    fn walk_singly(&self, cursor: &mut Cursor) -> Result<Slice<K, V>, CallError> {
        let mut entries = Vec::new();
        let mut key = vec![0; size_of::<K>()];
        let mut value = vec![0; size_of::<V>()];
        for _ in 0..BATCH {
            let last = cursor.last_key.as_deref();
            if !self
                .fd
                .next_key(last, &mut key)
                .call("BPF_MAP_GET_NEXT_KEY", self.name)?
            {
                return Ok((entries, true));
            }
            cursor.last_key = Some(key.clone());
            if self
                .fd
                .lookup(&key, &mut value)
                .call("BPF_MAP_LOOKUP_ELEM", self.name)?
            {
                entries.extend(sys::from_bytes(&key).zip(sys::from_bytes(&value)));
            }
        }
        Ok((entries, false))
    }
}

/// A per-CPU array of counters, summed over the CPUs.
#[derive(Debug)]
pub(super) struct CounterMap {
    fd: MapFd,
    name: &'static str,
}

impl CounterMap {
    pub(super) fn new(fd: MapFd, name: &'static str) -> Self {
        Self { fd, name }
    }

    pub(super) fn capacity(&self) -> u32 {
        self.fd.info().max_entries
    }

    pub(super) fn sum(&self, index: u32) -> Result<u64, CallError> {
        let mut values = vec![0; self.fd.value_length()];
        self.fd
            .lookup(&index.to_ne_bytes(), &mut values)
            .call("BPF_MAP_LOOKUP_ELEM", self.name)?;
        let counts = values.chunks_exact(8).filter_map(sys::from_bytes::<u64>);
        Ok(counts.fold(0, u64::wrapping_add))
    }
}

/// Kernels before 5.6 know no batches at all, and some map types have none.
pub(super) fn lacks_batches(error: &std::io::Error) -> bool {
    const ENOTSUPP: i32 = 524;
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)
    )
}

/// Makes a map.
pub(super) fn create(definition: &MapDefinition<'_>) -> Result<MapFd, CallError> {
    MapFd::create(definition, None).call("BPF_MAP_CREATE", definition.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::sys::{NO_PREALLOC, map_type};
    use proxy_common::layout::*;

    fn made<K: Layout, V: Layout>(kind: u32, max_entries: u32, flags: u32) -> Map<K, V> {
        let definition = MapDefinition {
            name: "test",
            kind,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries,
            flags,
        };
        Map::new(create(&definition).unwrap(), "test").unwrap()
    }

    /// Distinct bytes, so that a swap of any two fields would show.
    fn pattern<T: Layout>(seed: u8) -> T {
        let bytes: Vec<u8> = (0..size_of::<T>())
            .map(|n| seed.wrapping_mul(31).wrapping_add(n as u8))
            .collect();
        sys::from_bytes(&bytes).unwrap()
    }

    fn round_trip<K: Layout, V: Layout>() {
        for (kind, flags) in [
            (map_type::HASH, NO_PREALLOC),
            (map_type::HASH, 0),
            (map_type::LRU_HASH, 0),
        ] {
            let map = made::<K, V>(kind, 64, flags);
            let entries: Vec<(K, V)> = (0..5).map(|n| (pattern(n), pattern(n + 100))).collect();
            map.put(&entries[0].0, &entries[0].1).unwrap();
            map.put_all(&entries[1..]).unwrap();
            for (key, value) in &entries {
                let read = map.get(key).unwrap().unwrap();
                assert_eq!(sys::bytes_of(&read), sys::bytes_of(value));
            }
            assert_eq!(map.entries().unwrap().len(), 5);
            assert!(map.remove(&entries[2].0).unwrap());
            assert!(!map.remove(&entries[2].0).unwrap());
            assert!(map.get(&entries[2].0).unwrap().is_none());
            assert_eq!(map.entries().unwrap().len(), 4);
        }
    }

    #[test]
    fn every_layout_goes_through_the_kernel_and_back() {
        round_trip::<FrontendKey<V4>, FrontendValue>();
        round_trip::<FrontendKey<V6>, FrontendValue>();
        round_trip::<FlowKey<V4>, Flow<V4>>();
        round_trip::<FlowKey<V6>, Flow<V6>>();
        round_trip::<FragmentKey<V4>, FragmentPorts>();
        round_trip::<FragmentKey<V6>, FragmentPorts>();
        round_trip::<AffinityKey, Affinity>();
        round_trip::<NamespaceKey, NamespaceAddress>();
        round_trip::<SourceRangeKey<V4>, u32>();
        round_trip::<SourceRangeKey<V6>, u32>();
        round_trip::<SocketKey, SocketValue>();
        round_trip::<ServiceId, Identity>();
        round_trip::<BackendId, Backend>();
        round_trip::<u32, Interface>();
        round_trip::<V4, u32>();
        round_trip::<V6, u32>();
        round_trip::<u64, Service>();
        round_trip::<u32, Config>();
    }

    #[test]
    fn a_walk_gives_every_entry_once_in_batches_and_singly() {
        let map = made::<u32, u64>(map_type::HASH, 20_000, 0);
        let entries: Vec<(u32, u64)> = (0..10_000).map(|n| (n, u64::from(n) * 3)).collect();
        map.put_all(&entries).unwrap();
        for single in [false, true] {
            let mut cursor = Cursor {
                single,
                ..Cursor::default()
            };
            let mut seen = Vec::new();
            let mut slices = 0;
            loop {
                let (slice, end) = map.walk(&mut cursor).unwrap();
                assert!(slice.len() <= BATCH);
                seen.extend(slice);
                slices += 1;
                if end {
                    break;
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, entries);
            assert!(slices >= 3, "{slices}");
        }
    }

    #[test]
    fn a_full_map_is_named_with_how_far_it_came() {
        let map = made::<u32, u64>(map_type::HASH, 8, 0);
        let entries: Vec<(u32, u64)> = (0..9).map(|n| (n, 0)).collect();
        let (done, error) = map.put_all(&entries).unwrap_err();
        assert_eq!(done, 8);
        let text = error.to_string();
        assert!(
            text.contains("BPF_MAP_UPDATE_BATCH of test") && text.contains("the map is full"),
            "{text}"
        );
        let text = map.put(&99, &0).unwrap_err().to_string();
        assert!(
            text.contains("BPF_MAP_UPDATE_ELEM of test") && text.contains("the map is full"),
            "{text}"
        );
    }

    #[test]
    fn wrong_sizes_never_reach_the_kernel() {
        let map = made::<u32, u64>(map_type::HASH, 8, 0);
        assert!(map.fd.lookup(&[0; 3], &mut [0; 8]).is_err());
        assert!(map.fd.lookup(&[0; 4], &mut [0; 7]).is_err());
        assert!(map.fd.update(&[0; 4], &[0; 9], 0).is_err());
        let fd = map.fd;
        assert!(Map::<u64, u64>::new(fd, "test").is_err());
    }
}
