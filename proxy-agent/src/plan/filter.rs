//! Who needs which bit of the prefilter.

use std::collections::BTreeSet;
use std::net::IpAddr;

use foldhash::HashMap;
use proxy_common::layout::{Addr, FilterBit, PREFILTER_WORDS, Port, V4, V6};

use super::{Frontend, Operation};

/// How many frontends and backends need each bit. Nearly all bits that are needed are needed by one: a count of each
/// would be the largest table of the planner.
#[derive(Debug)]
pub(super) struct Filter {
    /// The bits that somebody needs, as in PREFILTER.
    needed: Box<[u64]>,
    /// How many more than one need a bit.
    more: HashMap<FilterBit, u32>,
    /// Bits that were set before a restart and that nobody has needed since.
    leftover: BTreeSet<FilterBit>,
}

impl Filter {
    /// Bits that stand in the map, in words that are not 0.
    pub(super) fn adopt(words: &[(u32, u64)]) -> Self {
        let bits = words.iter().flat_map(|(word, bits)| {
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| FilterBit(word * 64 + bit))
        });
        Self {
            needed: vec![0; PREFILTER_WORDS as usize].into(),
            more: HashMap::default(),
            leftover: bits.collect(),
        }
    }

    /// A user that stands in the maps already; its bit is set unless it is there.
    pub(super) fn adopt_user(
        &mut self,
        bits: impl IntoIterator<Item = FilterBit>,
        operations: &mut Vec<Operation>,
    ) {
        for bit in bits {
            if self.add(bit) && !self.leftover.remove(&bit) {
                operations.push(Operation::SetFilter(bit));
            }
        }
    }

    pub(super) fn acquire(
        &mut self,
        bits: impl IntoIterator<Item = FilterBit>,
        operations: &mut Vec<Operation>,
    ) {
        for bit in bits {
            if self.add(bit) {
                self.leftover.remove(&bit);
                operations.push(Operation::SetFilter(bit));
            }
        }
    }

    pub(super) fn release(
        &mut self,
        bits: impl IntoIterator<Item = FilterBit>,
        operations: &mut Vec<Operation>,
    ) {
        for bit in bits {
            if self.subtract(bit) {
                operations.push(Operation::ReleaseFilter(bit));
            }
        }
    }

    /// Gives up the bits that nobody has needed since the restart.
    pub(super) fn release_leftover(&mut self, operations: &mut Vec<Operation>) {
        operations.extend(
            std::mem::take(&mut self.leftover)
                .into_iter()
                .map(Operation::ReleaseFilter),
        );
    }

    /// One more needs a bit; whether it is the first.
    fn add(&mut self, bit: FilterBit) -> bool {
        let Some(word) = self.needed.get_mut(bit.word() as usize) else {
            return false;
        };
        let is_first = *word & bit.mask() == 0;
        *word |= bit.mask();
        if !is_first {
            *self.more.entry(bit).or_default() += 1;
        }
        is_first
    }

    /// One fewer needs a bit; whether it was the last.
    fn subtract(&mut self, bit: FilterBit) -> bool {
        if let Some(more) = self.more.get_mut(&bit) {
            *more -= 1;
            if *more == 0 {
                self.more.remove(&bit);
            }
            return false;
        }
        let Some(word) = self.needed.get_mut(bit.word() as usize) else {
            return false;
        };
        let is_last = *word & bit.mask() != 0;
        *word &= !bit.mask();
        is_last
    }
}

/// The bits that a frontend needs.
pub(super) fn frontend_bits(frontend: &Frontend) -> impl Iterator<Item = FilterBit> + use<> {
    let Frontend {
        address,
        port,
        protocol,
    } = *frontend;
    let (first, second) = match address {
        _ if address.is_unspecified() => (FilterBit::node_port(port, protocol), None),
        IpAddr::V4(address) => forward(&V4::from(address), port, protocol),
        IpAddr::V6(address) => forward(&V6::from(address), port, protocol),
    };
    std::iter::once(first).chain(second)
}

fn forward<A: Addr>(address: &A, port: Port, protocol: u8) -> (FilterBit, Option<FilterBit>) {
    (
        FilterBit::forward(address, port, protocol),
        Some(FilterBit::forward_address(address)),
    )
}

/// The bits that a backend needs.
pub(super) fn backend_bits(address: IpAddr, port: Port, protocol: u8) -> [FilterBit; 2] {
    match address {
        IpAddr::V4(address) => reverse(&V4::from(address), port, protocol),
        IpAddr::V6(address) => reverse(&V6::from(address), port, protocol),
    }
}

fn reverse<A: Addr>(address: &A, port: Port, protocol: u8) -> [FilterBit; 2] {
    [
        FilterBit::reverse(address, port, protocol),
        FilterBit::reverse_address(address),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BITS: u32 = PREFILTER_WORDS * 64;

    proptest! {
        /// Few bits, so that many have several users; the last of all is among them.
        #[test]
        fn a_bit_is_set_for_its_first_user_and_released_after_its_last(
            steps in prop::collection::vec((any::<bool>(), 0..6_u32), 1..100),
        ) {
            let mut filter = Filter::adopt(&[]);
            let mut users = [0_u32; 6];
            for (add, number) in steps {
                let bit = FilterBit(BITS - 1 - number);
                let users = &mut users[number as usize];
                let mut operations = Vec::new();
                let expected = if add {
                    filter.acquire([bit], &mut operations);
                    *users += 1;
                    (*users == 1).then_some(Operation::SetFilter(bit))
                } else {
                    filter.release([bit], &mut operations);
                    let is_last = *users == 1;
                    *users = users.saturating_sub(1);
                    is_last.then_some(Operation::ReleaseFilter(bit))
                };
                prop_assert_eq!(operations, Vec::from_iter(expected));
            }
        }
    }
}
