//! Every map of an instance: its kind, the sizes of its keys and values, its flags. Pinned maps are compared with
//! this table, and maps are made by it.

use proxy_common::layout::{
    Affinity, AffinityKey, Backend, BackendId, Config, Counter, Flow, FlowKey, FragmentKey, FragmentPorts,
    FrontendKey, FrontendValue, Identity, Interface, NamespaceAddress, NamespaceKey, Networks,
    PREFILTER_WORDS, Service, ServiceId, SocketKey, SocketValue, SourceRangeKey, UPLINKS, Uplink, V4, V6,
    Vip, names,
};

use super::size::MapSizes;
use super::sys::{MMAPABLE, MapDefinition, MapInfo, NO_PREALLOC, map_type};

/// Entries of COUNTERS: room for counters to come.
const COUNTERS: u32 = 64;
const _: () = assert!(Counter::ALL.len() <= COUNTERS as usize);

/// All maps of an instance, in the order in which they are made.
pub(super) fn maps(sizes: &MapSizes) -> Vec<MapDefinition<'static>> {
    let array = |name, value, entries| definition::<u32>(name, map_type::ARRAY, value, entries, 0);
    let memory = |name, value, entries| definition::<u32>(name, map_type::ARRAY, value, entries, MMAPABLE);
    vec![
        array(names::CONFIG, size_of::<Config>(), 1),
        ready::<FrontendKey<V4>, FrontendValue>(names::FRONTENDS4, sizes.frontends),
        ready::<FrontendKey<V6>, FrontendValue>(names::FRONTENDS6, sizes.frontends),
        memory(names::SERVICES, size_of::<Service>(), sizes.services),
        memory(names::SLOTS, size_of::<BackendId>(), sizes.slots),
        memory(names::BACKENDS, size_of::<Backend>(), sizes.backends),
        array(names::LOADS, size_of::<i32>(), sizes.backends),
        memory(names::PREFILTER, size_of::<u64>(), PREFILTER_WORDS),
        hash::<V4, u32>(names::NODE_ADDRESSES4, sizes.node_addresses),
        hash::<V6, u32>(names::NODE_ADDRESSES6, sizes.node_addresses),
        hash::<V4, Vip>(names::VIPS4, sizes.frontends),
        hash::<V6, Vip>(names::VIPS6, sizes.frontends),
        array(names::NETWORKS, size_of::<Networks>(), 1),
        hash::<u32, Interface>(names::INTERFACES, sizes.interfaces),
        array(names::UPLINKS, size_of::<Uplink>(), UPLINKS),
        ready::<ServiceId, Identity>(names::IDENTITY, sizes.services),
        lru::<FlowKey<V4>, Flow<V4>>(names::TCP_EMBRYOS4, sizes.embryos),
        lru::<FlowKey<V6>, Flow<V6>>(names::TCP_EMBRYOS6, sizes.embryos),
        lru::<FlowKey<V4>, Flow<V4>>(names::TCP_FLOWS4, sizes.tcp_flows),
        lru::<FlowKey<V6>, Flow<V6>>(names::TCP_FLOWS6, sizes.tcp_flows),
        lru::<FlowKey<V4>, Flow<V4>>(names::UDP_EMBRYOS4, sizes.embryos),
        lru::<FlowKey<V6>, Flow<V6>>(names::UDP_EMBRYOS6, sizes.embryos),
        lru::<FlowKey<V4>, Flow<V4>>(names::UDP_FLOWS4, sizes.udp_flows),
        lru::<FlowKey<V6>, Flow<V6>>(names::UDP_FLOWS6, sizes.udp_flows),
        lru::<FragmentKey<V4>, FragmentPorts>(names::FRAGMENTS4, sizes.fragments),
        lru::<FragmentKey<V6>, FragmentPorts>(names::FRAGMENTS6, sizes.fragments),
        trie::<SourceRangeKey<V4>>(names::SOURCE_RANGES4, sizes.source_ranges),
        trie::<SourceRangeKey<V6>>(names::SOURCE_RANGES6, sizes.source_ranges),
        lru::<AffinityKey, Affinity>(names::AFFINITY, sizes.affinity),
        lru::<NamespaceKey, NamespaceAddress>(names::NAMESPACES, sizes.namespaces),
        lru::<SocketKey, SocketValue>(names::SOCKETS, sizes.sockets),
        definition::<u32>(
            names::COUNTERS,
            map_type::PERCPU_ARRAY,
            size_of::<u64>(),
            COUNTERS,
            0,
        ),
    ]
}

fn definition<K>(
    name: &'static str,
    kind: u32,
    value_size: usize,
    max_entries: u32,
    flags: u32,
) -> MapDefinition<'static> {
    MapDefinition {
        name,
        kind,
        key_size: size_of::<K>() as u32,
        value_size: value_size as u32,
        max_entries,
        flags,
    }
}

/// A hash whose elements are made with it: what is written a thousand times at a start is written four times as fast,
/// and never fails for want of memory.
fn ready<K, V>(name: &'static str, entries: u32) -> MapDefinition<'static> {
    definition::<K>(name, map_type::HASH, size_of::<V>(), entries, 0)
}

/// A hash whose elements are made when they are needed.
fn hash<K, V>(name: &'static str, entries: u32) -> MapDefinition<'static> {
    definition::<K>(name, map_type::HASH, size_of::<V>(), entries, NO_PREALLOC)
}

fn lru<K, V>(name: &'static str, entries: u32) -> MapDefinition<'static> {
    definition::<K>(name, map_type::LRU_HASH, size_of::<V>(), entries, 0)
}

/// A longest-prefix-match trie of service tags, whose nodes are made when they are needed.
fn trie<K>(name: &'static str, entries: u32) -> MapDefinition<'static> {
    definition::<K>(name, map_type::LPM_TRIE, size_of::<u32>(), entries, NO_PREALLOC)
}

/// What of a pinned map does not fit; `None` if it fits. Its capacity may differ: the pinned one stays.
pub(super) fn mismatch(expected: &MapDefinition<'_>, found: &MapInfo) -> Option<String> {
    let pairs = [
        ("type", expected.kind, found.kind),
        ("key size", expected.key_size, found.key_size),
        ("value size", expected.value_size, found.value_size),
        ("flags", expected.flags, found.flags),
    ];
    let differing: Vec<String> = pairs
        .iter()
        .filter(|(_, expected, found)| expected != found)
        .map(|(what, expected, found)| format!("{what} {found} where this version has {expected}"))
        .collect();
    (!differing.is_empty()).then(|| differing.join(", "))
}

/// Bytes that a map takes when it is full, as the kernel allocates it.
pub(super) fn bytes(definition: &MapDefinition<'_>, cpus: u64) -> u64 {
    /// `struct htab_elem` before the key.
    const ELEMENT: u64 = 48;
    /// One bucket of a hash; there are as many as entries, rounded up to a power of two.
    const BUCKET: u64 = 16;
    let entries = u64::from(definition.max_entries);
    let (key, value) = (u64::from(definition.key_size), u64::from(definition.value_size));
    let value = value.next_multiple_of(8);
    match definition.kind {
        map_type::HASH | map_type::LRU_HASH => {
            entries * (ELEMENT + key.next_multiple_of(8) + value) + entries.next_power_of_two() * BUCKET
        }
        // Each entry can need a node of its own between two others.
        map_type::LPM_TRIE => entries * 2 * (ELEMENT + key.next_multiple_of(8) + value),
        map_type::PERCPU_ARRAY => entries * (8 + value * cpus),
        _ => entries * value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_has_a_name_of_its_own_that_can_be_pinned() {
        let maps = maps(&MapSizes::for_budget(256 << 20, 2));
        let names: std::collections::BTreeSet<_> = maps.iter().map(|map| map.name).collect();
        assert_eq!(names.len(), maps.len());
        assert!(names.iter().all(|name| name.len() <= 15 && !name.contains('.')));
    }

    /// What the programs were built with is what the agent makes: else the verifier or, worse, nobody would notice.
    #[test]
    fn the_embedded_object_has_the_same_maps() {
        let object = aya_obj::Object::parse(crate::datapath::OBJECT).unwrap();
        let maps = maps(&MapSizes::for_budget(0, 1));
        for expected in &maps {
            let found = object
                .maps
                .get(expected.name)
                .unwrap_or_else(|| panic!("{} is missing", expected.name));
            let sizes = (found.map_type(), found.key_size(), found.value_size());
            assert_eq!(
                sizes,
                (expected.kind, expected.key_size, expected.value_size),
                "{}",
                expected.name
            );
        }
        // What is not pinned holds nothing that a program needs after its run.
        let others = object
            .maps
            .keys()
            .filter(|name| maps.iter().all(|map| map.name != name.as_str()));
        let others: Vec<&String> = others.collect();
        assert!(
            others.iter().all(|name| [
                "WORK",
                "HOPS",
                "NEIGHBOURS",
                "ERROR_LIMIT",
                "AHEAD_LIMIT",
                "PROBES",
                "."
            ]
            .iter()
            .any(|start| name.starts_with(start))),
            "{others:?}"
        );
    }

    #[test]
    fn a_mismatch_names_what_differs_and_capacity_does_not_count() {
        let expected = hash::<u32, u64>("X", 10);
        let mut found = MapInfo {
            kind: expected.kind,
            key_size: 4,
            value_size: 8,
            max_entries: 99,
            flags: NO_PREALLOC,
            ..MapInfo::default()
        };
        assert_eq!(mismatch(&expected, &found), None);
        found.value_size = 12;
        let text = mismatch(&expected, &found).unwrap();
        assert_eq!(text, "value size 12 where this version has 8");
    }
}
