//! Session affinity: a client's new flow goes where the one before it went (semantics A7).

use crate::layout::{Addr, Affinity, AffinityKey, AffinityWord, BackendId, Counter, ListWord};
use crate::rules::{Directory, lifetime};

/// Steps in which the longest list is searched.
const STEPS: u32 = 23;
const _: () = assert!(ListWord::MAX_COUNT < 1 << (STEPS - 1));

/// The backend that a client keeps, whose time begins anew; 0 if there is none that the list offers.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(crate) fn recall<A: Addr, D: Directory<A>>(
    node: &D,
    key: &AffinityKey,
    word: AffinityWord,
    list: ListWord,
) -> u32 {
    let Some(record) = node.affinity(key) else {
        return 0;
    };
    let now = node.now();
    let time = word.seconds().wrapping_mul(node.ticks_per_second());
    if record.tag() != key.tag(word.epoch()) || lifetime::since(record.seen(), now) >= time {
        return 0;
    }
    let id = record.backend();
    let serves = node
        .backend(id)
        .is_some_and(|backend| backend.is_alive() && backend.life == record.generation());
    if !serves || !node.offers(list, id) {
        return 0;
    }
    node.renew_affinity(key, record.meta, record.renewed(now));
    node.count(Counter::AffinityKept);
    id.0
}

/// Enters the choice for a client that has none, and gives the backend that the client keeps: who loses a race takes
/// the winner's.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(crate) fn claim<A: Addr, D: Directory<A>>(
    node: &D,
    key: &AffinityKey,
    word: AffinityWord,
    list: ListWord,
    record: &Affinity,
) -> u32 {
    if node.insert_affinity(key, record) {
        return record.backend().0;
    }
    let winner = recall(node, key, word, list);
    if winner != 0 {
        return winner;
    }
    // What stands there holds no more. A table that takes nothing costs the client its affinity and no more.
    node.put_affinity(key, record);
    record.backend().0
}

/// Whether a list holds a backend; its ids stand in ascending order.
#[inline(always)]
pub fn offers<A: Addr, D: Directory<A>>(node: &D, list: ListWord, id: BackendId) -> bool {
    let mut low = list.first();
    let mut high = low + list.count();
    for _ in 0..STEPS {
        if low >= high {
            return false;
        }
        let middle = (low + high) / 2;
        let Some(other) = node.slot(middle) else {
            return false;
        };
        if other == id {
            return true;
        }
        if other < id {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    false
}

#[cfg(test)]
mod tests;
