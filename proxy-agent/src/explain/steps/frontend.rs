//! What the destination is, and by which policy its list was made.

use proxy_common::layout::{FrontendKind, HintFallback};

use super::{Writer, join, policy_of};
use crate::explain::decide::{ListName, Met};
use crate::explain::node::Caller;
use crate::explain::words;
use crate::model::{Reasons, Topology};
use crate::plan::protocol_name;
use crate::source::TrafficPolicy;

impl Writer<'_> {
    pub(super) fn frontend(&mut self, met: &Met) {
        let kind = words::kind(met.kind);
        let name = self.scene.name_of(met.service);
        let asked = format!("{}/{}", self.question.to, protocol_name(self.question.protocol));
        let text = if met.kind == FrontendKind::NodePort {
            let place = if self.question.to.ip().is_loopback() || self.question.to.ip().is_unspecified() {
                "the host itself"
            } else {
                "an address of this node"
            };
            format!("{asked} is a NodePort of Service {name}, met at {place}")
        } else {
            format!("{asked} is the {kind} of Service {name}")
        };
        self.say("frontend", text);
        let claimants = self.world.map(|world| world.model.claimants(&met.frontend));
        let others = claimants.iter().flatten().skip(1);
        let others = join(others.map(ToString::to_string));
        if !others.is_empty() {
            let text = format!("{others} claims it too and does without: the older Service has it");
            self.say("conflict", text);
        }
    }

    pub(super) fn guard(&mut self, met: &Met) {
        let Some((is_in, judged)) = met.admitted else {
            return;
        };
        let ranges = join(
            self.scene
                .store
                .ranges_of(met.service)
                .iter()
                .map(ToString::to_string),
        );
        let text = if is_in {
            format!("loadBalancerSourceRanges {ranges} let {judged} in")
        } else {
            format!(
                "loadBalancerSourceRanges {ranges} do not let {judged} in: dropped before anything is translated"
            )
        };
        self.say("source ranges", text);
        if judged != self.question.from {
            let text = format!("a call of the host is judged by the node's own address, {judged}");
            self.say("source ranges", text);
        }
    }

    pub(super) fn policy(&mut self, met: &Met, reasons: Option<&Reasons>) {
        let Some(reasons) = reasons else {
            let text = match met.list {
                ListName::Internal => "the internal list serves a ClusterIP",
                ListName::External => "the external list serves calls from outside",
                ListName::Shortcut => "the shortcut list, of all endpoints, serves calls from this node",
            };
            self.say("policy", text);
            return;
        };
        let (internal, external) = (words::policy(reasons.internal), words::policy(reasons.external));
        let is_of_this_node = !matches!(self.caller, Caller::Outside(_));
        let text = match (met.list, reasons.external) {
            (ListName::External, TrafficPolicy::Cluster) if is_of_this_node => {
                "externalTrafficPolicy Cluster; a call from this node: the external list, of all endpoints"
                    .to_owned()
            }
            (ListName::Internal, _) => {
                format!("internalTrafficPolicy {internal} rules a ClusterIP: the internal list")
            }
            (ListName::External, _) => {
                format!("externalTrafficPolicy {external} rules calls from outside: the external list")
            }
            (ListName::Shortcut, TrafficPolicy::Local) => {
                "externalTrafficPolicy Local does not rule calls from this \
                 node: the shortcut list, of all endpoints"
                    .to_owned()
            }
            (ListName::Shortcut, TrafficPolicy::Cluster) => {
                "externalTrafficPolicy Cluster; a call from this node: the shortcut list, of all endpoints"
                    .to_owned()
            }
        };
        self.say("policy", text);
    }

    pub(super) fn hints(&mut self, met: &Met, reasons: &Reasons) {
        if policy_of(met, reasons) == TrafficPolicy::Local {
            return;
        }
        let zone = self
            .world
            .and_then(|world| world.model.zone())
            .map(|zone| &**zone);
        let node = words::hints("node", reasons.node_hints, zone);
        let is_by_node = reasons
            .endpoints
            .iter()
            .any(|judged| judged.standings.cluster == crate::model::Standing::Ready(Topology::Node));
        let zones = match is_by_node {
            true => None,
            false => words::hints("zone", reasons.zone_hints, zone),
        };
        for text in node.into_iter().chain(zones) {
            self.say("hints", text);
        }
    }

    /// What the agent noted beside the Service's name.
    pub(super) fn hints_of_maps(&mut self, met: &Met) {
        let identity = self.scene.store.identities.get(&met.service);
        let fallback = identity
            .and_then(|identity| HintFallback::from_fields(identity.hint_fallback, identity.without_hints));
        if let Some(why) = fallback {
            self.say("hints", format!("not followed, all endpoints are used: {why}"));
        }
    }
}
