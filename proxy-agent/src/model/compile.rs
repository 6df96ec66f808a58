//! One Service -> its service ports (semantics A4, A5).

use proxy_common::layout::{Family, FrontendKind, When};

use super::choice::Choice;
use super::endpoints::Candidate;
use super::forwarding::forwarding;
use super::nobody::without_endpoints;
use super::{Model, rule};
use crate::name::ObjectName;
use crate::plan::{Forwarding, Frontend, List, PortKey, Range, ServicePort, Weight};
use crate::source::{self, Service, SessionAffinity, TrafficPolicy};

/// All service ports of a Service that have a frontend.
pub(super) fn compile(model: &Model, name: &ObjectName, service: &Service) -> Vec<ServicePort> {
    let served = model.served(service);
    let mut ports = Vec::new();
    for (index, port) in service.spec.ports.iter().enumerate() {
        for family in &served.families {
            let frontends: Vec<(Frontend, FrontendKind)> = served
                .frontends
                .iter()
                .filter(|wanted| wanted.port == index && wanted.family == *family)
                .filter(|wanted| model.claims.has(name, &wanted.frontend))
                .map(|wanted| (wanted.frontend, wanted.kind))
                .collect();
            if !frontends.is_empty() {
                ports.push(service_port(
                    model,
                    name,
                    service,
                    port,
                    *family,
                    frontends,
                    &served.source_ranges,
                ));
            }
        }
    }
    ports
}

fn service_port(
    model: &Model,
    name: &ObjectName,
    service: &Service,
    port: &source::ServicePort,
    family: Family,
    frontends: Vec<(Frontend, FrontendKind)>,
    source_ranges: &[Range],
) -> ServicePort {
    let mut candidates = model.candidates(name, &port.name, port.protocol, family);
    candidates.retain(|candidate| candidate.conditions.ready() || candidate.conditions.serving());
    let choice = model.choose(&candidates);
    let nobody = without_endpoints(service);
    let reached = |wanted: fn(FrontendKind) -> bool| frontends.iter().any(|(_, kind)| wanted(*kind));
    let inside = reached(|kind| kind == FrontendKind::ClusterIp);
    let outside = reached(|kind| kind != FrontendKind::ClusterIp);
    let forwarding = forwarding(service, model.forwarding);
    let forwarding = if outside { forwarding } else { Forwarding::Snat };
    let shortcut = match forwarding {
        Forwarding::Snat => TrafficPolicy::Cluster,
        Forwarding::Dsr => TrafficPolicy::Local,
    };
    let list = |used: bool, policy| {
        if used {
            policy_list(&choice, policy, nobody)
        } else {
            List::empty(When::Reject)
        }
    };
    ServicePort {
        key: PortKey {
            service: name.clone(),
            port_name: port.name.clone(),
            protocol: port.protocol.number(),
            family,
        },
        uid: service.metadata.uid.clone(),
        internal: list(inside, service.spec.internal_traffic_policy),
        external: list(outside, service.spec.external_traffic_policy),
        shortcut: list(outside, shortcut),
        forwarding,
        rule: rule::rule(service),
        weights: weights(&candidates),
        slow_start: rule::slow_start(service),
        affinity: affinity_seconds(service),
        hints: model.why_not_followed(&candidates),
        source_ranges: guarding(&frontends, source_ranges),
        frontends,
        endpoints: candidates.iter().map(|candidate| candidate.endpoint).collect(),
    }
}

/// The weights of endpoints, if they are not all alike.
fn weights(candidates: &[Candidate<'_>]) -> Vec<Weight> {
    let is_even = candidates
        .windows(2)
        .all(|pair| matches!(pair, [one, other] if one.weight == other.weight));
    if is_even {
        return Vec::new();
    }
    candidates.iter().map(|candidate| candidate.weight).collect()
}

/// The ranges of the family of these frontends, if one of them is guarded.
fn guarding(frontends: &[(Frontend, FrontendKind)], ranges: &[Range]) -> Vec<Range> {
    let guarded = frontends
        .iter()
        .find(|(_, kind)| *kind == FrontendKind::GuardedLoadBalancer);
    let Some((frontend, _)) = guarded else {
        return Vec::new();
    };
    let same_family = |range: &&Range| range.address.is_ipv4() == frontend.address.is_ipv4();
    ranges.iter().filter(same_family).copied().collect()
}

/// How long a client keeps its endpoint; 0: not at all.
fn affinity_seconds(service: &Service) -> u32 {
    match service.spec.session_affinity {
        SessionAffinity::None => 0,
        SessionAffinity::ClientIp => service.spec.session_affinity_config.client_ip.timeout_seconds.0,
    }
}

fn policy_list(choice: &Choice, policy: TrafficPolicy, nobody: When) -> List {
    let members = match policy {
        TrafficPolicy::Cluster => &choice.cluster,
        TrafficPolicy::Local => &choice.local,
    };
    let when_empty = if choice.has_any { When::Drop } else { nobody };
    List {
        members: members.clone(),
        when_empty,
    }
}
