//! The mmapable arrays: written by atomic stores, so that a reader in the kernel never sees half a change.

use std::sync::atomic::{AtomicU32, Ordering};

use proxy_common::layout::{AffinityWord, Backend, BackendId, FilterBit, ListWord, Service, ServiceId};

use super::sys::{self, Memory};

/// An index beyond the end of an array.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BeyondEnd {
    pub(super) index: u32,
    pub(super) length: u32,
}

fn beyond(memory: &Memory, index: u32) -> BeyondEnd {
    BeyondEnd {
        index,
        length: memory.len(),
    }
}

/// SERVICES.
#[derive(Debug)]
pub(super) struct Services(pub(super) Memory);

impl Services {
    /// Stores each list in one store with release order: who sees the list sees its slots.
    pub(super) fn put(&self, id: ServiceId, service: &Service) -> Result<(), BeyondEnd> {
        let words = self.0.element_words(id.0).ok_or_else(|| beyond(&self.0, id.0))?;
        let values = [
            service.internal.0,
            service.external.0,
            service.shortcut.0,
            service.affinity.0,
        ];
        // Who takes the shortcut for the list of all backends finds them in it: the word that says which it is comes first
        // where it becomes this node's, and last where it no longer is.
        let (first, last) = match service.affinity.hands_on() {
            true => ([3, 2], [1, 0]),
            false => ([2, 3], [1, 0]),
        };
        for index in first.into_iter().chain(last) {
            if let (Some(word), Some(value)) = (words.get(index), values.get(index)) {
                word.store(*value, Ordering::Release);
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, id: ServiceId) -> Option<Service> {
        let words = self.0.element_words(id.0)?;
        let word = |index: usize| words.get(index).map(|word| word.load(Ordering::Acquire));
        Some(Service {
            internal: ListWord(word(0)?),
            external: ListWord(word(1)?),
            shortcut: ListWord(word(2)?),
            affinity: AffinityWord(word(3)?),
        })
    }

    pub(super) fn len(&self) -> u32 {
        self.0.len()
    }
}

/// SLOTS.
#[derive(Debug)]
pub(super) struct Slots(pub(super) Memory);

impl Slots {
    /// Writes a run that no list shows yet.
    pub(super) fn put(&self, first: u32, backends: &[BackendId]) -> Result<(), BeyondEnd> {
        let last = u64::from(first) + backends.len() as u64;
        if last > u64::from(self.0.len()) {
            return Err(beyond(&self.0, last.min(u64::from(u32::MAX)) as u32));
        }
        for (slot, backend) in (first..).zip(backends) {
            if let Some([half, ..]) = self.0.element(slot) {
                half.store(backend.0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// A run of slots; those beyond the end are left out.
    pub(super) fn get(&self, first: u32, count: u32) -> Vec<BackendId> {
        let slots = first..first.saturating_add(count).min(self.0.len());
        slots
            .filter_map(|slot| {
                self.0
                    .element(slot)?
                    .first()
                    .map(|half| BackendId(half.load(Ordering::Relaxed)))
            })
            .collect()
    }

    /// How long a list's run is, with its table.
    pub(super) fn length(&self, list: ListWord) -> u32 {
        let table = list.table_length_slot().map(|slot| {
            let entries = self.get(slot, 1).first().map_or(0, |entries| entries.0);
            entries.saturating_add(1)
        });
        list.count().saturating_add(table.unwrap_or(0))
    }

    pub(super) fn len(&self) -> u32 {
        self.0.len()
    }
}

/// Words of a [`Backend`].
const LIFE: usize = 6;
const LAST_LIFE: usize = 7;

/// BACKENDS.
#[derive(Debug)]
pub(super) struct Backends(pub(super) Memory);

impl Backends {
    fn words(&self, id: BackendId) -> Result<&[AtomicU32], BeyondEnd> {
        self.0.element(id.0).ok_or_else(|| beyond(&self.0, id.0))
    }

    /// Writes all fields, then `life` with release order: who sees the life sees the rest.
    pub(super) fn put(&self, id: BackendId, backend: &Backend) -> Result<(), BeyondEnd> {
        let words = self.words(id)?;
        let values: Vec<u32> = sys::bytes_of(backend)
            .chunks_exact(4)
            .filter_map(sys::from_bytes)
            .collect();
        for (index, (word, value)) in words.iter().zip(&values).enumerate() {
            if index != LIFE {
                word.store(*value, Ordering::Relaxed);
            }
        }
        if let Some(life) = words.get(LIFE) {
            life.store(backend.life, Ordering::Release);
        }
        Ok(())
    }

    /// Ends a backend's life, and gives what it was. A dead one stays as it is.
    pub(super) fn kill(&self, id: BackendId) -> Result<Backend, BeyondEnd> {
        let words = self.words(id)?;
        let backend = self.get(id).ok_or_else(|| beyond(&self.0, id.0))?;
        if backend.is_alive()
            && let (Some(life), Some(last_life)) = (words.get(LIFE), words.get(LAST_LIFE))
        {
            last_life.store(backend.life, Ordering::Relaxed);
            life.store(0, Ordering::Release);
        }
        Ok(backend)
    }

    pub(super) fn get(&self, id: BackendId) -> Option<Backend> {
        let words = self.0.element(id.0)?;
        let life = words.get(LIFE)?.load(Ordering::Acquire);
        let mut bytes = Vec::with_capacity(size_of::<Backend>());
        for (index, word) in words.iter().enumerate() {
            let value = if index == LIFE {
                life
            } else {
                word.load(Ordering::Relaxed)
            };
            bytes.extend(value.to_ne_bytes());
        }
        sys::from_bytes(&bytes)
    }

    /// How many serve.
    pub(super) fn alive(&self) -> u64 {
        let words = (0..self.0.len()).filter_map(|id| self.0.element(id)?.get(LIFE));
        words
            .map(|life| u64::from(life.load(Ordering::Relaxed) != 0))
            .sum()
    }

    /// All that are or were in use.
    pub(super) fn used(&self) -> Vec<(BackendId, Backend)> {
        self.used_of(0..self.0.len())
    }

    /// Those of these ids.
    pub(super) fn used_of(&self, ids: std::ops::Range<u32>) -> Vec<(BackendId, Backend)> {
        let ids = (ids.start..ids.end.min(self.0.len())).map(BackendId);
        ids.filter(|id| self.is_used(*id))
            .filter_map(|id| Some((id, self.get(id)?)))
            .collect()
    }

    fn is_used(&self, id: BackendId) -> bool {
        let words = self.0.element(id.0).unwrap_or_default();
        [LIFE, LAST_LIFE].iter().any(|index| {
            words
                .get(*index)
                .is_some_and(|word| word.load(Ordering::Relaxed) != 0)
        })
    }

    pub(super) fn len(&self) -> u32 {
        self.0.len()
    }
}

/// PREFILTER.
#[derive(Debug)]
pub(super) struct Prefilter(pub(super) Memory);

impl Prefilter {
    pub(super) fn set(&self, bit: FilterBit) -> Result<(), BeyondEnd> {
        let word = self
            .0
            .words()
            .get(bit.word() as usize)
            .ok_or_else(|| beyond(&self.0, bit.word()))?;
        word.fetch_or(bit.mask(), Ordering::Release);
        Ok(())
    }

    pub(super) fn clear(&self, bit: FilterBit) {
        if let Some(word) = self.0.words().get(bit.word() as usize) {
            word.fetch_and(!bit.mask(), Ordering::Release);
        }
    }

    /// One word.
    pub(super) fn word(&self, index: u32) -> Option<u64> {
        let word = self.0.words().get(index as usize)?;
        Some(word.load(Ordering::Acquire))
    }

    /// The words that are not 0.
    pub(super) fn used(&self) -> Vec<(u32, u64)> {
        let words = (0..).zip(self.0.words());
        words
            .map(|(index, word)| (index, word.load(Ordering::Acquire)))
            .filter(|(_, word)| *word != 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::sys::{MMAPABLE, MapDefinition, MapFd, map_type};
    use proxy_common::layout::{PREFILTER_WORDS, Port, V4, V6};

    fn array<V>(max_entries: u32) -> (MapFd, Memory) {
        let definition = MapDefinition {
            name: "test",
            kind: map_type::ARRAY,
            key_size: 4,
            value_size: size_of::<V>() as u32,
            max_entries,
            flags: MMAPABLE,
        };
        let fd = MapFd::create(&definition, None).unwrap();
        let memory = fd.memory().unwrap();
        (fd, memory)
    }

    fn looked_up<V: sys::Layout>(fd: &MapFd, index: u32) -> V {
        let mut value = vec![0; size_of::<V>()];
        assert!(fd.lookup(&index.to_ne_bytes(), &mut value).unwrap());
        sys::from_bytes(&value).unwrap()
    }

    #[test]
    fn a_stored_service_is_what_a_look_up_finds() {
        let (fd, memory) = array::<Service>(16);
        let services = Services(memory);
        let service = Service {
            internal: ListWord::new(5, 2, 7),
            external: ListWord::new(9, 3, 7),
            shortcut: ListWord::new(11, 4, 7),
            affinity: AffinityWord::new(10_800, 1, 7),
        };
        services.put(ServiceId(15), &service).unwrap();
        assert_eq!(looked_up::<Service>(&fd, 15), service);
        assert_eq!(services.get(ServiceId(15)), Some(service));
        assert_eq!(looked_up::<Service>(&fd, 14), Service::default());
        assert_eq!(
            services.put(ServiceId(16), &service),
            Err(BeyondEnd {
                index: 16,
                length: 16
            })
        );
    }

    #[test]
    fn stored_slots_are_what_a_look_up_finds() {
        let (fd, memory) = array::<BackendId>(8);
        let slots = Slots(memory);
        let run = [BackendId(3), BackendId(1), BackendId(4)];
        slots.put(5, &run).unwrap();
        assert_eq!([5, 6, 7].map(|slot| looked_up::<BackendId>(&fd, slot)), run);
        assert_eq!(slots.get(5, 3), run);
        assert!(
            slots.put(6, &run).is_err(),
            "a run that does not fit is refused whole"
        );
        assert_eq!(slots.get(5, 3), run);
    }

    #[test]
    fn a_backend_lives_dies_once_and_keeps_its_last_life() {
        let (fd, memory) = array::<Backend>(4);
        let backends = Backends(memory);
        let backend = Backend {
            address: V6([1, 2, 3, 4]),
            port: Port::new(8080),
            protocol: 17,
            flags: 1,
            service: ServiceId(6),
            life: 9,
            last_life: 0,
        };
        backends.put(BackendId(2), &backend).unwrap();
        assert_eq!(looked_up::<Backend>(&fd, 2), backend);
        assert_eq!(backends.used(), vec![(BackendId(2), backend)]);
        assert_eq!(backends.kill(BackendId(2)), Ok(backend));
        let dead = Backend {
            life: 0,
            last_life: 9,
            ..backend
        };
        assert_eq!(looked_up::<Backend>(&fd, 2), dead);
        assert_eq!(
            backends.kill(BackendId(2)),
            Ok(dead),
            "killing twice changes nothing"
        );
        assert_eq!(backends.get(BackendId(2)), Some(dead));
        assert!(backends.put(BackendId(4), &backend).is_err());
    }

    #[test]
    fn filter_bits_are_set_and_cleared_alone() {
        let (fd, memory) = array::<u64>(PREFILTER_WORDS);
        let filter = Prefilter(memory);
        let [a, b] = [80, 81].map(|port| FilterBit::node_port(Port::new(port), 6));
        let c = FilterBit::forward(&V4::new([10, 0, 0, 1]), Port::new(80), 6);
        for bit in [a, b, c] {
            filter.set(bit).unwrap();
        }
        assert_eq!(a.word(), b.word());
        assert_eq!(looked_up::<u64>(&fd, a.word()), a.mask() | b.mask());
        filter.clear(a);
        assert_eq!(looked_up::<u64>(&fd, a.word()), b.mask());
        assert_eq!(looked_up::<u64>(&fd, c.word()), c.mask());
        assert_eq!(filter.used().len(), 2);
    }
}
