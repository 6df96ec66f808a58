//! What each TC hook does with a packet.

use crate::layout::{Addr, Counter, FilterBit, FrontendKind};
use crate::rules::headers::{Bytes, Parsed, Readable};
use crate::rules::{FlowStore, Origin, Verdict, Work, choice, create, forward, fragment, reverse};

/// Whether a port is of the SNAT range.
#[inline(always)]
fn is_snat_port<A: Addr, N: FlowStore<A>>(node: &N, port: crate::layout::Port) -> bool {
    let config = node.config();
    port.number().wrapping_sub(config.snat_first) < config.snat_count
}

/// Reads a packet; a verdict at once where there is nothing to decide.
#[inline(always)]
fn read<A: Readable, N: FlowStore<A>, B: Bytes>(node: &N, bytes: &B, work: &mut Work<A>) -> Option<Verdict> {
    match A::parse(bytes, &mut work.packet) {
        Parsed::Transport => fragment::resolve(node, &mut work.packet),
        Parsed::Other => Some(Verdict::PASS),
        // The stack judges it, unless it was meant for a frontend: then it would go astray.
        Parsed::Malformed => Some(
            if node.filter(FilterBit::forward_address(&work.packet.destination)) {
                Verdict::drop(Counter::Malformed)
            } else {
                Verdict::PASS
            },
        ),
    }
}

/// TC ingress, of a pod interface or of an uplink: packets to frontends, and replies to packets that this node sent
/// in its own name.
#[inline(always)]
pub fn ingress<A: Readable, N: FlowStore<A>, B: Bytes>(
    node: &N,
    origin: Origin,
    bytes: &B,
    work: &mut Work<A>,
) -> Verdict {
    if let Some(verdict) = read(node, bytes, work) {
        return verdict;
    }
    let packet = &work.packet;
    let may_be_frontend = choice::may_be_frontend(
        node,
        &packet.destination,
        packet.destination_port,
        packet.protocol,
    );
    if is_snat_port(node, packet.destination_port)
        && node.filter(FilterBit::reverse(
            &packet.source,
            packet.source_port,
            packet.protocol,
        ))
        && let Some(verdict) = reverse::decide(node, work)
    {
        return verdict;
    }
    if !may_be_frontend {
        return Verdict::PASS;
    }
    forward::decide(node, origin, work)
}

/// TC egress of a pod interface: replies to a pod's calls.
#[inline(always)]
pub fn egress_pod<A: Readable, N: FlowStore<A>, B: Bytes>(
    node: &N,
    bytes: &B,
    work: &mut Work<A>,
) -> Verdict {
    match read(node, bytes, work) {
        Some(verdict) => verdict,
        None => replies(node, work),
    }
}

/// TC egress of an uplink: replies of local backends; what the host failed to translate; ports that netfilter took
/// out of our range.
#[inline(always)]
pub fn egress_uplink<A: Readable, N: FlowStore<A>, B: Bytes>(
    node: &N,
    bytes: &B,
    work: &mut Work<A>,
) -> Verdict {
    if let Some(verdict) = read(node, bytes, work) {
        return verdict;
    }
    let packet = &work.packet;
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
        return Verdict::drop(Counter::HostUntranslated);
    }
    let verdict = replies(node, work);
    if verdict == Verdict::PASS
        && is_snat_port(node, work.packet.source_port)
        && node.is_node_address(&work.packet.source)
    {
        create::foreign(node, work);
    }
    verdict
}

#[inline(always)]
fn replies<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> Verdict {
    let packet = &work.packet;
    if !node.filter(FilterBit::reverse(
        &packet.source,
        packet.source_port,
        packet.protocol,
    )) {
        return Verdict::PASS;
    }
    reverse::decide(node, work).unwrap_or_else(|| {
        node.count(Counter::ReverseWithoutFlow);
        Verdict::PASS
    })
}
