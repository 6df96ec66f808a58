//! One hash for tags, the prefilter and the choice by hash. Fast, not secret: a collision costs a look-up.

use crate::layout::{Addr, FlowKey, Port};

/// 2^64 divided by the golden ratio: the multiplier of Fibonacci hashing.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes one word into a hash.
#[inline(always)]
pub const fn step(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(GOLDEN);
    mixed ^ (mixed >> 32)
}

/// Spreads the last word into the high bits, which are the good ones.
#[inline(always)]
const fn finish(hash: u64) -> u64 {
    hash.wrapping_mul(GOLDEN)
}

/// Hash of an address, a port and a protocol.
#[inline(always)]
pub fn endpoint<A: Addr>(address: &A, port: Port, protocol: u8) -> u64 {
    finish(address.mix((port.wire() as u64) << 8 | protocol as u64))
}

/// Hash of a flow key.
#[inline(always)]
pub fn flow<A: Addr>(key: &FlowKey<A>) -> u64 {
    let ports = (key.source_port.wire() as u64) << 32
        | (key.destination_port.wire() as u64) << 16
        | (key.protocol as u64) << 8
        | key.direction as u64;
    finish(key.destination.mix(key.source.mix(ports)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::V4;

    #[test]
    fn neighbours_spread_over_the_prefilter() {
        // 10,000 ClusterIPs of one /16 on one port: hardly any two on one of a million bits.
        let mut bits = std::collections::BTreeSet::new();
        for n in 0..10_000_u32 {
            let address = V4::new([10, 96, (n >> 8) as u8, n as u8]);
            bits.insert(endpoint(&address, Port::new(80), 6) >> 44);
        }
        assert!(bits.len() > 9_900, "{} distinct bits", bits.len());
    }
}
