//! A packet from a backend to a client.

use crate::layout::{Action, Addr, Direction, FlowTable, state};
use crate::rules::forward::{find_step, note};
use crate::rules::headers::tcp;
use crate::rules::step::{Answered, Promote, Remove};
use crate::rules::{FlowStore, Verdict, Work};

/// Of which flows a hook has the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Of all.
    All,
    /// Of those that go around the stack at the client's own address: the others' come by a hook behind it.
    Bypassed,
}

/// What a packet's reverse entry says; `None` without one. `whose`: only of which flows.
#[inline(always)]
pub(crate) fn decide<A: Addr, N: FlowStore<A>>(
    node: &N,
    work: &mut Work<A>,
    whose: Whose,
) -> Option<Verdict> {
    work.key = work.packet.key(Direction::Reverse);
    let table = find_step(node, work)?;
    if matches!(whose, Whose::Bypassed) && work.flow.action != Action::Bypass as u8 {
        return None;
    }
    let bits = super::state::after(work.flow.meta.state(), Direction::Reverse, &work.packet);
    let is_answer = work.packet.answers();
    if is_answer && table == FlowTable::Flows && super::state::is_closing(work.flow.meta.state()) {
        // A SYN through us would have made this flow anew: the client reached the backend at its own address, from
        // the port of a connection through us that is over.
        node.step(Remove {}, work);
        return None;
    }
    if is_answer && table == FlowTable::Embryos {
        node.step(Answered { bits }, work);
    } else if table == FlowTable::Embryos && knows(work, bits) {
        let bits = bits | state::ESTABLISHED;
        node.step(Promote { bits }, work);
    } else {
        note(node, work, table, bits);
    }
    Some(work.verdict())
}

/// Whether the backend shows that it has the connection which was joined: it would answer a stranger by a reset. Its client
/// has proven itself to it long ago.
#[inline(always)]
fn knows<A: Addr>(work: &Work<A>, bits: u8) -> bool {
    bits & (state::JOINED | state::RESET) == state::JOINED
        && work.packet.tcp_flags & (tcp::ACK | tcp::RST) == tcp::ACK
}

/// A SYN-ACK or INIT ACK: the forward embryo learns which acknowledgement will prove the client.
#[inline(always)]
pub(crate) fn answered<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>, bits: u8) {
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
