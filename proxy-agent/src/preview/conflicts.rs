//! Frontends that several Services claim.

use std::collections::BTreeSet;

use super::report::Conflict;
use crate::explain::World;
use crate::name::ObjectName;
use crate::plan::Frontend;

/// Those that these Services claim.
pub(super) fn of(after: &World, affected: &BTreeSet<ObjectName>) -> Vec<Conflict> {
    let asked: BTreeSet<Frontend> = affected
        .iter()
        .flat_map(|name| after.model.asked_by(name))
        .collect();
    let contested = asked.iter().filter_map(|frontend| {
        let claimants = after.model.claimants(frontend);
        let (winner, losers) = claimants.split_first()?;
        (!losers.is_empty()).then(|| Conflict {
            frontend: frontend.to_string(),
            winner: winner.to_string(),
            losers: losers.iter().map(ToString::to_string).collect(),
        })
    });
    contested.collect()
}
