//! Who needs which bit of the prefilter.

use std::collections::BTreeSet;
use std::net::IpAddr;

use foldhash::HashMap;
use proxy_common::layout::{Addr, FilterBit, Port, V4, V6};

use super::{Frontend, Operation};

/// How many frontends and backends need each bit.
#[derive(Debug, Default)]
pub(super) struct Filter {
    users: HashMap<FilterBit, u32>,
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
            users: HashMap::default(),
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
            let users = self.users.entry(bit).or_default();
            if *users == 0 && !self.leftover.remove(&bit) {
                operations.push(Operation::SetFilter(bit));
            }
            *users += 1;
        }
    }

    pub(super) fn acquire(
        &mut self,
        bits: impl IntoIterator<Item = FilterBit>,
        operations: &mut Vec<Operation>,
    ) {
        for bit in bits {
            let users = self.users.entry(bit).or_default();
            if *users == 0 {
                self.leftover.remove(&bit);
                operations.push(Operation::SetFilter(bit));
            }
            *users += 1;
        }
    }

    pub(super) fn release(
        &mut self,
        bits: impl IntoIterator<Item = FilterBit>,
        operations: &mut Vec<Operation>,
    ) {
        for bit in bits {
            let Some(users) = self.users.get_mut(&bit) else {
                continue;
            };
            *users -= 1;
            if *users == 0 {
                self.users.remove(&bit);
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
