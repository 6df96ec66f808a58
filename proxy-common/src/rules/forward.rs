//! A packet from a client to a frontend.

use crate::layout::{Action, Addr, Counter, Direction, Flow, FlowKey, FlowTable, protocol, state};
use crate::rules::headers::tcp;
use crate::rules::step::{Create, Find, Number, Promote, Refresh, Remove};
use crate::rules::{FlowStore, Headers, Origin, Verdict, Work, dsr, lifetime, load};

/// How far behind the SYN-ACK's number the client's acknowledgement may be: the first ACK can be lost, and the
/// next one acknowledges data as well. A forger hits the window once in 65,536 guesses.
const ACKNOWLEDGEMENT_WINDOW: u32 = 1 << 16;

impl<A: Addr> Headers<A> {
    /// The key under which this packet's flow stands.
    #[inline(always)]
    pub fn key(&self, direction: Direction) -> FlowKey<A> {
        FlowKey {
            source: self.source,
            destination: self.destination,
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: self.protocol,
            direction: direction as u8,
            pad: 0,
        }
    }
}

/// Reads a flow that is alive: an expired entry does not exist.
#[inline(always)]
pub(crate) fn live<A: Addr, N: FlowStore<A>>(
    node: &N,
    table: FlowTable,
    key: &FlowKey<A>,
    into: &mut Flow<A>,
) -> bool {
    node.flow(table, key, into) && !lifetime::expired(node.config(), key.protocol, into.meta, node.now())
}

/// Looks the work's key up in both tables, and then once more in FLOWS: another CPU may have promoted the flow between
/// the two look-ups.
#[inline(always)]
pub(crate) fn find<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> Option<FlowTable> {
    let tables = [FlowTable::Flows, FlowTable::Embryos, FlowTable::Flows];
    tables
        .into_iter()
        .find(|table| live(node, *table, &work.key, &mut work.flow))
}

/// [`find`] as a step.
#[inline(always)]
pub(crate) fn find_step<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> Option<FlowTable> {
    let table = node.step(Find {}, work).checked_sub(1)?;
    Some(FlowTable::of_number(table))
}

/// What is to be done with a packet to a destination that may be a frontend.
#[inline(always)]
pub(crate) fn decide<A: Addr, N: FlowStore<A>>(node: &N, origin: Origin, work: &mut Work<A>) -> Verdict {
    work.key = work.packet.key(Direction::Forward);
    if let Some(table) = find_step(node, work) {
        if holds(node, work) && dsr::may_follow(origin, work) {
            follow(node, work, table);
            return work.verdict();
        }
        if work.packet.protocol == protocol::UDP {
            node.count(Counter::UdpRebalanced);
        }
        node.step(Remove {}, work);
    }
    Verdict::of_number(node.step(Create { origin }, work))
}

/// Whether a flow still binds this packet. TCP: a SYN on a closing flow, or towards a dead backend, starts anew, and so
/// does SCTP's INIT, unless its client only [refused](super::state::is_refused) what answered its opening; all else follows the entry, because
/// a connection belongs to its endpoint until it ends. UDP: as long as the backend serves.
#[inline(always)]
pub(crate) fn holds<A: Addr, N: FlowStore<A>>(node: &N, work: &Work<A>) -> bool {
    if work.packet.protocol != protocol::UDP {
        if !work.packet.opens() {
            return true;
        }
        let bits = work.flow.meta.state();
        if super::state::is_closing(bits) && !super::state::is_refused(bits) {
            return false;
        }
    }
    node.backend(work.flow.backend)
        .is_some_and(|backend| backend.life == work.flow.generation)
}

/// Notes what the packet does to its flow.
#[inline(always)]
pub(crate) fn follow<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>, table: FlowTable) {
    let before = work.flow.meta.state();
    let bits = if work.flow.action == Action::Encapsulate as u8 {
        dsr::after(
            super::state::after(before, Direction::Forward, &work.packet),
            &work.packet,
        )
    } else {
        super::state::after_call(before, &work.packet)
    };
    if table == FlowTable::Embryos && proves(work) {
        let bits = bits | state::ESTABLISHED;
        node.step(Promote { bits }, work);
        return;
    }
    note(node, work, table, bits);
}

/// Whether the packet proves that its sender receives the backend's replies.
#[inline(always)]
fn proves<A: Addr>(work: &Work<A>) -> bool {
    let Work { packet, flow, .. } = work;
    if flow.meta.state() & state::REPLIED == 0 {
        return false;
    }
    let window = match packet.protocol {
        protocol::TCP => ACKNOWLEDGEMENT_WINDOW,
        // A verification tag fits or does not.
        protocol::SCTP => 1,
        _ => return true,
    };
    packet.tcp_flags & (tcp::ACK | tcp::SYN | tcp::RST) == tcp::ACK
        && packet.acknowledgement.wrapping_sub(flow.expected_acknowledgement) < window
}

/// Writes a flow's new state and time, and its partner's, if the state changed or a second has passed.
#[inline(always)]
pub(crate) fn note<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>, table: FlowTable, bits: u8) {
    let meta = work.flow.meta;
    if bits != meta.state() || lifetime::age(meta, node.now()) >= node.config().ticks_per_second {
        node.step(Refresh { table, bits }, work);
    }
}

#[inline(always)]
pub(crate) fn refresh<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>, table: FlowTable, bits: u8) {
    let now = node.now();
    let meta = work.flow.meta;
    let is_noted = node.exchange_meta(table, &work.key, meta, meta.with(bits, now));
    if work.flow.backend.0 == 0 {
        // A foreign tuple has no partner.
        return;
    }
    if is_noted {
        load::change(node, &work.flow, bits);
    }
    if work.flow.action == Action::Encapsulate as u8 {
        // Nor has what never comes back by here.
        return;
    }
    work.derive_partner();
    if node.flow(table, &work.partner, &mut work.spare) && work.spare.same_tuple(&work.other) {
        let meta = work.spare.meta;
        node.exchange_meta(table, &work.partner, meta, meta.with(bits, now));
        return;
    }
    // It was lost, and another flow may have taken the key since.
    if is_taken(node, &work.partner, &work.other, &mut work.spare) {
        return;
    }
    node.remove_flow(table, &work.partner);
    work.other.meta = work.other.meta.with(bits, now);
    if node.insert_flow(table, &work.partner, &work.other) {
        node.count(Counter::PartnerRestored);
    }
}

/// Whether a live entry of another translation stands under a key, in either table.
#[inline(always)]
fn is_taken<A: Addr, N: FlowStore<A>>(node: &N, key: &FlowKey<A>, flow: &Flow<A>, old: &mut Flow<A>) -> bool {
    let tables = [FlowTable::Flows, FlowTable::Embryos];
    tables
        .into_iter()
        .any(|table| live(node, table, key, old) && !old.same_tuple(flow))
}

/// Moves a flow from EMBRYOS to FLOWS, by the entry of the packet's direction: the other's first; the embryos go last, so that
/// no packet finds nothing.
#[inline(always)]
pub(crate) fn promote<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>, bits: u8) {
    load::change(node, &work.flow, bits);
    work.flow.meta = work.flow.meta.with(bits, node.now());
    work.derive_partner();
    if is_taken(node, &work.partner, &work.other, &mut work.spare) {
        node.count(Counter::ReverseCollision);
        return;
    }
    if !settle(node, &work.partner, &work.other, &mut work.spare)
        || !settle(node, &work.key, &work.flow, &mut work.spare)
    {
        return;
    }
    node.remove_flow(FlowTable::Embryos, &work.key);
    node.remove_flow(FlowTable::Embryos, &work.partner);
    node.count(Counter::FlowPromoted);
}

/// Inserts an entry into FLOWS; an expired one, or one of the same translation, gives way.
#[inline(always)]
fn settle<A: Addr, N: FlowStore<A>>(node: &N, key: &FlowKey<A>, flow: &Flow<A>, old: &mut Flow<A>) -> bool {
    if node.insert_flow(FlowTable::Flows, key, flow) {
        return true;
    }
    if live(node, FlowTable::Flows, key, old) && !old.same_tuple(flow) {
        node.count(Counter::ReverseCollision);
        return false;
    }
    node.put_flow(FlowTable::Flows, key, flow)
}

/// Removes a flow, both entries, from both tables: forward first, so that nobody follows it any more. What another flow
/// has under the partner's key stays.
#[inline(always)]
pub(crate) fn remove_pair<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) {
    load::end(node, &work.flow);
    work.derive_partner();
    for table in [FlowTable::Flows, FlowTable::Embryos] {
        node.remove_flow(table, &work.key);
        if node.flow(table, &work.partner, &mut work.spare) && work.spare.same_tuple(&work.other) {
            node.remove_flow(table, &work.partner);
        }
    }
}

#[cfg(test)]
mod tests;
