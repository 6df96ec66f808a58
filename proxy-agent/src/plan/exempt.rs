//! Clients whose packets are never handed on whole: ranges of nobody's in SOURCE_RANGES.

use std::collections::BTreeSet;

use proxy_common::layout::{NEVER_HANDED_ON, NEVER_HANDED_ON_TAG};

use super::{Operation, Plan, Planner, Range};

impl Planner {
    /// From the clients that are exempt to these. New ones come first: a range that is in both is exempt throughout.
    pub fn set_exempt(&mut self, ranges: &BTreeSet<Range>) -> Plan {
        let mut operations = Vec::new();
        for range in ranges.difference(&self.exempt) {
            *self.range_counts.of_address(&range.address) += 1;
            operations.push(Operation::PutRange(NEVER_HANDED_ON, *range, NEVER_HANDED_ON_TAG));
        }
        for range in self.exempt.difference(ranges) {
            *self.range_counts.of_address(&range.address) -= 1;
            operations.push(Operation::RemoveRange(NEVER_HANDED_ON, *range));
        }
        self.exempt.clone_from(ranges);
        Plan {
            operations,
            ..Plan::default()
        }
    }
}
