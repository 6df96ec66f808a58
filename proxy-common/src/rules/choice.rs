//! From a destination to a backend: one hash look-up and three array reads.

use crate::layout::{
    Addr, AffinityWord, Backend, BackendId, FilterBit, FrontendKey, FrontendKind, FrontendValue, ListWord,
    Port, ServiceId, When,
};
use crate::rules::{Directory, Origin};

/// Who asks, as the traffic policies see it (semantics A4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A pod of this node, or the host itself.
    Node,
    /// Anyone else.
    Outside,
}

/// Whose call it is, as the policies see it: a pod of this node by its interface, or, where the operator names the ranges of
/// pods' addresses (detectLocalMode), by its address.
#[inline(always)]
pub fn caller<A: Addr, D: Directory<A>>(node: &D, origin: Origin, source: &A) -> Caller {
    let by_address = match node.local_networks() {
        Some(networks) => networks.contains(source),
        None => None,
    };
    match (by_address, origin) {
        (Some(true), _) | (None, Origin::Pod) => Caller::Node,
        (Some(false), _) | (None, Origin::Network) => Caller::Outside,
    }
}

/// A frontend that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The service port.
    pub service: ServiceId,
    /// What kind of frontend it is.
    pub kind: FrontendKind,
    /// The tag that the service's lists must carry.
    pub tag: u16,
}

/// Whether this destination can be a frontend's, by the prefilter alone.
#[inline(always)]
pub fn may_be_frontend<A: Addr, D: Directory<A>>(node: &D, address: &A, port: Port, protocol: u8) -> bool {
    node.filter(FilterBit::forward(address, port, protocol))
        || node.filter(FilterBit::node_port(port, protocol))
}

/// The frontend at this destination.
#[inline(always)]
pub fn frontend<A: Addr, D: Directory<A>>(node: &D, address: &A, port: Port, protocol: u8) -> Option<Found> {
    if node.filter(FilterBit::forward(address, port, protocol))
        && let Some(value) = node.frontend(&FrontendKey::new(*address, port, protocol))
    {
        return found(value);
    }
    if node.filter(FilterBit::node_port(port, protocol)) && node.has_node_ports(address) {
        return node_port(node, port, protocol);
    }
    None
}

/// The NodePort at this port, whatever the address.
#[inline(always)]
pub fn node_port<A: Addr, D: Directory<A>>(node: &D, port: Port, protocol: u8) -> Option<Found> {
    node.frontend(&FrontendKey::node_port(port, protocol))
        .and_then(found)
}

#[inline(always)]
fn found(value: FrontendValue) -> Option<Found> {
    let kind = FrontendKind::from_byte(value.kind)?;
    Some(Found {
        service: value.service,
        kind,
        tag: value.service_tag,
    })
}

/// What a frontend has for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The list that serves it.
    pub list: ListWord,
    /// How long it keeps its backend.
    pub affinity: AffinityWord,
}

/// Whether a frontend is open to a source.
#[inline(always)]
pub fn admits<A: Addr, D: Directory<A>>(node: &D, found: &Found, source: &A) -> bool {
    found.kind != FrontendKind::GuardedLoadBalancer || node.allows(found.service, found.tag, source)
}

/// The list that serves a caller at a frontend, and whether the caller keeps its backend.
#[inline(always)]
pub fn offer<A: Addr, D: Directory<A>>(node: &D, found: &Found, caller: Caller) -> Offer {
    let refuse = Offer {
        list: ListWord::empty(When::Reject, found.tag),
        affinity: AffinityWord::OFF,
    };
    let Some(service) = node.service(found.service) else {
        return refuse;
    };
    let list = match (found.kind, caller) {
        (FrontendKind::ClusterIp, _) => service.internal,
        (_, Caller::Outside) => service.external,
        (_, Caller::Node) => service.shortcut,
    };
    // The id has got a new owner since the frontend was read.
    if list.tag() != found.tag {
        return refuse;
    }
    let affinity = if service.affinity.tag() == found.tag {
        service.affinity
    } else {
        AffinityWord::OFF
    };
    Offer { list, affinity }
}

/// A backend of a list at random; `None` if the one that was drawn no longer serves.
#[inline(always)]
pub fn draw<A: Addr, D: Directory<A>>(node: &D, list: ListWord) -> Option<(BackendId, Backend)> {
    let count = list.count();
    if count == 0 {
        return None;
    }
    let id = node.slot(list.first() + node.random() % count)?;
    let backend = node.backend(id)?;
    backend.is_alive().then_some((id, backend))
}

#[cfg(test)]
mod tests;
