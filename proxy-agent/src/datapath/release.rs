//! Bits of PREFILTER that nobody claims any more, until a sweep has shown that no live flow needs them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proxy_common::layout::{Addr, FilterBit, Flow, FlowKey};

use super::memory::{BeyondEnd, Prefilter};

/// Released bits, each with a number of its own: a bit that was claimed and released again meanwhile is another one.
#[derive(Debug, Default)]
pub(super) struct Released {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    bits: BTreeMap<FilterBit, u64>,
}

/// The bits that one sweep decides about.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    bits: BTreeMap<FilterBit, u64>,
}

impl Released {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a bit; it is claimed again.
    pub(super) fn claim(&self, filter: &Prefilter, bit: FilterBit) -> Result<(), BeyondEnd> {
        let mut waiting = self.lock();
        waiting.bits.remove(&bit);
        // Under the lock: a sweep that ends at this moment must not clear it afterwards.
        filter.set(bit)
    }

    /// Nobody claims the bit any more.
    pub(super) fn release(&self, bit: FilterBit) {
        let mut waiting = self.lock();
        waiting.next += 1;
        let number = waiting.next;
        waiting.bits.insert(bit, number);
    }

    /// Whether a sweep has something to decide.
    pub(super) fn any(&self) -> bool {
        !self.lock().bits.is_empty()
    }

    /// Those released up to now. A grace period and then a whole sweep have to follow.
    pub(super) fn candidates(&self) -> Candidates {
        Candidates {
            bits: self.lock().bits.clone(),
        }
    }

    /// Clears those that the sweep has not met and that nobody has claimed since; how many. The others wait on.
    pub(super) fn clear(&self, filter: &Prefilter, unused: &Candidates) -> usize {
        let mut waiting = self.lock();
        let mut cleared = 0;
        for (bit, number) in &unused.bits {
            if waiting.bits.get(bit) == Some(number) {
                waiting.bits.remove(bit);
                filter.clear(*bit);
                cleared += 1;
            }
        }
        cleared
    }
}

impl Candidates {
    /// A live flow: what can lead to its frontend or backend stays.
    pub(super) fn met<A: Addr>(&mut self, key: &FlowKey<A>, flow: &Flow<A>) {
        if self.bits.is_empty() {
            return;
        }
        // Of a forward entry the destination is the frontend and becomes the backend; of a reverse entry the source
        // is the backend and becomes the frontend. Which is which need not be known: more bits kept do no harm.
        let ends = [
            (key.source, key.source_port),
            (key.destination, key.destination_port),
            (flow.source, flow.source_port),
            (flow.destination, flow.destination_port),
        ];
        for (address, port) in ends {
            for bit in [
                FilterBit::forward(&address, port, key.protocol),
                FilterBit::reverse(&address, port, key.protocol),
                FilterBit::forward_address(&address),
                FilterBit::reverse_address(&address),
                FilterBit::node_port(port, key.protocol),
            ] {
                self.bits.remove(&bit);
            }
        }
    }
}
