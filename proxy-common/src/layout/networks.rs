//! NETWORKS: ranges of addresses that the rules know.

use super::{Addr, Family, MappedAddress};

/// How many ranges of one kind and family there can be.
pub const NETWORKS: usize = 4;

/// The addresses with a common prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Network<A> {
    /// The first of them.
    pub address: A,
    /// All ones in the prefix, network byte order.
    pub mask: A,
}

/// Ranges of one family.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkList<A> {
    /// The ranges.
    pub networks: [Network<A>; NETWORKS],
    /// How many of them there are, machine order; 0: nothing is known.
    pub count: u32,
    /// Zero.
    pub pad: u32,
}

/// The one value of NETWORKS (array of 1). Before ranges change the counts are 0 for a grace period, so that no program takes
/// one range's prefix for another's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Ranges of cluster addresses: spec.cidrs of ServiceCIDRs.
    pub service4: NetworkList<super::V4>,
    /// The same, IPv6.
    pub service6: NetworkList<super::V6>,
    /// Addresses of pods that count as this node's own (detectLocalMode ClusterCIDR and NodeCIDR).
    pub local4: NetworkList<super::V4>,
    /// The same, IPv6.
    pub local6: NetworkList<super::V6>,
}

const _: () = assert!(size_of::<Networks>() == 2 * (4 * 8 + 8) + 2 * (4 * 32 + 8));

impl<A: Addr> Network<A> {
    /// The range with so many bits of prefix that holds an address.
    pub fn new(address: A, length: u8) -> Self {
        let shift = match A::FAMILY {
            Family::V4 => 96,
            Family::V6 => 0,
        };
        let mask = u128::MAX
            .checked_shl(128 - shift - u32::from(length).min(128 - shift))
            .unwrap_or_default();
        let octets = mask.to_be_bytes();
        let mapped = MappedAddress::new(octets);
        let mask = A::from_mapped(mapped);
        Self {
            address: address.and(&mask),
            mask,
        }
    }

    /// Bits of the prefix.
    pub fn length(&self) -> u8 {
        let words = self.mask.to_mapped().0;
        let ones = |words: &[u32]| words.iter().map(|word| word.count_ones() as u8).sum();
        match A::FAMILY {
            Family::V4 => ones(&words[3..]),
            Family::V6 => ones(&words),
        }
    }

    /// Whether an address is in the range.
    #[inline(always)]
    pub fn contains(&self, address: &A) -> bool {
        address.and(&self.mask) == self.address
    }
}

impl<A: Addr> NetworkList<A> {
    /// These ranges; of more than [`NETWORKS`] the first.
    pub fn of(ranges: impl IntoIterator<Item = Network<A>>) -> Self {
        let mut list = Self::default();
        for (place, network) in list.networks.iter_mut().zip(ranges) {
            *place = network;
            list.count += 1;
        }
        list
    }

    /// The ranges that count.
    pub fn iter(&self) -> impl Iterator<Item = &Network<A>> {
        self.networks.iter().take(self.count as usize)
    }

    /// Whether an address is in one of the ranges; `None` if none is known.
    #[inline(always)]
    pub fn contains(&self, address: &A) -> Option<bool> {
        if self.count == 0 {
            return None;
        }
        for (number, network) in self.networks.iter().enumerate() {
            if number as u32 >= self.count {
                break;
            }
            if network.contains(address) {
                return Some(true);
            }
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{V4, V6};
    use core::net::IpAddr;
    use proptest::prelude::*;

    fn number(address: IpAddr) -> (u128, u8) {
        match address {
            IpAddr::V4(four) => (u128::from(u32::from(four)), 32),
            IpAddr::V6(six) => (u128::from(six), 128),
        }
    }

    fn check<A: Addr>(base: A, length: u8, other: A)
    where
        IpAddr: From<A>,
    {
        let network = Network::new(base, length);
        assert_eq!(network.length(), length);
        assert!(network.contains(&base));
        let ((base, bits), (other_number, _)) = (number(base.into()), number(other.into()));
        let prefix = |number: u128| number.checked_shr(u32::from(bits - length)).unwrap_or_default();
        assert_eq!(network.contains(&other), prefix(base) == prefix(other_number));
    }

    proptest! {
        #[test]
        fn a_range_holds_what_shares_its_prefix(base: u32, flip in 0..33_u32, length in 0..=32_u8) {
            let other = base ^ 1_u32.checked_shl(flip).unwrap_or_default();
            check(V4::new(base.to_be_bytes()), length, V4::new(other.to_be_bytes()));
        }

        #[test]
        fn a_range_of_ipv6_does_too(base: u128, flip in 0..129_u32, length in 0..=128_u8) {
            // What would be mapped is IPv4's.
            let base = base | 1 << 127;
            let other = base ^ 1_u128.checked_shl(flip).unwrap_or_default() | 1 << 127;
            check(V6::new(base.to_be_bytes()), length, V6::new(other.to_be_bytes()));
        }
    }

    #[test]
    fn a_list_knows_what_it_was_given_and_an_empty_one_nothing() {
        let list = |octet| Network::new(V4::new([10, octet, 0, 0]), 16);
        assert_eq!(
            NetworkList::<V4>::default().contains(&V4::new([10, 1, 0, 1])),
            None
        );
        let full = NetworkList::of((1..=5).map(list));
        assert_eq!(full.iter().count(), NETWORKS);
        for (octet, expected) in [(0, false), (1, true), (4, true), (5, false)] {
            assert_eq!(full.contains(&V4::new([10, octet, 9, 9])), Some(expected));
        }
    }
}
