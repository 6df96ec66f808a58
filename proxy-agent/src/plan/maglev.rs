//! Maglev's table (Eisenbud and others, NSDI 2016, §3.4): each endpoint walks through the table in an order of its own, and
//! they take free entries in turn. What the order follows from is the same on each node: address, port and protocol.

use proxy_common::layout::MappedAddress;
use proxy_common::rules::hash;

use super::{Endpoint, Weight};

/// How many entries a table has: a prime, so that each step leads everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableSize(u32);

impl TableSize {
    /// What may be asked for. With a hundred entries an endpoint the shares differ by a hundredth at most.
    pub const ALL: [u32; 10] = [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 131_071];

    /// One of [`Self::ALL`].
    pub fn new(entries: u32) -> Option<Self> {
        Self::ALL.contains(&entries).then_some(Self(entries))
    }

    /// Any.
    #[cfg(test)]
    pub(super) const fn small(entries: u32) -> Self {
        Self(entries)
    }

    /// Entries.
    pub const fn entries(self) -> u32 {
        self.0
    }
}

impl Default for TableSize {
    /// For forty endpoints within a hundredth; a table of its own for each port and family costs 16 KiB.
    fn default() -> Self {
        Self(4093)
    }
}

/// Makes the second of an endpoint's two hashes another one than the first.
const STEP: u64 = 0x5348_554e_5453_5445;
const FREE: u32 = u32::MAX;

/// One endpoint's way through the table.
struct Walk {
    next: u32,
    step: u32,
    weight: u32,
    /// What it is owed: at the largest weight it takes an entry.
    credit: u32,
}

impl Walk {
    fn new(size: u32, protocol: u8, endpoint: &Endpoint, weight: Weight) -> Self {
        let address = MappedAddress::from(endpoint.address);
        let start = hash::endpoint(&address, endpoint.port, protocol);
        let high = |hash: u64| (hash >> 32) as u32;
        Self {
            next: high(start) % size,
            step: high(hash::step(start, STEP)) % (size - 1) + 1,
            weight: weight.get().into(),
            credit: 0,
        }
    }

    /// The next free entry of its way.
    fn take(&mut self, table: &[u32]) -> u32 {
        loop {
            let entry = self.next;
            self.next = (entry + self.step) % table.len() as u32;
            if table.get(entry as usize) == Some(&FREE) {
                return entry;
            }
        }
    }
}

/// The table of a list of endpoints, as places in it; of nobody it is empty.
pub(super) fn table(size: TableSize, protocol: u8, members: &[(Endpoint, Weight)]) -> Vec<u32> {
    // In an order that no id decides.
    let mut order: Vec<(u32, &(Endpoint, Weight))> = (0..).zip(members).collect();
    order.sort_unstable_by_key(|(_, (endpoint, _))| (endpoint.address, endpoint.port));
    let mut walks: Vec<(u32, Walk)> = order
        .into_iter()
        .map(|(place, (endpoint, weight))| (place, Walk::new(size.0, protocol, endpoint, *weight)))
        .collect();
    let Some(largest) = walks.iter().map(|(_, walk)| walk.weight).max() else {
        return Vec::new();
    };
    let mut table = vec![FREE; size.0 as usize];
    let mut left = table.len();
    loop {
        for (place, walk) in &mut walks {
            walk.credit += walk.weight;
            if walk.credit < largest {
                continue;
            }
            walk.credit -= largest;
            let entry = walk.take(&table);
            if let Some(entry) = table.get_mut(entry as usize) {
                *entry = *place;
            }
            left -= 1;
            if left == 0 {
                return table;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;
    use proxy_common::layout::Port;

    fn endpoint(number: u16, is_v6: bool) -> Endpoint {
        let address = if is_v6 {
            IpAddr::from(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, number))
        } else {
            let [high, low] = number.to_be_bytes();
            IpAddr::from(Ipv4Addr::new(10, 1, high, low))
        };
        Endpoint {
            address,
            port: Port::new(8080),
            local: number.is_multiple_of(2),
        }
    }

    fn even(numbers: impl IntoIterator<Item = u16>, is_v6: bool) -> Vec<(Endpoint, Weight)> {
        let weight = Weight::MIN;
        numbers
            .into_iter()
            .map(|number| (endpoint(number, is_v6), weight))
            .collect()
    }

    fn shares(table: &[u32], members: usize) -> Vec<usize> {
        let mut shares = vec![0; members];
        for place in table {
            shares[*place as usize] += 1;
        }
        shares
    }

    /// Which endpoint each entry leads to.
    fn meaning(size: TableSize, members: &[(Endpoint, Weight)]) -> Vec<Endpoint> {
        let table = table(size, 6, members);
        table.iter().map(|place| members[*place as usize].0).collect()
    }

    #[test]
    fn sizes_are_primes() {
        for size in TableSize::ALL {
            assert!((2..size).take_while(|n| n * n <= size).all(|n| size % n != 0));
            assert_eq!(TableSize::new(size).map(TableSize::entries), Some(size));
        }
        assert_eq!(TableSize::new(1000), None);
    }

    #[test]
    fn entries_are_shared_evenly() {
        for is_v6 in [false, true] {
            for count in [1, 2, 3, 10, 40] {
                let members = even(1..=count, is_v6);
                let shares = shares(&table(TableSize::default(), 6, &members), members.len());
                let (least, most) = (shares.iter().min(), shares.iter().max());
                assert!(most.unwrap() - least.unwrap() <= 1, "{count}: {shares:?}");
            }
        }
    }

    #[test]
    fn nobody_has_no_table() {
        assert!(table(TableSize::default(), 6, &[]).is_empty());
    }

    /// The paper's figure 12: with a hundred entries an endpoint, few entries of others change.
    #[test]
    fn an_endpoint_that_leaves_moves_few_entries_of_others() {
        let size = TableSize::new(65_521).unwrap();
        let before = meaning(size, &even(1..=100, false));
        let members: Vec<u16> = (1..=100).filter(|number| *number != 42).collect();
        let after = meaning(size, &even(members, false));
        let gone = endpoint(42, false);
        assert!(!after.contains(&gone));
        let kept = before.iter().zip(&after).filter(|(before, _)| **before != gone);
        let moved = kept.filter(|(before, after)| before != after).count();
        assert!(moved < before.len() / 50, "{moved} of {}", before.len());
    }

    #[test]
    fn shares_follow_weights() {
        let weights = [1, 2, 4, 100, 50];
        let members: Vec<_> = (1..)
            .zip(weights)
            .map(|(number, weight)| (endpoint(number, false), Weight::new(weight).unwrap()))
            .collect();
        let size = TableSize::default();
        let shares = shares(&table(size, 6, &members), members.len());
        let sum: f64 = weights.iter().copied().map(f64::from).sum();
        for (share, weight) in shares.iter().zip(weights) {
            let expected = f64::from(size.entries()) * f64::from(weight) / sum;
            assert!(
                (*share as f64 - expected).abs() < 2.0 + expected / 100.0,
                "{shares:?}"
            );
        }
    }

    proptest! {
        /// In which order endpoints come, and which of them is on which node, must not matter.
        #[test]
        fn each_node_has_the_same_table(
            numbers in prop::collection::btree_set(1_u16..500, 1..30),
            turn in 0_usize..30,
        ) {
            let members = even(numbers, false);
            let mut others: Vec<_> = members.iter().rev().copied().collect();
            others.rotate_left(turn % members.len());
            for (endpoint, _) in &mut others {
                endpoint.local = !endpoint.local;
            }
            let size = TableSize::new(251).unwrap();
            let addresses = |members: &[_]| meaning(size, members).into_iter().map(|endpoint| endpoint.address).collect::<Vec<_>>();
            prop_assert_eq!(addresses(&members), addresses(&others));
        }

        #[test]
        fn weights_of_any_kind_fill_the_table(weights in prop::collection::vec(1_u16..300, 1..40)) {
            let members: Vec<_> = (1..)
                .zip(weights)
                .map(|(number, weight)| (endpoint(number, true), Weight::new(weight).unwrap()))
                .collect();
            let table = table(TableSize::new(509).unwrap(), 17, &members);
            prop_assert_eq!(table.len(), 509);
            prop_assert!(table.iter().all(|place| (*place as usize) < members.len()));
        }
    }
}
