//! Which endpoints take new flows (semantics A3), and why the others don't.

use super::Model;
use super::endpoints::Candidate;
use crate::source::Hints;

/// The lists that a service port can use, as indices into its endpoints.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Whatever the node: ready ones as topology allows, else those that still serve while they terminate.
    pub(super) cluster: Vec<u32>,
    /// The same of this node alone, whatever the topology.
    pub(super) local: Vec<u32>,
    /// Whether some endpoint could be used anywhere: decides between refusing and dropping.
    pub(super) has_any: bool,
}

/// Why an endpoint is in a list, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In: it is ready, and hints of this sort are followed that name us.
    Ready(Topology),
    /// In: it terminates and still serves, and no other endpoint is ready.
    LastResort,
    /// Out: it is ready, and hints of this sort are followed that do not name us.
    ForOthers(Topology),
    /// Out: it is not on this node, and the list is this node's.
    NotLocal,
    /// Out: it is not ready, and does not terminate.
    NotReady,
    /// Out: it terminates, and others are ready.
    Terminating,
    /// Out: it terminates, and does not even serve any more.
    NotServing,
    /// Out: another entry with this address and port counts in its place.
    Duplicate,
}

impl Standing {
    /// Whether it is in the list.
    pub fn is_in(self) -> bool {
        matches!(self, Self::Ready(_) | Self::LastResort)
    }
}

/// What an endpoint is to both lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standings {
    /// To that of the policy Cluster.
    pub cluster: Standing,
    /// To that of the policy Local.
    pub local: Standing,
}

/// Which hints are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Those for nodes.
    Node,
    /// Those for zones.
    Zone,
    /// None.
    All,
}

/// What becomes of the hints of one sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintUse {
    /// No ready endpoint has any.
    Absent,
    /// Not followed: this many ready endpoints have none.
    Incomplete(usize),
    /// Not followed: none names us.
    NotForUs,
    /// All ready endpoints have them, and some name us.
    Complete,
}

impl Model {
    /// Chooses among candidates; the indices count them.
    pub(super) fn choose(&self, candidates: &[Candidate<'_>]) -> Choice {
        let standings = self.standings(candidates);
        let list = |of: fn(&Standings) -> Standing| -> Vec<u32> {
            (0..)
                .zip(&standings)
                .filter(|(_, standings)| of(standings).is_in())
                .map(|(index, _)| index)
                .collect()
        };
        Choice {
            cluster: list(|standings| standings.cluster),
            local: list(|standings| standings.local),
            has_any: candidates
                .iter()
                .any(|candidate| candidate.conditions.ready() || is_fallback(candidate)),
        }
    }

    /// What each candidate is to both lists.
    pub(super) fn standings(&self, candidates: &[Candidate<'_>]) -> Vec<Standings> {
        let topology = self.topology(candidates);
        let ready = |candidate: &&Candidate<'_>| candidate.conditions.ready();
        let is_one_ready = candidates.iter().any(|candidate| ready(&candidate));
        let is_one_ready_here = candidates
            .iter()
            .filter(ready)
            .any(|candidate| candidate.endpoint.local);
        let standings = candidates.iter().map(|candidate| Standings {
            cluster: match unready(candidate, is_one_ready) {
                Some(standing) => standing,
                None if self.allows(topology, candidate.hints) => Standing::Ready(topology),
                None => Standing::ForOthers(topology),
            },
            local: if candidate.endpoint.local {
                unready(candidate, is_one_ready_here).unwrap_or(Standing::Ready(Topology::All))
            } else {
                Standing::NotLocal
            },
        });
        standings.collect()
    }

    /// The narrowest hint that every ready endpoint carries and that names us at least once.
    fn topology(&self, candidates: &[Candidate<'_>]) -> Topology {
        [Topology::Node, Topology::Zone]
            .into_iter()
            .find(|topology| self.hint_use(*topology, candidates) == HintUse::Complete)
            .unwrap_or(Topology::All)
    }

    /// What becomes of the hints of one sort; those for zones count only where those for nodes do not.
    pub(super) fn hint_use(&self, topology: Topology, candidates: &[Candidate<'_>]) -> HintUse {
        let (mut ready, mut given, mut is_for_us) = (0, 0, false);
        for candidate in candidates.iter().filter(|candidate| candidate.conditions.ready()) {
            ready += 1;
            given += usize::from(topology.is_given(candidate.hints));
            is_for_us |= self.allows(topology, candidate.hints);
        }
        match (ready - given, given) {
            (_, 0) => HintUse::Absent,
            (0, _) if is_for_us => HintUse::Complete,
            (0, _) => HintUse::NotForUs,
            (without, _) => HintUse::Incomplete(without),
        }
    }

    fn allows(&self, topology: Topology, hints: Option<&Hints>) -> bool {
        match (topology, hints) {
            (Topology::All, _) => true,
            (_, None) => false,
            (Topology::Node, Some(hints)) => hints.for_nodes.iter().any(|node| self.is_this_node(&node.name)),
            (Topology::Zone, Some(hints)) => hints.for_zones.iter().any(|zone| self.is_this_zone(&zone.name)),
        }
    }
}

impl Topology {
    fn is_given(self, hints: Option<&Hints>) -> bool {
        hints.is_some_and(|hints| match self {
            Self::Node => !hints.for_nodes.is_empty(),
            Self::Zone => !hints.for_zones.is_empty(),
            Self::All => true,
        })
    }
}

/// Whether it takes new flows where nobody is ready.
fn is_fallback(candidate: &Candidate<'_>) -> bool {
    candidate.conditions.serving() && candidate.conditions.terminating()
}

/// What an endpoint is that is not ready; none: it is.
fn unready(candidate: &Candidate<'_>, is_one_ready: bool) -> Option<Standing> {
    if candidate.conditions.ready() {
        return None;
    }
    Some(match (is_fallback(candidate), is_one_ready) {
        (true, true) => Standing::Terminating,
        (true, false) => Standing::LastResort,
        (false, _) if candidate.conditions.terminating() => Standing::NotServing,
        (false, _) => Standing::NotReady,
    })
}
