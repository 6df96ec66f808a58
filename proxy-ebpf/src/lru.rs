//! Entries of tables that push out what has not been used for longest.

use aya_ebpf::maps::LruHashMap;

/// Inserts an entry, and uses it; false if it was refused.
///
/// A full table pushes out first what was not used since it was inserted. Where all else is in use, that is whatever was
/// inserted last (`__bpf_lru_list_shrink_inactive`): half of a new flow, before its other half stands beside it.
#[inline(always)]
pub(crate) fn insert<K, V>(table: &LruHashMap<K, V>, key: &K, value: &V, flags: u64) -> bool {
    let is_inserted = table.insert(key, value, flags).is_ok();
    if is_inserted {
        let _used = table.get_ptr(key);
    }
    is_inserted
}
