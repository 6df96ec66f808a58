//! Which Service has a frontend that several ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::HashMap;

use super::Warning;
use super::frontends::Wanted;
use crate::name::ObjectName;
use crate::plan::Frontend;
use crate::source::Metadata;

/// The first has a frontend: the oldest, then by name; a Service without a time comes after those with one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    has_no_time: bool,
    created: Option<Arc<str>>,
    name: ObjectName,
}

impl Rank {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            has_no_time: metadata.creation_timestamp.is_none(),
            created: metadata.creation_timestamp.clone(),
            name: metadata.object_name(),
        }
    }
}

/// Who asks for which frontend.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// One claimant, which is the common case, or several, each with its rank.
    sole: HashMap<Frontend, Rank>,
    contested: HashMap<Frontend, BTreeSet<Rank>>,
}

impl Claims {
    /// Makes room for this many frontends more.
    pub(super) fn reserve(&mut self, frontends: usize) {
        self.sole.reserve(frontends);
    }

    /// Whether a Service has a frontend that it asks for.
    pub(super) fn has(&self, service: &ObjectName, frontend: &Frontend) -> bool {
        self.winner(frontend) == Some(service)
    }

    fn winner(&self, frontend: &Frontend) -> Option<&ObjectName> {
        let contested = self.contested.get(frontend).and_then(BTreeSet::first);
        contested
            .or_else(|| self.sole.get(frontend))
            .map(|rank| &rank.name)
    }

    /// All Services that ask for a frontend; the first has it.
    pub(super) fn claimants(&self, frontend: &Frontend) -> Vec<&ObjectName> {
        let contested = self.contested.get(frontend).into_iter().flatten();
        let sole = self.sole.get(frontend);
        contested.chain(sole).map(|rank| &rank.name).collect()
    }

    /// Takes over what a Service asks for now; gives the other Services that won or lost a frontend by it.
    pub(super) fn replace(
        &mut self,
        service: &ObjectName,
        rank: Option<Rank>,
        old: &[Wanted],
        new: &[Wanted],
        warnings: &mut Vec<Warning>,
    ) -> BTreeSet<ObjectName> {
        // Of a frontend that nobody had there is nobody to lose it.
        let winner = |wanted: &Wanted| Some((wanted.frontend, self.winner(&wanted.frontend)?.clone()));
        let before: Vec<(Frontend, ObjectName)> = old.iter().chain(new).filter_map(winner).collect();
        for wanted in old {
            self.remove(&wanted.frontend, service);
        }
        for (wanted, rank) in new.iter().zip(std::iter::repeat(rank).flatten()) {
            self.insert(wanted.frontend, rank, warnings);
        }
        let mut others = BTreeSet::new();
        for (frontend, before) in before {
            let after = self.winner(&frontend);
            if Some(&before) != after {
                others.insert(before);
                others.extend(after.cloned());
            }
        }
        others.remove(service);
        others
    }

    fn insert(&mut self, frontend: Frontend, rank: Rank, warnings: &mut Vec<Warning>) {
        let name = rank.name.clone();
        if let Some(ranks) = self.contested.get_mut(&frontend) {
            ranks.insert(rank);
        } else if let Some(other) = self.sole.remove(&frontend) {
            self.contested.insert(frontend, BTreeSet::from([other, rank]));
        } else {
            self.sole.insert(frontend, rank);
            return;
        }
        let ranks = self.contested.get(&frontend).into_iter().flatten();
        let Some(winner) = self.winner(&frontend) else {
            return;
        };
        let losers = ranks
            .skip(1)
            .filter(|loser| *winner == name || loser.name == name);
        warnings.extend(losers.map(|loser| Warning::FrontendTaken {
            frontend,
            winner: winner.clone(),
            loser: loser.name.clone(),
        }));
    }

    fn remove(&mut self, frontend: &Frontend, service: &ObjectName) {
        if self.sole.get(frontend).is_some_and(|rank| rank.name == *service) {
            self.sole.remove(frontend);
        }
        let Some(ranks) = self.contested.get_mut(frontend) else {
            return;
        };
        ranks.retain(|rank| rank.name != *service);
        if ranks.len() < 2 {
            let last = self
                .contested
                .remove(frontend)
                .and_then(|ranks| ranks.into_iter().next());
            if let Some(last) = last {
                self.sole.insert(*frontend, last);
            }
        }
    }
}
