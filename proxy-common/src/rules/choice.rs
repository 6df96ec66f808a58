//! From a destination to a backend: one hash look-up and three array reads.

use crate::layout::{
    Addr, AffinityWord, BackendId, ChoiceRule, FilterBit, FrontendKey, FrontendKind, FrontendValue, ListWord,
    Port, ServiceId, When,
};
use crate::rules::{Directory, Origin, Work, hash};

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
    /// Whether its packets go to a backend of another node whole (DSR).
    pub hands_on: bool,
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
        hands_on: false,
    };
    let Some(service) = node.service(found.service) else {
        return refuse;
    };
    let hands_on = found.kind != FrontendKind::ClusterIp && service.hands_on(found.tag);
    let list = match (found.kind, caller) {
        (FrontendKind::ClusterIp, _) => service.internal,
        (_, Caller::Node) if !hands_on => service.shortcut,
        (_, _) => service.external,
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
    let hands_on = hands_on && caller == Caller::Outside;
    Offer {
        list,
        affinity,
        hands_on,
    }
}

/// A backend of a list by its rule, where nothing is known of the flow but that there will be one; 0 if the one that was
/// drawn no longer serves.
#[inline(always)]
pub fn draw<A: Addr, D: Directory<A>>(node: &D, list: ListWord) -> u32 {
    node.draw(list, node.random())
}

/// The same for the work's flow: where the rule is Maglev's, or where it is to be found again without its entry, its hash
/// decides, and the second and later attempts give others.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(crate) fn draw_for<A: Addr, D: Directory<A>>(
    node: &D,
    list: ListWord,
    work: &Work<A>,
    attempt: u32,
) -> u32 {
    let hash = || (hash::step(hash::flow(&work.key), u64::from(attempt)) >> 32) as u32;
    let number = match list.rule() {
        ChoiceRule::Maglev => hash(),
        ChoiceRule::Random | ChoiceRule::Weighted if work.hands_on => node.drawn_by(hash()),
        _ => node.random(),
    };
    node.draw(list, number)
}

/// A backend of a list by a number, whatever its size; of least connections by that number and another that is drawn; 0 if it does not
/// serve.
#[inline(always)]
pub fn draw_by<A: Addr, D: Directory<A>>(node: &D, list: ListWord, number: u32) -> u32 {
    let drawn = entry(node, list, number);
    if list.rule() != ChoiceRule::LeastConnections {
        return if serves(node, drawn) { drawn } else { 0 };
    }
    let other = entry(node, list, node.random());
    let is_other_less = node.load(BackendId(other)) < node.load(BackendId(drawn));
    let (less, more) = if is_other_less {
        (other, drawn)
    } else {
        (drawn, other)
    };
    if serves(node, less) {
        less
    } else if serves(node, more) {
        more
    } else {
        0
    }
}

/// The entry of a list's table at a number, whatever its size; of the list itself if it has no table; 0 if there is none.
#[inline(always)]
fn entry<A: Addr, D: Directory<A>>(node: &D, list: ListWord, number: u32) -> u32 {
    let (mut first, mut length) = (list.first(), list.count());
    if let Some(slot) = list.table_length_slot()
        && let Some(BackendId(entries)) = node.slot(slot)
        && entries != 0
    {
        (first, length) = (slot + 1, entries);
    }
    let Some(offset) = number.checked_rem(length) else {
        return 0;
    };
    node.slot(first.wrapping_add(offset)).map_or(0, |id| id.0)
}

#[inline(always)]
fn serves<A: Addr, D: Directory<A>>(node: &D, id: u32) -> bool {
    id != 0
        && node
            .backend(BackendId(id))
            .is_some_and(|backend| backend.is_alive())
}

#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
