//! Runs of slots: best fit, neighbours merged.

use std::collections::{BTreeMap, BTreeSet};

/// A run of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) length: u32,
}

/// The free runs, by their place and by their length.
#[derive(Debug)]
pub(super) struct Slots {
    by_place: BTreeMap<u32, u32>,
    by_length: BTreeSet<(u32, u32)>,
}

impl Slots {
    pub(super) fn new(capacity: u32) -> Self {
        let mut slots = Self {
            by_place: BTreeMap::new(),
            by_length: BTreeSet::new(),
        };
        slots.add(Run {
            first: 0,
            length: capacity,
        });
        slots
    }

    /// The shortest free run that is long enough, cut to length.
    pub(super) fn take(&mut self, length: u32) -> Option<Run> {
        let (free, first) = self.by_length.range((length, 0)..).next().copied()?;
        self.remove(Run { first, length: free });
        self.add(Run {
            first: first + length,
            length: free - length,
        });
        Some(Run { first, length })
    }

    /// Takes this very run, if all of it is free.
    pub(super) fn claim(&mut self, run: Run) -> bool {
        let Some((&first, &length)) = self.by_place.range(..=run.first).next_back() else {
            return false;
        };
        let (end, run_end) = (first + length, run.first.saturating_add(run.length));
        if run_end > end {
            return false;
        }
        self.remove(Run { first, length });
        self.add(Run {
            first,
            length: run.first - first,
        });
        self.add(Run {
            first: run_end,
            length: end - run_end,
        });
        true
    }

    pub(super) fn give_back(&mut self, run: Run) {
        let mut run = run;
        if let Some((&first, &length)) = self.by_place.range(..run.first).next_back()
            && first + length == run.first
        {
            self.remove(Run { first, length });
            run = Run {
                first,
                length: length + run.length,
            };
        }
        let end = run.first + run.length;
        if let Some(&length) = self.by_place.get(&end) {
            self.remove(Run { first: end, length });
            run.length += length;
        }
        self.add(run);
    }

    fn add(&mut self, run: Run) {
        if run.length != 0 {
            self.by_place.insert(run.first, run.length);
            self.by_length.insert((run.length, run.first));
        }
    }

    fn remove(&mut self, run: Run) {
        self.by_place.remove(&run.first);
        self.by_length.remove(&(run.length, run.first));
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> u32 {
        self.by_place.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_never_overlap_and_never_leak(steps in prop::collection::vec((any::<bool>(), 1..20_u32), 1..200)) {
            const CAPACITY: u32 = 128;
            let mut slots = Slots::new(CAPACITY);
            let mut taken: Vec<Run> = Vec::new();
            let mut owned = [false; CAPACITY as usize];
            for (take, number) in steps {
                if take {
                    let longest = owned.split(|owned| *owned).map(<[bool]>::len).max().unwrap_or(0);
                    let run = slots.take(number);
                    prop_assert_eq!(run.is_some(), longest >= number as usize, "merged runs are found");
                    let Some(run) = run else { continue };
                    for slot in run.first..run.first + run.length {
                        prop_assert!(!std::mem::replace(&mut owned[slot as usize], true));
                    }
                    taken.push(run);
                } else if !taken.is_empty() {
                    let run = taken.swap_remove(number as usize % taken.len());
                    owned[run.first as usize..(run.first + run.length) as usize].fill(false);
                    slots.give_back(run);
                }
                prop_assert_eq!(slots.free() as usize, owned.iter().filter(|owned| !**owned).count());
            }
            let mut again = Slots::new(CAPACITY);
            for run in &taken {
                prop_assert!(again.claim(*run));
                prop_assert!(!again.claim(*run));
            }
            prop_assert_eq!(again.by_place, slots.by_place);
            prop_assert_eq!(again.by_length, slots.by_length);
        }
    }

    #[test]
    fn no_run_goes_beyond_the_end() {
        let mut slots = Slots::new(8);
        assert_eq!(slots.take(9), None);
        assert!(!slots.claim(Run { first: 7, length: 2 }));
        assert!(!slots.claim(Run {
            first: u32::MAX,
            length: 2
        }));
        assert_eq!(slots.free(), 8);
    }
}
