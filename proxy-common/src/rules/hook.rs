//! What each hook on an interface does with a packet.

use crate::layout::{Addr, Config, Counter, FilterBit, FrontendKind, Port};
use crate::rules::headers::{Bytes, Fragment, Glance, Parsed, Readable};
use crate::rules::quote;
use crate::rules::reverse::Whose;
use crate::rules::step::{Foreign, Message, Number};
use crate::rules::vip::Place;
use crate::rules::{
    Directory, FlowStore, Headers, Origin, Verdict, Work, choice, forward, fragment, reverse, vip,
};

/// Whether a port is of the SNAT range.
#[inline(always)]
pub fn in_snat_range(config: &Config, port: Port) -> bool {
    port.number().wrapping_sub(config.snat_first) < config.snat_count
}

/// Whether the prefilter alone says that a packet concerns no Service: most packets, for a few nanoseconds.
#[inline(always)]
pub fn ingress_ignores<A: Readable, D: Directory<A>, B: Bytes>(node: &D, config: &Config, bytes: &B) -> bool {
    match A::glance(bytes) {
        Some(packet) => {
            !may_be_frontend(node, &packet)
                && !in_snat_range(config, packet.destination_port)
                && !may_be_bypassed(node, config, &packet)
        }
        None => false,
    }
}

/// Whether a packet that was glanced at may be to a frontend.
#[inline(always)]
pub fn may_be_frontend<A: Addr, D: Directory<A>>(node: &D, packet: &Glance<A>) -> bool {
    choice::may_be_frontend(
        node,
        &packet.destination,
        packet.destination_port,
        packet.protocol,
    )
}

/// Whether a packet that was glanced at may come from a backend.
#[inline(always)]
pub fn may_be_reply<A: Addr, D: Directory<A>>(node: &D, packet: &Glance<A>) -> bool {
    node.filter(FilterBit::reverse(
        &packet.source,
        packet.source_port,
        packet.protocol,
    ))
}

/// Whether a packet that comes in and was glanced at may be a reply that goes around the stack.
#[inline(always)]
pub fn may_be_bypassed<A: Addr, D: Directory<A>>(node: &D, config: &Config, packet: &Glance<A>) -> bool {
    config.has_bypassed() && may_be_reply(node, packet)
}

/// [`ingress_ignores`] for packets to a pod.
#[inline(always)]
pub fn egress_pod_ignores<A: Readable, D: Directory<A>, B: Bytes>(node: &D, bytes: &B) -> bool {
    match A::glance(bytes) {
        Some(packet) => !may_be_reply(node, &packet),
        None => false,
    }
}

/// [`ingress_ignores`] for packets out of an uplink.
#[inline(always)]
pub fn egress_uplink_ignores<A: Readable, D: Directory<A>, B: Bytes>(
    node: &D,
    config: &Config,
    bytes: &B,
    turns_back: bool,
) -> bool {
    match A::glance(bytes) {
        Some(packet) => !may_be_reply(node, &packet) && !leaves_wrongly(node, config, &packet, turns_back),
        None => false,
    }
}

/// Whether a packet that leaves by an uplink, and is no reply, must be looked at: nobody may have translated it, or it has a
/// port of our range.
#[inline(always)]
pub fn leaves_wrongly<A: Addr, D: Directory<A>>(
    node: &D,
    config: &Config,
    packet: &Glance<A>,
    turns_back: bool,
) -> bool {
    node.filter(FilterBit::forward(
        &packet.destination,
        packet.destination_port,
        packet.protocol,
    )) || in_snat_range(config, packet.source_port)
        || vip::may_be(node, &packet.destination, turns_back)
}

/// Not inlined: what it finds out would stay in registers, in so many ways that the verifier follows each of them to the
/// end.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(crate) fn parse<A: Readable, B: Bytes>(bytes: &B, packet: &mut Headers<A>) -> Parsed {
    A::parse(bytes, packet)
}

/// Reads a packet; a verdict at once where there is nothing to decide.
#[inline(always)]
fn read<A: Readable, N: FlowStore<A>, B: Bytes>(
    node: &N,
    bytes: &B,
    place: Place,
    work: &mut Work<A>,
) -> Option<Verdict> {
    match bytes.read(work) {
        Parsed::Transport => fragment::resolve(node, work),
        Parsed::Error => {
            // What it quotes takes the place of its own addresses.
            let destination = work.packet.destination;
            let verdict = quote::decide(node, bytes, place, work);
            Some(if verdict == Verdict::PASS {
                vip::error(node, place, &destination)
            } else {
                verdict
            })
        }
        Parsed::Message => Some(Verdict::of_number(node.step(Message { place }, work))),
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
    if let Some(verdict) = read(node, bytes, Place::Inwards, work) {
        return verdict;
    }
    inwards(node, origin, work)
}

/// Reads a packet that [`Readable::glance`] can read, as XDP takes it; false if it is not whole after all.
#[inline(always)]
pub fn read_whole<A: Readable, B: Bytes>(bytes: &B, work: &mut Work<A>) -> bool {
    // Inlined: between two functions the compiler may pass the bounds of the packet as numbers of 32 bits, which the verifier
    // does not take for bounds.
    A::parse(bytes, &mut work.packet) == Parsed::Transport && work.packet.fragment == Fragment::Whole
}

/// [`ingress`] of an uplink for what [`read_whole`] has read. Not inlined.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub fn ingress_whole<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> Verdict {
    inwards(node, Origin::Network, work)
}

/// What is to be done with a packet that comes in, whose tuple is known.
#[inline(always)]
fn inwards<A: Addr, N: FlowStore<A>>(node: &N, origin: Origin, work: &mut Work<A>) -> Verdict {
    let packet = &work.packet;
    let may_be_frontend = choice::may_be_frontend(
        node,
        &packet.destination,
        packet.destination_port,
        packet.protocol,
    );
    // Replies to pods come by here as well, and are the egress hook's: only what is for the node itself is ours, and what goes
    // around the stack.
    let is_snat = in_snat_range(node.config(), packet.destination_port);
    let has_bypassed = node.config().has_bypassed();
    if (is_snat || has_bypassed)
        && node.filter(FilterBit::reverse(
            &packet.source,
            packet.source_port,
            packet.protocol,
        ))
    {
        let is_ours = is_snat && node.is_node_address(&packet.destination);
        let whose = if is_ours { Whose::All } else { Whose::Bypassed };
        if (is_ours || has_bypassed)
            && let Some(verdict) = reverse::decide(node, work, whose)
        {
            return verdict;
        }
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
    match read(node, bytes, Place::ToPod, work) {
        Some(verdict) => verdict,
        None => replies(node, work),
    }
}

/// TC egress of an uplink: replies of local backends; what nobody translated; ports that netfilter took out of our
/// range. `turns_back`: the packet came in by this very interface.
#[inline(always)]
pub fn egress_uplink<A: Readable, N: FlowStore<A>, B: Bytes>(
    node: &N,
    bytes: &B,
    work: &mut Work<A>,
    turns_back: bool,
) -> Verdict {
    if let Some(verdict) = read(node, bytes, Place::Outwards { turns_back }, work) {
        return verdict;
    }
    if let Some(verdict) = untranslated(node, work, turns_back) {
        return verdict;
    }
    let verdict = replies(node, work);
    if verdict == Verdict::PASS
        && in_snat_range(node.config(), work.packet.source_port)
        && node.is_node_address(&work.packet.source)
    {
        node.step(Foreign {}, work);
    }
    verdict
}

/// A packet to a Service's address that nobody translated. A cluster address leads nowhere out there; a load balancer's leads
/// back to this node, until the hop limit ends it.
#[inline(always)]
fn untranslated<A: Addr, N: FlowStore<A>>(node: &N, work: &Work<A>, turns_back: bool) -> Option<Verdict> {
    let packet = &work.packet;
    let destination = &packet.destination;
    if node.filter(FilterBit::forward(
        destination,
        packet.destination_port,
        packet.protocol,
    )) && let Some(found) = choice::frontend(node, destination, packet.destination_port, packet.protocol)
    {
        return match found.kind {
            FrontendKind::ClusterIp => Some(Verdict::reject(Counter::HostUntranslated)),
            FrontendKind::LoadBalancer | FrontendKind::GuardedLoadBalancer | FrontendKind::ExternalIp
                if turns_back =>
            {
                Some(Verdict::drop(Counter::TurnedBack))
            }
            _ => None,
        };
    }
    if !vip::may_be(node, destination, turns_back) {
        return None;
    }
    let verdict = vip::leaves(node, destination, turns_back);
    (verdict != Verdict::PASS).then_some(verdict)
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
    reverse::decide(node, work, Whose::All).unwrap_or_else(|| {
        node.count(Counter::ReverseWithoutFlow);
        Verdict::PASS
    })
}

#[cfg(test)]
mod tests;
