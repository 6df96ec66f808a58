//! How large the maps are: all together at most 1 % of the node's memory, in one proportion that scales, but for those
//! whose size the operator says. Maps that Services fill grow from there, up to a limit.

use std::str::FromStr;

use super::error::{Context, DatapathError};
use super::options::DatapathOptions;
use super::specification;

/// Least memory that is asked for, whatever the node has.
const FLOOR: u64 = 16 << 20;
/// Sizes are multiples of one sixty-fourth of the whole proportion below.
const STEPS: u64 = 64;
/// Largest multiple of the whole proportion, for the tables of flows. A node with more memory has more flows, but the
/// cluster has not more Services for it.
const LARGEST: u64 = 4;

/// Entries of every map whose size is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// FRONTENDS4 and FRONTENDS6, VIPS4 and VIPS6, each.
    pub frontends: u32,
    /// SERVICES and IDENTITY.
    pub services: u32,
    /// SLOTS.
    pub slots: u32,
    /// BACKENDS.
    pub backends: u32,
    /// NODE_ADDRESSES4 and NODE_ADDRESSES6, each.
    pub node_addresses: u32,
    /// INTERFACES.
    pub interfaces: u32,
    /// Each of the tables of embryos.
    pub embryos: u32,
    /// TCP_FLOWS4 and TCP_FLOWS6, each; a flow takes two entries.
    pub tcp_flows: u32,
    /// UDP_FLOWS4 and UDP_FLOWS6, each.
    pub udp_flows: u32,
    /// FRAGMENTS4 and FRAGMENTS6, each.
    pub fragments: u32,
    /// SOURCE_RANGES4 and SOURCE_RANGES6, each.
    pub source_ranges: u32,
    /// AFFINITY.
    pub affinity: u32,
    /// NAMESPACES.
    pub namespaces: u32,
    /// SOCKETS.
    pub sockets: u32,
}

/// One of the sizes.
type Field = fn(&mut MapSizes) -> &mut u32;

/// The sizes by their names for people.
const FIELDS: [(&str, Field); 14] = [
    ("frontends", |sizes| &mut sizes.frontends),
    ("services", |sizes| &mut sizes.services),
    ("slots", |sizes| &mut sizes.slots),
    ("backends", |sizes| &mut sizes.backends),
    ("node-addresses", |sizes| &mut sizes.node_addresses),
    ("interfaces", |sizes| &mut sizes.interfaces),
    ("embryos", |sizes| &mut sizes.embryos),
    ("tcp-flows", |sizes| &mut sizes.tcp_flows),
    ("udp-flows", |sizes| &mut sizes.udp_flows),
    ("fragments", |sizes| &mut sizes.fragments),
    ("source-ranges", |sizes| &mut sizes.source_ranges),
    ("affinity", |sizes| &mut sizes.affinity),
    ("namespaces", |sizes| &mut sizes.namespaces),
    ("sockets", |sizes| &mut sizes.sockets),
];

/// How many entries of a map make sense at all.
pub(super) const ENTRIES: std::ops::RangeInclusive<u32> = 64..=1 << 26;

/// The size of some maps, as the operator says it: `slots=1000000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntries {
    name: &'static str,
    entries: u32,
}

impl FromStr for MapEntries {
    type Err = DatapathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |why: String| DatapathError::Refused(format!("--map-entries {text}: {why}"));
        let (name, entries) = text
            .split_once('=')
            .ok_or_else(|| refuse("write it as slots=1000000".to_owned()))?;
        let known = FIELDS.iter().find(|(known, _)| *known == name);
        let (name, _) = known.ok_or_else(|| {
            let known = FIELDS.map(|(name, _)| name).join(", ");
            refuse(format!("no map is called {name}; there are {known}"))
        })?;
        let number = entries.parse().ok().filter(|entries| ENTRIES.contains(entries));
        let entries = number.ok_or_else(|| {
            refuse(format!(
                "{entries} is no number of entries from {} to {}",
                ENTRIES.start(),
                ENTRIES.end()
            ))
        })?;
        Ok(Self { name, entries })
    }
}

/// How large the maps are at a start, and what they may grow to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapMemory {
    /// At a start.
    pub sizes: MapSizes,
    /// Bytes that all maps together may take when they have grown.
    pub limit: u64,
}

impl MapMemory {
    pub(super) fn of_options(options: &DatapathOptions) -> Result<Self, DatapathError> {
        Self::of_node(options.memory, options.memory_limit, &options.map_entries)
    }

    /// That of this node, given what the operator says: bytes at a start, bytes at most, and sizes one by one.
    pub fn of_node(
        budget: Option<u64>,
        limit: Option<u64>,
        entries: &[MapEntries],
    ) -> Result<Self, DatapathError> {
        let budget = match budget {
            Some(budget) => budget,
            None => node_memory()? / 100,
        };
        let budget = budget.max(FLOOR);
        let limit = limit.unwrap_or(budget * 2);
        if limit < budget {
            return Err(DatapathError::Refused(format!(
                "--map-memory-limit {limit}: the maps take {budget} bytes from the start; give more, or less by --map-memory"
            )));
        }
        let sizes = MapSizes::chosen(budget, possible_cpus()?, entries)?;
        Ok(Self { sizes, limit })
    }
}

pub(super) fn possible_cpus() -> Result<u64, DatapathError> {
    let cpus = super::sys::possible_cpus().call("read", "/sys/devices/system/cpu/possible")?;
    Ok(cpus as u64)
}

impl MapSizes {
    /// The largest sizes that fit into `budget` bytes, but never less than fits into 16 MiB.
    pub fn for_budget(budget: u64, cpus: u64) -> Self {
        Self::largest(budget, cpus, &[])
    }

    /// The same, but for those that are said one by one; refused if there is no room for the others then.
    pub fn chosen(budget: u64, cpus: u64, entries: &[MapEntries]) -> Result<Self, DatapathError> {
        let sizes = Self::largest(budget, cpus, entries);
        let (bytes, budget) = (sizes.bytes(cpus), budget.max(FLOOR));
        if bytes <= budget {
            return Ok(sizes);
        }
        let said: Vec<_> = entries
            .iter()
            .map(|one| format!("{}={}", one.name, one.entries))
            .collect();
        Err(DatapathError::Refused(format!(
            "--map-entries {}: with the smallest other maps that is {bytes} bytes, and --map-memory allows {budget}",
            said.join(",")
        )))
    }

    fn largest(budget: u64, cpus: u64, entries: &[MapEntries]) -> Self {
        let budget = budget.max(FLOOR);
        let of = |scale: u64| {
            let mut sizes = Self::scaled(scale);
            for said in entries {
                for (_, field) in FIELDS.iter().filter(|(name, _)| *name == said.name) {
                    *field(&mut sizes) = said.entries;
                }
            }
            sizes
        };
        let fits = |scale: &u64| of(*scale).bytes(cpus) <= budget;
        of((1..=STEPS * LARGEST).rev().find(fits).unwrap_or(1))
    }

    /// Scale 64 is a node of 10,000 Services with 100,000 endpoints and 65,536 flows of each kind.
    fn scaled(scale: u64) -> Self {
        let entries = |whole: u64| (whole * scale / STEPS) as u32;
        let of_cluster = |whole: u64| (whole * scale.min(STEPS) / STEPS) as u32;
        Self {
            frontends: of_cluster(65_536),
            services: of_cluster(65_536),
            // Two for each backend: most lists of a Service are one and the same run.
            slots: of_cluster(524_288),
            backends: of_cluster(262_144),
            node_addresses: 4096,
            interfaces: 8192,
            embryos: entries(65_536),
            tcp_flows: entries(131_072),
            udp_flows: entries(65_536),
            fragments: entries(8192),
            source_ranges: of_cluster(4096),
            affinity: entries(32_768),
            // A node has hundreds of pods, each with an address of each family.
            namespaces: 4096,
            sockets: entries(131_072),
        }
    }

    /// Bytes of all maps when they are full.
    pub fn bytes(&self, cpus: u64) -> u64 {
        specification::maps(self)
            .iter()
            .map(|map| specification::bytes(map, cpus))
            .sum()
    }
}

/// Memory of this node in bytes.
pub(super) fn node_memory() -> Result<u64, DatapathError> {
    const PATH: &str = "/proc/meminfo";
    let text = std::fs::read_to_string(PATH).call("read", PATH)?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kibibytes
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| DatapathError::Refused(format!("{PATH} has no line MemTotal with a number of kB")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_maps_never_take_more_than_the_budget(megabytes in 16_u64..4096, cpus in 1_u64..512) {
            let budget = megabytes << 20;
            let sizes = MapSizes::for_budget(budget, cpus);
            prop_assert!(sizes.bytes(cpus) <= budget, "{} of {budget}", sizes.bytes(cpus));
        }
    }

    #[test]
    fn a_small_node_still_gets_a_working_size_and_a_large_one_a_large() {
        let small = MapSizes::for_budget(0, 2);
        assert!(small.services >= 2048 && small.tcp_flows >= 4096, "{small:?}");
        assert!(small.bytes(2) <= FLOOR);
        let large = MapSizes::for_budget(1 << 30, 64);
        assert!(
            large.backends >= 262_144 && large.tcp_flows >= 131_072,
            "{large:?}"
        );
    }

    const CPUS: u64 = 2;

    #[test]
    fn sizes_said_one_by_one_stand_and_the_others_share_the_rest() {
        let said =
            |texts: &[&str]| -> Vec<MapEntries> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let budget = 64 << 20;
        let usual = MapSizes::for_budget(budget, CPUS);
        let entries = said(&["slots=1000000", "embryos=500"]);
        let sizes = MapSizes::chosen(budget, CPUS, &entries).unwrap();
        assert_eq!((sizes.slots, sizes.embryos), (1_000_000, 500));
        assert!(
            sizes.bytes(CPUS) <= budget && sizes.services != usual.services,
            "{sizes:?}"
        );
        let error = MapSizes::chosen(budget, CPUS, &said(&["tcp-flows=5000000"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("tcp-flows=5000000") && error.contains("--map-memory"),
            "{error}"
        );
    }

    #[test]
    fn sizes_that_are_none_are_refused_by_name() {
        for (text, hint) in [
            ("slots", "write it as slots=1000000"),
            ("slot=5", "there are frontends, services, slots"),
            ("slots=many", "from 64 to"),
            ("slots=3", "from 64 to"),
            ("slots=999999999999", "from 64 to"),
        ] {
            let error = text.parse::<MapEntries>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(hint), "{error}");
        }
    }

    #[test]
    fn a_limit_below_the_start_is_refused() {
        let error = MapMemory::of_node(Some(64 << 20), Some(32 << 20), &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--map-memory-limit 33554432") && error.contains("67108864"),
            "{error}"
        );
        let usual = MapMemory::of_node(Some(64 << 20), None, &[]).unwrap();
        assert_eq!(usual.limit, 128 << 20);
    }

    #[test]
    fn the_nodes_memory_is_read() {
        assert!(node_memory().unwrap() > 64 << 20);
    }
}
