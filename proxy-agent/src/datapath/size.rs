//! How large the maps are: all together at most 1 % of the node's memory, in one proportion that scales.

use super::error::{Context, DatapathError};
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

impl MapSizes {
    /// The sizes for this node.
    pub fn of_node(budget: Option<u64>) -> Result<Self, DatapathError> {
        let budget = match budget {
            Some(budget) => budget,
            None => node_memory()? / 100,
        };
        let cpus = super::sys::possible_cpus().call("read", "/sys/devices/system/cpu/possible")?;
        Ok(Self::for_budget(budget, cpus as u64))
    }

    /// The largest sizes that fit into `budget` bytes, but never less than fits into 16 MiB.
    pub fn for_budget(budget: u64, cpus: u64) -> Self {
        let budget = budget.max(FLOOR);
        let fits = |scale: &u64| Self::scaled(*scale).bytes(cpus) <= budget;
        let scale = (1..=STEPS * LARGEST).rev().find(fits).unwrap_or(1);
        Self::scaled(scale)
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

    #[test]
    fn the_nodes_memory_is_read() {
        assert!(node_memory().unwrap() > 64 << 20);
    }
}
