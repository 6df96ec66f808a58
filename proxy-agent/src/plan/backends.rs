//! Backend ids and their generations.

use proxy_common::layout::{Backend, BackendId};

use super::ids::Ids;

/// Ids of BACKENDS, each with the last life that was given for it.
#[derive(Debug)]
pub(super) struct Backends {
    ids: Ids,
    lives: Vec<u32>,
}

impl Backends {
    /// Goes on from what the map holds.
    pub(super) fn adopt(capacity: u32, held: &[(BackendId, Backend)]) -> Self {
        let mut used: Vec<u32> = held
            .iter()
            .filter(|(_, backend)| backend.is_alive())
            .map(|(id, _)| id.0)
            .collect();
        used.sort_unstable();
        let mut backends = Self {
            ids: Ids::new(capacity, &used),
            lives: Vec::new(),
        };
        for (id, backend) in held {
            backends.set_life(*id, backend.life.max(backend.last_life));
        }
        backends
    }

    pub(super) fn grow(&mut self, capacity: u32) {
        self.ids.grow(capacity);
    }

    /// An id that nobody uses.
    pub(super) fn take(&mut self) -> Option<BackendId> {
        self.ids.take().map(BackendId)
    }

    pub(super) fn untake(&mut self, id: BackendId) {
        self.ids.untake(id.0);
    }

    pub(super) fn give_back(&mut self, id: BackendId) {
        self.ids.give_back(id.0);
    }

    /// A life that this id never had.
    pub(super) fn next_life(&mut self, id: BackendId) -> u32 {
        let last = self.lives.get(id.0 as usize).copied().unwrap_or(0);
        let life = last.checked_add(1).unwrap_or(1);
        self.set_life(id, life);
        life
    }

    fn set_life(&mut self, id: BackendId, life: u32) {
        let index = id.0 as usize;
        if self.lives.len() <= index {
            self.lives.resize(index + 1, 0);
        }
        self.lives[index] = life;
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.ids.left()
    }
}
