//! Ids that one owner has at a time.

use std::collections::VecDeque;

/// Free ids; the one that has rested longest is used next, and untouched ones after those.
#[derive(Debug)]
pub(super) struct Ids {
    next: u32,
    capacity: u32,
    free: VecDeque<u32>,
}

impl Ids {
    /// All ids from 1 to below `capacity`, except those in use, which must be in order.
    pub(super) fn new(capacity: u32, used: &[u32]) -> Self {
        let next = used.last().map_or(1, |last| last + 1);
        let mut used = used.iter().peekable();
        let free = (1..next)
            .filter(|id| used.next_if(|used| *used == id).is_none())
            .collect();
        Self { next, capacity, free }
    }

    /// There are ids below this from now on.
    pub(super) fn grow(&mut self, capacity: u32) {
        self.capacity = self.capacity.max(capacity);
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop_front() {
            return Some(id);
        }
        let id = self.next;
        if id >= self.capacity {
            return None;
        }
        self.next += 1;
        Some(id)
    }

    /// Gives an id back that nobody has seen.
    pub(super) fn untake(&mut self, id: u32) {
        self.free.push_front(id);
    }

    pub(super) fn give_back(&mut self, id: u32) {
        self.free.push_back(id);
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.free.len() + self.capacity.saturating_sub(self.next) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_given_once_and_0_never() {
        let mut ids = Ids::new(6, &[2, 3]);
        let taken: Vec<u32> = std::iter::from_fn(|| ids.take()).collect();
        assert_eq!(taken, [1, 4, 5]);
        ids.give_back(4);
        ids.give_back(2);
        assert_eq!((ids.take(), ids.take(), ids.take()), (Some(4), Some(2), None));
    }

    #[test]
    fn what_a_map_grows_by_comes_last_and_once() {
        let mut ids = Ids::new(3, &[1]);
        assert_eq!((ids.take(), ids.take()), (Some(2), None));
        ids.grow(5);
        ids.give_back(1);
        let taken: Vec<u32> = std::iter::from_fn(|| ids.take()).collect();
        assert_eq!(taken, [1, 3, 4]);
    }

    #[test]
    fn a_map_of_nothing_gives_nothing() {
        assert_eq!(Ids::new(1, &[]).take(), None);
        assert_eq!(Ids::new(0, &[]).take(), None);
    }
}
