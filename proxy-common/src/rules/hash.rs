//! One hash for tags, the prefilter and the choice by hash. Fast, not secret.

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

/// Hash of an address, a port and a protocol, for a bit of the prefilter. Port and protocol lie over the address, for one
/// step less: endpoints whose addresses differ where their ports do, such as 10.96.1.5:80 and 10.96.0.5:81, have one hash.
/// A bit that stands for both is a look-up more at worst. Where a hash tells one key from another, that would not do:
/// [`endpoint_tag`].
#[inline(always)]
pub fn endpoint<A: Addr>(address: &A, port: Port, protocol: u8) -> u64 {
    finish(address.mix((port.wire() as u64) << 8 | protocol as u64))
}

/// Tag of an address, a port and a protocol. Two have the same by chance alone, once in 2^32: an element of a hash that
/// becomes another key's while it is read must not be taken for the first one's.
#[inline(always)]
pub fn endpoint_tag<A: Addr>(address: &A, port: Port, protocol: u8) -> u32 {
    let ports = step(0, (port.wire() as u64) << 8 | protocol as u64);
    (finish(address.mix(ports)) >> 32) as u32
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
    use crate::layout::{V4, V6, protocol};

    /// Two endpoints whose addresses differ as their ports do, laid over them.
    fn overlaid<A: Addr>(of: impl Fn(u32) -> A, word: u32, ports: [u16; 2]) {
        let laid = |port: u16| (Port::new(port).wire() as u32) << 8;
        let addresses = [word, word ^ laid(ports[0]) ^ laid(ports[1])].map(of);
        let each = |function: fn(&A, Port, u8) -> u64| {
            [0, 1].map(|n| function(&addresses[n], Port::new(ports[n]), protocol::TCP))
        };
        let [one, other] = each(endpoint);
        assert_eq!(
            one, other,
            "{addresses:?} {ports:?}: known, and no more than a look-up"
        );
        let [one, other] = each(|address, port, protocol| endpoint_tag(address, port, protocol).into());
        assert_ne!(one, other, "{addresses:?} {ports:?}");
    }

    #[test]
    fn endpoints_of_one_hash_have_tags_of_their_own() {
        let word = |octets: [u8; 4]| u32::from_ne_bytes(octets);
        overlaid(V4, word([10, 96, 1, 5]), [80, 81]);
        overlaid(V4, word([10, 96, 0, 1]), [443, 8443]);
        overlaid(
            |b| V6([word([0xfd, 0, 0, 0x96]), b, 0, 1]),
            word([0, 1, 0, 0]),
            [80, 53],
        );
        for other in 0..2000 {
            overlaid(V4, word([10, 96, 0, 1]), [other, other + 1]);
            overlaid(
                |b| V6([word([0xfd, 0, 0, 0x96]), b, 0, 1]),
                0,
                [other, other.wrapping_mul(31) ^ 7],
            );
        }
    }

    #[test]
    fn tags_of_frontends_hardly_ever_meet() {
        // 40,000 endpoints of neighbours: of so many random tags 0.2 pairs would be expected to meet.
        let mut tags = std::collections::BTreeSet::new();
        for n in 0..10_000_u32 {
            let address = V4::new([10, 96, (n >> 8) as u8, n as u8]);
            tags.extend(
                [80, 81, 443, 8080].map(|port| endpoint_tag(&address, Port::new(port), protocol::TCP)),
            );
        }
        assert!(tags.len() >= 39_997, "{}", tags.len());
    }

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
