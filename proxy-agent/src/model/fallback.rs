//! Hints for nodes and zones that are given and not followed: the traffic goes to all endpoints, which nobody sees unless
//! told (semantics A3).

use proxy_common::layout::HintFallback;

use super::choice::{HintUse, Topology};
use super::endpoints::Candidate;
use super::{Model, Warning};
use crate::name::ObjectName;
use crate::source::Service;

impl Model {
    /// The ports of a Service whose hints are not followed, and why.
    pub fn hint_fallbacks(&self, name: &ObjectName) -> Vec<Warning> {
        let Some(service) = self.services.get(name) else {
            return Vec::new();
        };
        if !self.has_hints(name) {
            return Vec::new();
        }
        self.fallbacks_of(name, service)
    }

    fn has_hints(&self, name: &ObjectName) -> bool {
        let slices = self.slices.get(name).into_iter().flatten();
        let mut endpoints = slices.flat_map(|slice| slice.endpoints.iter());
        endpoints.any(|endpoint| endpoint.hints().is_some())
    }

    fn fallbacks_of(&self, name: &ObjectName, service: &Service) -> Vec<Warning> {
        let mut fallbacks = Vec::new();
        for family in self.served(service).families {
            for port in &service.spec.ports {
                let candidates = self.candidates(name, &port.name, port.protocol, family);
                if let Some(why) = self.why_not_followed(&candidates) {
                    fallbacks.push(Warning::HintsNotFollowed {
                        service: name.clone(),
                        port: port.port.0.get(),
                        family,
                        why,
                    });
                }
            }
        }
        fallbacks
    }

    /// Why no hints are followed, though there are some.
    pub(super) fn why_not_followed(&self, candidates: &[Candidate<'_>]) -> Option<HintFallback> {
        let node = self.hint_use(Topology::Node, candidates);
        let zone = self.hint_use(Topology::Zone, candidates);
        match (node, zone) {
            (HintUse::Complete, _) | (_, HintUse::Complete) | (HintUse::Absent, HintUse::Absent) => None,
            (_, HintUse::Incomplete(without)) | (HintUse::Incomplete(without), HintUse::Absent) => Some(
                HintFallback::Incomplete(u16::try_from(without).unwrap_or(u16::MAX)),
            ),
            (_, HintUse::NotForUs) if self.zone.is_none() => Some(HintFallback::NoZone),
            (_, HintUse::NotForUs) => Some(HintFallback::OtherZones),
            (HintUse::NotForUs, HintUse::Absent) => Some(HintFallback::OtherNodes),
        }
    }
}
