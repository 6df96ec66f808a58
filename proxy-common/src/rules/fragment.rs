//! Fragments: only a datagram's first one carries the ports (RFC 791, RFC 8200 §4.5).
//!
//! TC runs before the stack puts datagrams together, so the first fragment's ports are remembered for the later
//! ones. A later fragment whose first has not been seen can't be judged: if it can't wait, it is dropped where an untranslated
//! one would go astray, and passes where it is none of ours.

use crate::layout::{Addr, Counter, Family, FilterBit, FragmentKey, FragmentPorts};
use crate::rules::headers::Fragment;
use crate::rules::step::Piece;
use crate::rules::{FlowStore, Headers, Verdict, Work, hash};

impl<A: Addr> Headers<A> {
    #[inline(always)]
    fn fragment_key(&self) -> FragmentKey<A> {
        FragmentKey {
            source: self.source,
            destination: self.destination,
            id: self.fragment_id,
            protocol: match A::FAMILY {
                Family::V4 => self.protocol as u32,
                Family::V6 => 0,
            },
        }
    }
}

impl<A: Addr> FragmentKey<A> {
    /// The tag that a value of this key carries, but for its low eight bits.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        let hash = hash::step(self.id as u64, self.protocol as u64);
        self.destination.mix(self.source.mix(hash)) as u32
    }
}

/// Remembers or fills in a fragment's ports; a verdict if it can't be judged.
#[inline(always)]
pub(crate) fn resolve<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> Option<Verdict> {
    if work.packet.fragment == Fragment::Whole {
        return None;
    }
    judged(node.step(Piece { handed_on: false }, work))
}

/// The same of a fragment that was handed on, to wherever: it is none of the stack's.
#[inline(always)]
pub(crate) fn resolve_handed_on<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> Option<Verdict> {
    if work.packet.fragment == Fragment::Whole {
        return None;
    }
    judged(node.step(Piece { handed_on: true }, work))
}

#[inline(always)]
fn judged(piece: u32) -> Option<Verdict> {
    match piece {
        GOES_ON => None,
        PASSES => Some(Verdict::PASS),
        WAITS => Some(Verdict::AWAIT_FIRST),
        _ => Some(Verdict::drop(Counter::FragmentWithoutFirst)),
    }
}

const GOES_ON: u32 = 0;
const PASSES: u32 = 1;
const GOES_NOWHERE: u32 = 2;
const WAITS: u32 = 3;

/// One of the numbers above.
#[inline(always)]
pub(crate) fn piece<A: Addr, N: FlowStore<A>>(node: &N, packet: &mut Headers<A>, handed_on: bool) -> u32 {
    let astray = handed_on
        || node.filter(FilterBit::forward_address(&packet.destination))
        || node.filter(FilterBit::reverse_address(&packet.source));
    if !astray && !node.is_node_address(&packet.destination) {
        return PASSES;
    }
    let key = packet.fragment_key();
    if packet.fragment == Fragment::First {
        let ports = FragmentPorts::new(
            key.tag(),
            packet.source_port,
            packet.destination_port,
            packet.protocol,
        );
        node.put_fragment(&key, &ports);
        return GOES_ON;
    }
    let Some(ports) = node.fragment(&key) else {
        // At an address of the node it may be a NodePort's, or the node's own: then the stack puts the datagram together.
        return if astray { GOES_NOWHERE } else { WAITS };
    };
    packet.protocol = ports.protocol();
    packet.source_port = ports.source;
    packet.destination_port = ports.destination;
    GOES_ON
}

#[cfg(test)]
mod tests;
