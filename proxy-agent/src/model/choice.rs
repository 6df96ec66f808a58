//! Which endpoints take new flows (semantics A3).

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

impl Model {
    /// Chooses among candidates; the indices count them.
    pub(super) fn choose(&self, candidates: &[Candidate<'_>]) -> Choice {
        let allowed = self.topology(candidates);
        let ready = |candidate: &Candidate<'_>| candidate.conditions.ready();
        let fallback =
            |candidate: &Candidate<'_>| candidate.conditions.serving() && candidate.conditions.terminating();
        let local = |candidate: &Candidate<'_>| candidate.endpoint.local;
        Choice {
            cluster: first_filled(
                candidates,
                |candidate| ready(candidate) && self.allows(allowed, candidate.hints),
                fallback,
            ),
            local: first_filled(
                candidates,
                |candidate| local(candidate) && ready(candidate),
                |candidate| local(candidate) && fallback(candidate),
            ),
            has_any: candidates
                .iter()
                .any(|candidate| ready(candidate) || fallback(candidate)),
        }
    }

    /// The narrowest hint that every ready endpoint carries and that names us at least once.
    fn topology(&self, candidates: &[Candidate<'_>]) -> Topology {
        let ready = || {
            candidates
                .iter()
                .filter(|candidate| candidate.conditions.ready())
                .map(|candidate| candidate.hints)
        };
        let usable = |topology: Topology| {
            ready().all(|hints| topology.is_given(hints)) && ready().any(|hints| self.allows(topology, hints))
        };
        [Topology::Node, Topology::Zone]
            .into_iter()
            .find(|topology| usable(*topology))
            .unwrap_or(Topology::All)
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

/// Which hints are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    Node,
    Zone,
    All,
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

/// Indices of those that fit the first rule; if none does, of those that fit the second.
fn first_filled<'a>(
    candidates: &[Candidate<'a>],
    first: impl Fn(&Candidate<'a>) -> bool,
    second: impl Fn(&Candidate<'a>) -> bool,
) -> Vec<u32> {
    let indices = |rule: &dyn Fn(&Candidate<'a>) -> bool| -> Vec<u32> {
        (0..)
            .zip(candidates)
            .filter(|(_, candidate)| rule(candidate))
            .map(|(index, _)| index)
            .collect()
    };
    let list = indices(&first);
    if list.is_empty() { indices(&second) } else { list }
}
