//! Who calls, and at which node.

use std::net::IpAddr;

use proxy_common::layout::{Addr, NetworkList};

use super::{Writer, join};
use crate::config::LocalMode;
use crate::explain::World;
use crate::explain::node::Caller;
use crate::plan::ranges_of;

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
        return Caller::Pod(format!("{from} is in {}, of the Node's podCIDRs", range));
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

    /// Which callers the policies take for pods of this node.
    pub(super) fn local_pods(&mut self) {
        if matches!(self.caller, Caller::Host(_)) {
            return;
        }
        let networks = &self.scene.store.networks;
        let by_address = match self.question.from {
            IpAddr::V4(address) => self.by_address(&networks.local4, address.into()),
            IpAddr::V6(address) => self.by_address(&networks.local6, address.into()),
        };
        let text = by_address.unwrap_or_else(|| self.by_interface());
        self.say("local pods", text);
    }

    /// By ranges, if there are any of the family.
    fn by_address<A: Addr>(&self, list: &NetworkList<A>, from: A) -> Option<String>
    where
        IpAddr: From<A>,
    {
        let is_in = list.contains(&from)?;
        let mode = match self.world.map(|world| &world.local_mode) {
            Some(LocalMode::NodeCidr) => " (detectLocalMode NodeCIDR)",
            Some(_) => " (detectLocalMode ClusterCIDR)",
            None => "",
        };
        let ranges = join(ranges_of(list).iter().map(ToString::to_string));
        let caller = if is_in {
            "this one does"
        } else {
            "this one does not"
        };
        Some(format!(
            "who calls from {ranges} counts as a pod of this node{mode}: {caller}"
        ))
    }

    fn by_interface(&self) -> String {
        let by = match self.world.map(|world| &world.local_mode) {
            Some(LocalMode::Bridge(bridge)) => {
                format!("a port of the bridge {bridge} (detectLocalMode BridgeInterface)")
            }
            Some(LocalMode::Prefix(prefix)) => {
                format!("an interface named {prefix}... (detectLocalMode InterfaceNamePrefix)")
            }
            _ => "an interface that leads to a pod".to_owned(),
        };
        let caller = match self.caller {
            Caller::Pod(_) => "this one does",
            Caller::Host(_) | Caller::Outside(_) => "this one does not",
        };
        let taken = match self.world {
            Some(_) => ", as its address is taken for a pod's or not",
            None => "",
        };
        format!("who calls by {by} counts as a pod of this node: {caller}{taken}")
    }
}
