//! ICMP errors: they belong to the flow of the packet that they quote (RFC 5508).
//!
//! An error runs against the packet that it quotes, beside the packets of the flow's other direction. So it is treated as
//! one of them: its tuple is the quoted one reversed; that finds the same entry at the same hook, and the error goes on the
//! same way. The flow itself notices nothing, because anyone can send an error: it is not refreshed, promoted or ended.

use crate::layout::{Action, Addr, Counter, Direction, FilterBit, Port};
use crate::rules::forward::find_step;
use crate::rules::headers::{Bytes, Fragment, Parsed, Readable};
use crate::rules::hook::in_snat_range;
use crate::rules::step::Quoted;
use crate::rules::vip::Place;
use crate::rules::{FlowStore, Headers, Verdict, Work, choice};

/// Bytes of an ICMP or ICMPv6 header, behind which the quoted packet begins.
const ICMP_HEADER: u32 = 8;

/// What the rules know of an ICMP error beside the packet that it quotes, whose reversed tuple stands in
/// [`Work::packet`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quote<A> {
    /// The error's own source: the far end, or a router on the way to it.
    pub sender: A,
    /// Offset of the quoted network header from the error's network header.
    pub offset: u32,
}

/// The quoted packet's bytes, which end where the error ends.
struct Inside<'a, B> {
    bytes: &'a B,
    offset: u32,
    length: u32,
}

impl<B: Bytes> Bytes for Inside<'_, B> {
    #[inline(always)]
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        if offset.wrapping_add(N as u32 * 4) > self.length {
            return None;
        }
        self.bytes.copied(self.offset.wrapping_add(offset))
    }
    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }
}

/// Which of a hook's questions apply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// TC ingress: calls to frontends, and replies to the node's own names.
    Ingress,
    /// TC egress: replies.
    Egress,
}

/// What is to be done with an ICMP error, whose own headers have been read.
#[inline(always)]
pub(crate) fn decide<A: Readable, N: FlowStore<A>, B: Bytes>(
    node: &N,
    bytes: &B,
    place: Place,
    work: &mut Work<A>,
) -> Verdict {
    if bytes.read_quoted(work) && node.step(Quoted { place }, work) != 0 {
        node.count(Counter::ErrorTranslated);
        return Verdict::of_error(work.flow.action);
    }
    Verdict::PASS
}

/// Whether the packet that an error quotes is of a flow of ours.
#[inline(always)]
pub(crate) fn is_ours<A: Addr, N: FlowStore<A>>(node: &N, side: Side, work: &mut Work<A>) -> bool {
    if work.packet.fragment == Fragment::Later {
        // Without ports nobody knows whose it is. Its first fragment was as large and met the same fate.
        let packet = &work.packet;
        if node.filter(FilterBit::forward_address(&packet.destination))
            || node.filter(FilterBit::reverse_address(&packet.source))
        {
            node.count(Counter::ErrorWithoutPorts);
        }
        return false;
    }
    let is_ingress = matches!(side, Side::Ingress);
    let is_to_us = is_ingress && is_to_us(node, work);
    let may_be_reply = !is_ingress || is_to_us || node.config().has_bypassed();
    let is_found = may_be_reply && is_reply(node, work) && {
        let action = work.flow.action;
        // Where packets come in, the others' are the egress hook's; there the other direction of a redirected flow never comes by.
        is_to_us || action == Action::Bypass as u8 || !is_ingress && action == Action::Stack as u8
    };
    (is_found || is_ingress && is_call(node, work)) && work.flow.action != Action::Foreign as u8
}

/// Puts the quoted packet's reversed tuple in the place of the error's headers; `false` if it quotes nothing of ours, or
/// a packet that the error's receiver did not send.
#[inline(always)]
pub fn look_inside<A: Readable, B: Bytes>(bytes: &B, work: &mut Work<A>) -> bool {
    let Headers {
        source: sender,
        destination: receiver,
        hop_limit,
        length,
        transport,
        ..
    } = work.packet;
    let offset = transport.wrapping_add(ICMP_HEADER);
    let inside = Inside {
        bytes,
        offset,
        length: length.saturating_sub(offset),
    };
    if A::parse_quoted(&inside, &mut work.packet) != Parsed::Transport {
        return false;
    }
    let packet = &mut work.packet;
    if packet.source != receiver {
        return false;
    }
    (packet.source, packet.destination) = (packet.destination, packet.source);
    (packet.source_port, packet.destination_port) = (packet.destination_port, packet.source_port);
    packet.transport = packet.transport.wrapping_add(offset);
    packet.hop_limit = hop_limit;
    packet.length = length;
    work.quote = Quote { sender, offset };
    true
}

/// Whether an error is about a packet that this node may have sent in its own name.
#[inline(always)]
fn is_to_us<A: Addr, N: FlowStore<A>>(node: &N, work: &Work<A>) -> bool {
    in_snat_range(node.config(), work.packet.destination_port)
        && node.is_node_address(&work.packet.destination)
}

/// An error about a packet to a backend.
#[inline(always)]
fn is_reply<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> bool {
    let packet = &work.packet;
    node.filter(FilterBit::reverse(
        &packet.source,
        packet.source_port,
        packet.protocol,
    )) && has_flow(node, Direction::Reverse, work)
}

/// An error about a reply of a frontend.
#[inline(always)]
fn is_call<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> bool {
    let packet = &work.packet;
    choice::may_be_frontend(
        node,
        &packet.destination,
        packet.destination_port,
        packet.protocol,
    ) && has_flow(node, Direction::Forward, work)
}

#[inline(always)]
fn has_flow<A: Addr, N: FlowStore<A>>(node: &N, direction: Direction, work: &mut Work<A>) -> bool {
    work.key = work.packet.key(direction);
    find_step(node, work).is_some()
}

/// What an ICMP error says of addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said<'a, A> {
    /// The error's source and destination.
    pub outer: (&'a A, &'a A),
    /// The quoted packet's source and destination.
    pub addresses: (&'a A, &'a A),
    /// The quoted packet's source and destination port.
    pub ports: (Port, Port),
}

impl<A: Addr> Work<A> {
    /// What an error says before its translation.
    #[inline(always)]
    pub fn error_before(&self) -> Said<'_, A> {
        let packet = &self.packet;
        Said {
            outer: (&self.quote.sender, &packet.destination),
            addresses: (&packet.destination, &packet.source),
            ports: (packet.destination_port, packet.source_port),
        }
    }

    /// What it says then. Its source becomes what the far end is called on this side if the far end sent it, so that no
    /// backend's address leaks. A router's address is kept where the packet that it is about kept its client's, and is hidden where this node
    /// speaks in its own name: packets that leave by a redirect carry an address of ours, which is what the next network
    /// expects of us.
    #[inline(always)]
    pub fn error_after(&self) -> Said<'_, A> {
        let flow = &self.flow;
        let is_forwarded = flow.action == Action::Stack as u8 || flow.action == Action::Bypass as u8;
        let is_routers = self.quote.sender != self.packet.source && is_forwarded;
        let sender = if is_routers {
            &self.quote.sender
        } else {
            &flow.source
        };
        Said {
            outer: (sender, &flow.destination),
            addresses: (&flow.destination, &flow.source),
            ports: (flow.destination_port, flow.source_port),
        }
    }
}

#[cfg(test)]
mod tests;
