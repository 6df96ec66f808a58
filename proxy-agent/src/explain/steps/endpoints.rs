//! Every endpoint, with the reason why it is in or out.

use std::net::IpAddr;

use super::{Writer, policy_of};
use crate::explain::answer::EndpointAnswer;
use crate::explain::decide::{ListName, Met};
use crate::explain::scene::Scene;
use crate::explain::words;
use crate::model::Reasons;
use crate::source::TrafficPolicy;

pub(super) fn judged(met: &Met, reasons: &Reasons) -> Vec<EndpointAnswer> {
    let is_local_list = policy_of(met, reasons) == TrafficPolicy::Local;
    let answer = |judged: &crate::model::Judged| {
        let standing = if is_local_list {
            judged.standings.local
        } else {
            judged.standings.cluster
        };
        EndpointAnswer {
            endpoint: (judged.endpoint.address, judged.endpoint.port.number()).into(),
            node: judged.node.clone(),
            used: standing.is_in(),
            reason: words::standing(standing, is_local_list, judged.node.as_deref()),
        }
    };
    reasons.endpoints.iter().map(answer).collect()
}

/// The backends of a service port that serve, as its maps have them.
pub(super) fn serving(scene: &Scene, met: &Met) -> Vec<EndpointAnswer> {
    let store = &scene.store;
    let listed = store.services.get(&met.service).map(|service| match met.list {
        ListName::Internal => store.listed(service.internal),
        ListName::External => store.listed(service.external),
        ListName::Shortcut => store.listed(service.shortcut),
    });
    let listed = listed.unwrap_or_default();
    let theirs = store.backends.iter();
    let theirs = theirs.filter(|(_, backend)| backend.is_alive() && backend.service == met.service);
    let mut answers: Vec<EndpointAnswer> = theirs
        .map(|(id, backend)| {
            let used = listed.contains(id);
            let place = if backend.is_local() {
                "on this node"
            } else {
                "on another node"
            };
            let reason = match used {
                true => format!("in the list, {place}"),
                false => format!("it serves, {place}, but the list does not have it"),
            };
            EndpointAnswer {
                endpoint: (IpAddr::from(backend.address), backend.port.number()).into(),
                node: None,
                used,
                reason,
            }
        })
        .collect();
    answers.sort_by_key(|answer| answer.endpoint);
    answers
}

impl Writer<'_> {
    pub(super) fn endpoints(&mut self, endpoints: &[EndpointAnswer], reasons: Option<&Reasons>) {
        for answer in endpoints {
            let place = match &answer.node {
                Some(node) if *node == self.scene.facts.name => " (this node)".to_owned(),
                Some(node) => format!(" ({node})"),
                None => String::new(),
            };
            let used = if answer.used { "in" } else { "out" };
            let text = format!("{}{place}: {used}: {}", answer.endpoint, answer.reason);
            self.say("endpoint", text);
        }
        for (slice, why) in reasons.iter().flat_map(|reasons| &reasons.unused_slices) {
            self.say("endpoint", format!("none of EndpointSlice {slice}: {why}"));
        }
        if endpoints.is_empty() {
            let text = if self.world.is_some() {
                "the Service has none"
            } else {
                "none serves"
            };
            self.say("endpoint", text);
        }
    }
}
