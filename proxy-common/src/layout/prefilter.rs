//! PREFILTER: one bit read before any hash look-up.
//!
//! Three bitmaps in one mmapable array of u64 words: *forward* (can this destination, port and protocol be a
//! frontend?), *reverse* (can this source, port and protocol be a backend?), and *ports* (is this a NodePort of some
//! address?), indexed by protocol and port without a hash. A false yes costs a look-up; a false no must be
//! impossible: bits are set before a frontend or backend is published and cleared only after a sweep of the flow
//! tables has found no user.

use super::{Addr, Port, protocol};
use crate::rules::hash;

/// Bits of the forward and of the reverse bitmap, each.
pub const PREFILTER_FORWARD_BITS: u32 = 1 << 20;
/// First word of the reverse bitmap.
pub const PREFILTER_REVERSE_START: u32 = PREFILTER_FORWARD_BITS / 64;
/// First word of the ports bitmap.
pub const PREFILTER_PORTS_START: u32 = 2 * PREFILTER_REVERSE_START;
/// Words of PREFILTER: forward, reverse, and 65,536 bits for each of TCP, UDP and SCTP.
pub const PREFILTER_WORDS: u32 = PREFILTER_PORTS_START + 3 * 1024;

/// Where one bit stands: word `self.0 / 64` of PREFILTER, bit `self.0 % 64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilterBit(pub u32);

impl FilterBit {
    #[inline(always)]
    fn hashed<A: Addr>(address: &A, port: Port, protocol: u8) -> u32 {
        (hash::endpoint(address, port, protocol) >> 44) as u32
    }

    /// The bit of a frontend at an address; the forward question.
    #[inline(always)]
    pub fn forward<A: Addr>(address: &A, port: Port, protocol: u8) -> Self {
        Self(Self::hashed(address, port, protocol))
    }

    /// The bit of a backend; the reverse question.
    #[inline(always)]
    pub fn reverse<A: Addr>(address: &A, port: Port, protocol: u8) -> Self {
        Self(PREFILTER_REVERSE_START * 64 + Self::hashed(address, port, protocol))
    }

    /// The bit of an address that has frontends, whatever the port: asked for fragments, which carry none.
    #[inline(always)]
    pub fn forward_address<A: Addr>(address: &A) -> Self {
        Self::forward(address, Port::new(0), 0)
    }

    /// The bit of an address that has backends, whatever the port: asked for fragments, which carry none.
    #[inline(always)]
    pub fn reverse_address<A: Addr>(address: &A) -> Self {
        Self::reverse(address, Port::new(0), 0)
    }

    /// The bit of a NodePort. Protocols other than TCP and UDP share SCTP's.
    #[inline(always)]
    pub fn node_port(port: Port, ip_protocol: u8) -> Self {
        let bitmap = match ip_protocol {
            protocol::TCP => 0,
            protocol::UDP => 1,
            _ => 2,
        };
        Self(PREFILTER_PORTS_START * 64 + bitmap * 65536 + port.number() as u32)
    }

    /// Index of the word in PREFILTER.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0 / 64
    }

    /// The bit within the word.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        1 << (self.0 % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{V4, V6};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_bit_is_in_its_bitmap(a: u32, b: [u32; 4], port: u16, protocol: u8) {
            let port = Port::new(port);
            for bit in [FilterBit::forward(&V4(a), port, protocol), FilterBit::forward(&V6(b), port, protocol)] {
                prop_assert!(bit.word() < PREFILTER_REVERSE_START);
            }
            for bit in [FilterBit::reverse(&V4(a), port, protocol), FilterBit::reverse(&V6(b), port, protocol)] {
                prop_assert!((PREFILTER_REVERSE_START..PREFILTER_PORTS_START).contains(&bit.word()));
            }
            let bit = FilterBit::node_port(port, protocol);
            prop_assert!((PREFILTER_PORTS_START..PREFILTER_WORDS).contains(&bit.word()));
        }
    }
}
