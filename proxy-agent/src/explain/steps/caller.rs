//! Who calls, and at which node.

use std::net::IpAddr;

use super::{Writer, join, range_text};
use crate::explain::World;
use crate::explain::node::Caller;

/// Who calls, as the node of this world sees it.
pub(in crate::explain) fn caller(world: &World, from: IpAddr) -> Caller {
    let facts = &world.scene.facts;
    if from.is_loopback() {
        return Caller::Host(format!("{from} is a loopback address"));
    }
    if facts.has(from) {
        return Caller::Host(format!("{from} is one of its addresses"));
    }
    if let Some(range) = facts.pod_range_of(from) {
        return Caller::Pod(format!(
            "{from} is in {}, of the Node's podCIDRs",
            range_text(&range)
        ));
    }
    if world.model.is_local_endpoint(from) {
        return Caller::Pod(format!(
            "{from} is the address of an endpoint whose nodeName is {}",
            facts.name
        ));
    }
    Caller::Outside(format!(
        "{from} is neither an address of this node nor of one of its pods"
    ))
}

impl Writer<'_> {
    pub(super) fn node(&mut self) {
        let facts = &self.scene.facts;
        let name = &facts.name;
        let addresses = match &*facts.addresses {
            [] => "no addresses, so that no NodePort answers".to_owned(),
            addresses => join(addresses.iter().map(ToString::to_string)),
        };
        let Some(World { nodes, model, .. }) = self.world else {
            self.say(
                "node",
                format!("its agent's maps have {addresses} as the node's addresses"),
            );
            return;
        };
        let zone = model
            .zone()
            .map_or_else(|| "no zone".to_owned(), |zone| format!("zone {zone}"));
        if facts.is_known {
            self.say("node", format!("{name} has {addresses}; {zone}"));
            return;
        }
        let others = match &**nodes {
            [] => "the manifests have no Node object".to_owned(),
            nodes => format!(
                "the manifests have no Node named {name}, but {}",
                join(nodes.iter().map(ToString::to_string))
            ),
        };
        let assumed = format!(
            "{others}: assumed are {addresses}, no zone, and no pods but the endpoints whose nodeName is {name}; add the \
             Node object, or give its addresses with --node-address"
        );
        self.say("node", assumed);
    }

    pub(super) fn source_class(&mut self) {
        let text = match self.caller {
            Caller::Host(why) => format!("this host itself: {why}"),
            Caller::Pod(why) => format!("a pod of this node: {why}"),
            Caller::Outside(why) => format!("outside: {why}"),
        };
        self.say("source", text);
    }
}
