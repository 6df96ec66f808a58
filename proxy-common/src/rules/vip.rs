//! Packets to a Service's address that no frontend serves: ping, unknown ports, addresses that no Service has
//! (semantics A5, E18, E20).
//!
//! What is refused or dropped is so where it leaves the node: whoever else serves such an address here (another proxy's
//! Service, what a node-local agent binds) has had it by then. kube-proxy does the same in its forward hook.

use crate::layout::{Addr, CONFIG_NO_PING, Counter, FilterBit, Vip, protocol};
use crate::rules::quote::Side;
use crate::rules::{Directory, FlowStore, Headers, Verdict};

/// Where a packet is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// TC ingress: it may be somebody else's yet.
    Inwards,
    /// TC egress of a pod interface: it has arrived.
    ToPod,
    /// TC egress of an uplink.
    Outwards {
        /// It came in by this very interface.
        turns_back: bool,
    },
}

impl Place {
    /// Which entries of the flow table apply there.
    #[inline(always)]
    pub(crate) const fn side(self) -> Side {
        match self {
            Self::Inwards => Side::Ingress,
            Self::ToPod | Self::Outwards { .. } => Side::Egress,
        }
    }
}

/// Whether a packet that leaves must be looked at for its destination's sake, by array reads alone. A false yes costs a look-up.
#[inline(always)]
pub(crate) fn may_be<A: Addr, D: Directory<A>>(node: &D, destination: &A, turns_back: bool) -> bool {
    match node.in_service_network(destination) {
        Some(true) => true,
        // Other addresses of Services matter only where they would go round in circles.
        Some(false) => turns_back && node.filter(FilterBit::forward_address(destination)),
        None => node.filter(FilterBit::forward_address(destination)),
    }
}

/// The entry of an address.
#[inline(always)]
fn vip<A: Addr, D: Directory<A>>(node: &D, address: &A) -> Option<Vip> {
    if node.filter(FilterBit::forward_address(address)) {
        node.vip(address)
    } else {
        None
    }
}

/// What becomes of a packet that no frontend serves and that is about to leave; [`Verdict::PASS`] if its destination is no
/// Service's.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(crate) fn leaves<A: Addr, N: FlowStore<A>>(node: &N, destination: &A, turns_back: bool) -> Verdict {
    match vip(node, destination) {
        Some(vip) if vip.is_cluster() => Verdict::reject(Counter::UnknownPort),
        Some(_) if turns_back => Verdict::drop(Counter::TurnedBack),
        Some(_) => Verdict::PASS,
        None if node.in_service_network(destination) == Some(true) => {
            Verdict::drop(Counter::UnallocatedAddress)
        }
        None => Verdict::PASS,
    }
}

/// What becomes of a packet that has no ports.
#[inline(always)]
pub(crate) fn message<A: Addr, N: FlowStore<A>>(node: &N, place: Place, packet: &Headers<A>) -> Verdict {
    let destination = &packet.destination;
    if place == Place::ToPod {
        return Verdict::PASS;
    }
    if packet.is_echo
        && node.config().flags & CONFIG_NO_PING == 0
        && vip(node, destination).is_some_and(Vip::answers)
        // Its own stack answers there.
        && !node.is_node_address(destination)
    {
        node.count(Counter::PingAnswered);
        return Verdict::ANSWER_ECHO;
    }
    let Place::Outwards { turns_back } = place else {
        return Verdict::PASS;
    };
    let verdict = leaves(node, destination, turns_back);
    let is_icmp = packet.protocol == protocol::ICMP || packet.protocol == protocol::ICMPV6;
    if is_icmp && !packet.is_echo {
        silent(verdict)
    } else {
        verdict
    }
}

/// What becomes of an ICMP error to this destination that belongs to no flow.
#[inline(always)]
pub(crate) fn error<A: Addr, N: FlowStore<A>>(node: &N, place: Place, destination: &A) -> Verdict {
    match place {
        Place::Outwards { turns_back } => silent(leaves(node, destination, turns_back)),
        Place::Inwards | Place::ToPod => Verdict::PASS,
    }
}

/// Nobody is to be told of the fate of an ICMP message that is no request (RFC 1122 §3.2.2): what is refused else is dropped.
#[inline(always)]
const fn silent(verdict: Verdict) -> Verdict {
    if verdict.rejected().is_some() {
        Verdict::drop(Counter::UnknownPort)
    } else {
        verdict
    }
}

#[cfg(test)]
mod tests;
