//! What each TC hook does with a packet.

use crate::layout::{Addr, Counter, FilterBit, FrontendKind};
use crate::rules::headers::{Bytes, Parsed, Readable};
use crate::rules::{FlowStore, Headers, Origin, Verdict, choice, create, forward, fragment, reverse};

/// Whether a port is of the SNAT range.
#[inline(always)]
fn is_snat_port<A: Addr, N: FlowStore<A>>(node: &N, port: crate::layout::Port) -> bool {
    let config = node.config();
    port.number().wrapping_sub(config.snat_first) < config.snat_count
}

/// Reads a packet; a verdict at once where there is nothing to decide.
#[inline(always)]
fn read<A: Readable, N: FlowStore<A>, B: Bytes>(node: &N, bytes: &B) -> Result<Headers<A>, Verdict<A>> {
    match A::parse(bytes) {
        Parsed::Transport(mut packet) => match fragment::resolve(node, &mut packet) {
            None => Ok(packet),
            Some(verdict) => Err(verdict),
        },
        Parsed::Other => Err(Verdict::Pass),
        // The stack judges it, unless it was meant for a frontend: then it would go astray.
        Parsed::Malformed(_, destination) => Err(if node.filter(FilterBit::forward_address(&destination)) {
            Verdict::Drop(Counter::Malformed)
        } else {
            Verdict::Pass
        }),
    }
}

/// TC ingress, of a pod interface or of an uplink: packets to frontends, and replies to packets that this node sent
/// in its own name.
#[inline(always)]
pub fn ingress<A: Readable, N: FlowStore<A>, B: Bytes>(
    node: &N,
    origin: Origin,
    bytes: &B,
) -> (Verdict<A>, Headers<A>) {
    let packet = match read(node, bytes) {
        Ok(packet) => packet,
        Err(verdict) => return (verdict, Headers::default()),
    };
    if is_snat_port(node, packet.destination_port)
        && node.filter(FilterBit::reverse(
            &packet.source,
            packet.source_port,
            packet.protocol,
        ))
        && let Some(verdict) = reverse::decide(node, &packet)
    {
        return (verdict, packet);
    }
    if !choice::may_be_frontend(
        node,
        &packet.destination,
        packet.destination_port,
        packet.protocol,
    ) {
        return (Verdict::Pass, packet);
    }
    (forward::decide(node, origin, &packet), packet)
}

/// TC egress of a pod interface: replies to a pod's calls.
#[inline(always)]
pub fn egress_pod<A: Readable, N: FlowStore<A>, B: Bytes>(node: &N, bytes: &B) -> (Verdict<A>, Headers<A>) {
    let packet = match read(node, bytes) {
        Ok(packet) => packet,
        Err(verdict) => return (verdict, Headers::default()),
    };
    (replies(node, &packet), packet)
}

/// TC egress of an uplink: replies of local backends; what the host failed to translate; ports that netfilter took
/// out of our range.
#[inline(always)]
pub fn egress_uplink<A: Readable, N: FlowStore<A>, B: Bytes>(
    node: &N,
    bytes: &B,
) -> (Verdict<A>, Headers<A>) {
    let packet = match read(node, bytes) {
        Ok(packet) => packet,
        Err(verdict) => return (verdict, Headers::default()),
    };
    if node.filter(FilterBit::forward(
        &packet.destination,
        packet.destination_port,
        packet.protocol,
    )) && let Some(found) = choice::frontend(
        node,
        &packet.destination,
        packet.destination_port,
        packet.protocol,
    ) && found.kind == FrontendKind::ClusterIp
    {
        return (Verdict::Drop(Counter::HostUntranslated), packet);
    }
    let verdict = replies(node, &packet);
    if matches!(verdict, Verdict::Pass)
        && is_snat_port(node, packet.source_port)
        && node.is_node_address(&packet.source)
    {
        create::foreign(node, &packet);
    }
    (verdict, packet)
}

#[inline(always)]
fn replies<A: Addr, N: FlowStore<A>>(node: &N, packet: &Headers<A>) -> Verdict<A> {
    if !node.filter(FilterBit::reverse(
        &packet.source,
        packet.source_port,
        packet.protocol,
    )) {
        return Verdict::Pass;
    }
    reverse::decide(node, packet).unwrap_or_else(|| {
        node.count(Counter::ReverseWithoutFlow);
        Verdict::Pass
    })
}
