//! A packet from a backend to a client.

use crate::layout::{Addr, Direction, FlowTable};
use crate::rules::forward::{find, note, remove_pair};
use crate::rules::{FlowStore, Verdict, Work};

/// What a packet's reverse entry says; `None` without one.
#[inline(always)]
pub(crate) fn decide<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> Option<Verdict> {
    work.key = work.packet.key(Direction::Reverse);
    let table = find(node, work)?;
    let bits = super::state::after(work.flow.meta.state(), Direction::Reverse, &work.packet);
    let is_answer = work.packet.answers();
    if is_answer && table == FlowTable::Flows && super::state::is_closing(work.flow.meta.state()) {
        // A SYN through us would have made this flow anew: the client reached the backend at its own address, from
        // the port of a connection through us that is over.
        remove_pair(node, work);
        return None;
    }
    if is_answer && table == FlowTable::Embryos {
        answered(node, work, bits);
    } else {
        note(node, work, table, bits);
    }
    Some(work.verdict())
}

/// A SYN-ACK or INIT ACK: the forward embryo learns which acknowledgement will prove the client.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn answered<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>, bits: u8) {
    let now = node.now();
    let meta = work.flow.meta;
    node.exchange_meta(FlowTable::Embryos, &work.key, meta, meta.with(bits, now));
    if work.flow.backend.0 == 0 {
        // A foreign tuple has no partner.
        return;
    }
    work.derive_partner();
    work.other.meta = work.other.meta.with(bits, now);
    work.other.expected_acknowledgement = work.packet.proof();
    // Without room the flow stays an embryo: nothing is lost but its place of safety.
    let _stored = node.put_flow(FlowTable::Embryos, &work.partner, &work.other);
}

#[cfg(test)]
mod tests;
