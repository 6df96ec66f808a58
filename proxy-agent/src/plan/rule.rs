//! How new flows get their endpoints, and the tables that say so to the data path.

use std::num::NonZeroU16;

use proxy_common::layout::ChoiceRule;

use super::maglev::{self, TableSize};
use super::{Endpoint, List, ServicePort};

/// How many flows an endpoint gets, beside others of its list.
pub type Weight = NonZeroU16;

/// How a new flow gets its endpoint out of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rule {
    /// By chance, as weights say.
    #[default]
    Random,
    /// By the flow's hash, the same on each node.
    Maglev(TableSize),
    /// Of two that are drawn, the one that has fewer connections.
    LeastConnections,
}

/// What stands behind the backends of a list in SLOTS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) rule: ChoiceRule,
    /// Places in the list.
    pub(super) entries: Vec<u32>,
}

impl Table {
    /// The table of a list of endpoints, each with its weight.
    pub(super) fn new(rule: Rule, protocol: u8, members: &[(Endpoint, Weight)]) -> Self {
        let is_even = members
            .windows(2)
            .all(|pair| matches!(pair, [(_, one), (_, other)] if one == other));
        let (rule, entries) = match rule {
            Rule::Random if is_even => (ChoiceRule::Random, Vec::new()),
            Rule::Random => (ChoiceRule::Weighted, repeated(members)),
            Rule::LeastConnections if is_even => (ChoiceRule::LeastConnections, Vec::new()),
            Rule::LeastConnections => (ChoiceRule::LeastConnections, repeated(members)),
            Rule::Maglev(size) => (ChoiceRule::Maglev, maglev::table(size, protocol, members)),
        };
        Self { rule, entries }
    }
}

impl ServicePort {
    /// How one of a list is chosen, and the table that says so, in the order of the table where that means something.
    pub(super) fn table(&self, list: &List) -> (ChoiceRule, Vec<Endpoint>) {
        let weight = |index: &u32| self.weights.get(*index as usize).copied().unwrap_or(Weight::MIN);
        let weights = list.members.iter().map(weight);
        let members: Vec<(Endpoint, Weight)> = self.members(list).copied().zip(weights).collect();
        let Table { rule, entries } = Table::new(self.rule, self.key.protocol, &members);
        let entries = entries.iter().filter_map(|place| members.get(*place as usize));
        (
            rule,
            in_any_order(rule, entries.map(|(endpoint, _)| *endpoint).collect()),
        )
    }
}

/// Only where flows have their places in a table does its order matter.
pub(super) fn in_any_order(rule: ChoiceRule, mut table: Vec<Endpoint>) -> Vec<Endpoint> {
    if rule != ChoiceRule::Maglev {
        table.sort_unstable();
    }
    table
}

/// Each place as often as its weight says, in lowest terms.
fn repeated(members: &[(Endpoint, Weight)]) -> Vec<u32> {
    let divisor = members
        .iter()
        .fold(0, |divisor, (_, weight)| common(weight.get(), divisor));
    let places = (0..).zip(members);
    places
        .flat_map(|(place, (_, weight))| {
            std::iter::repeat_n(place, usize::from(weight.get() / divisor.max(1)))
        })
        .collect()
}

/// The greatest common divisor; of nothing and a number that number.
fn common(one: u16, other: u16) -> u16 {
    if other == 0 {
        one
    } else {
        common(other, one % other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proxy_common::layout::Port;

    fn members(weights: &[u16]) -> Vec<(Endpoint, Weight)> {
        let endpoint = |n: u8| Endpoint {
            address: std::net::Ipv4Addr::new(10, 1, 0, n).into(),
            port: Port::new(80),
            local: false,
        };
        let weights = weights.iter().map(|weight| Weight::new(*weight).unwrap());
        (1..).map(endpoint).zip(weights).collect()
    }

    #[test]
    fn endpoints_that_are_alike_need_no_table() {
        for (rule, choice) in [
            (Rule::Random, ChoiceRule::Random),
            (Rule::LeastConnections, ChoiceRule::LeastConnections),
        ] {
            let table = Table::new(rule, 6, &members(&[7, 7, 7]));
            assert_eq!((table.rule, table.entries.len()), (choice, 0));
        }
    }

    #[test]
    fn weights_are_kept_in_lowest_terms() {
        let table = Table::new(Rule::Random, 6, &members(&[100, 50, 150]));
        assert_eq!(table.rule, ChoiceRule::Weighted);
        assert_eq!(table.entries, [0, 0, 1, 2, 2, 2]);
        let connections = Table::new(Rule::LeastConnections, 6, &members(&[2, 1]));
        assert_eq!(connections.entries, [0, 0, 1]);
    }

    proptest! {
        #[test]
        fn each_place_stands_in_proportion(weights in prop::collection::vec(1_u16..300, 2..30)) {
            let table = Table::new(Rule::Random, 6, &members(&weights));
            let times = |place: u32| table.entries.iter().filter(|entry| **entry == place).count();
            for (place, weight) in (0..).zip(&weights) {
                let (first, this) = (times(0), times(place));
                if table.rule == ChoiceRule::Weighted {
                    prop_assert_eq!(first * usize::from(*weight), this * usize::from(weights[0]));
                } else {
                    prop_assert!(weights.iter().all(|weight| *weight == weights[0]));
                }
            }
        }
    }
}
