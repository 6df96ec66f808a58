//! What the lists of service ports say of their endpoints and policies.

use std::collections::BTreeSet;

use proxy_common::layout::{FrontendKind, When};

use crate::plan::{Endpoint, Forwarding, List, ServicePort};
use crate::source::TrafficPolicy;

/// A policy, as far as the lists show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) is: TrafficPolicy,
    /// Whether no other policy makes such lists.
    pub(super) is_certain: bool,
}

/// The policies of a Service, internal and external; none: no list is made by it.
pub(super) fn policies(ports: &[ServicePort]) -> [Option<Policy>; 2] {
    let lists = ports.iter().map(Lists::of);
    let both: Vec<[Option<Policy>; 2]> = lists.map(|lists| lists.policies()).collect();
    [0, 1].map(|index| {
        let mut all: Vec<Policy> = both.iter().filter_map(|policies| policies[index]).collect();
        // One port whose list allows no other policy speaks for all; then one that looks like Local.
        all.sort_by_key(|policy| (!policy.is_certain, policy.is == TrafficPolicy::Cluster));
        all.first().copied()
    })
}

/// What the lists of a service port say of its endpoints, by their indices.
#[derive(Debug)]
pub(super) struct Lists<'a> {
    port: &'a ServicePort,
    all: BTreeSet<u32>,
    internal: BTreeSet<u32>,
    external: BTreeSet<u32>,
    has_inside: bool,
    has_outside: bool,
    /// Those that a policy Cluster uses.
    cluster: BTreeSet<u32>,
    /// Whether these are they for sure.
    pub(super) is_certain: bool,
    /// Those that a policy Local uses, if a list shows them.
    local: Option<BTreeSet<u32>>,
}

impl<'a> Lists<'a> {
    pub(super) fn of(port: &'a ServicePort) -> Self {
        let set = |list: &List| -> BTreeSet<u32> { list.members.iter().copied().collect() };
        let mut kinds = port.frontends.iter().map(|(_, kind)| *kind);
        let has_outside = kinds.clone().any(|kind| kind != FrontendKind::ClusterIp);
        let has_inside = kinds.any(|kind| kind == FrontendKind::ClusterIp);
        let (internal, external) = (set(&port.internal), set(&port.external));
        let all: BTreeSet<u32> = (0..).zip(&port.endpoints).map(|(index, _)| index).collect();
        let is_whole = |list: &BTreeSet<u32>| *list == all || has_remote(port, list);
        let shortcut = set(&port.shortcut);
        // With DSR the two have changed places.
        let (all_of_them, this_nodes) = match port.forwarding {
            Forwarding::Snat => (&shortcut, &external),
            Forwarding::Dsr => (&external, &shortcut),
        };
        let (cluster, is_certain) = match has_outside {
            true => (all_of_them.clone(), true),
            false if is_whole(&internal) => (internal.clone(), true),
            false => (all.clone(), false),
        };
        let local = if has_outside && *this_nodes != cluster {
            Some(this_nodes.clone())
        } else {
            (has_inside && internal != cluster).then(|| internal.clone())
        };
        Self {
            port,
            all,
            internal,
            external,
            has_inside,
            has_outside,
            cluster,
            is_certain,
            local,
        }
    }

    fn policies(&self) -> [Option<Policy>; 2] {
        let policy = |list: &BTreeSet<u32>, when_empty| {
            let is_dropping = list.is_empty() && when_empty == When::Drop;
            let is_cluster = has_remote(self.port, list);
            let is_local = (self.is_certain && *list != self.cluster) || is_dropping;
            let looks_local = is_local || (!self.is_certain && *list != self.all);
            Policy {
                is: if looks_local {
                    TrafficPolicy::Local
                } else {
                    TrafficPolicy::Cluster
                },
                is_certain: is_cluster || is_local,
            }
        };
        let port = self.port;
        [
            self.has_inside
                .then(|| policy(&self.internal, port.internal.when_empty)),
            self.has_outside
                .then(|| policy(&self.external, port.external.when_empty)),
        ]
    }

    /// How an endpoint must stand for the lists to be what they are.
    pub(super) fn stance(&self, index: u32, endpoint: &Endpoint) -> Stance {
        let is_listed = self.cluster.contains(&index);
        let is_ready = match &self.local {
            Some(local) if endpoint.local => {
                local.contains(&index) && (is_listed || !local.is_disjoint(&self.cluster))
            }
            _ => is_listed,
        };
        match (is_ready, is_listed) {
            (true, true) => Stance::Ready,
            (true, false) => Stance::ForOthers,
            (false, _) => Stance::Terminating,
        }
    }

    /// The endpoints that serve and are in no list: why is not known.
    pub(super) fn hidden(&self) -> impl Iterator<Item = &Endpoint> {
        let endpoints = (0..).zip(&self.port.endpoints);
        endpoints
            .filter(|(index, endpoint)| self.stance(*index, endpoint) == Stance::Terminating)
            .map(|(_, endpoint)| endpoint)
    }
}

fn has_remote(port: &ServicePort, list: &BTreeSet<u32>) -> bool {
    let mut members = list
        .iter()
        .filter_map(|index| port.endpoints.get(*index as usize));
    members.any(|endpoint| !endpoint.local)
}

/// What an endpoint is taken to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stance {
    /// It takes new calls.
    Ready,
    /// Ready, and hints give it to others.
    ForOthers,
    /// It serves, and takes no new calls.
    Terminating,
}
