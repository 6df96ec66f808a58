//! A packet from a client to a frontend.

use crate::layout::{Addr, Counter, Direction, Flow, FlowKey, FlowTable, protocol, state};
use crate::rules::create::{self, NewFlow};
use crate::rules::{FlowStore, Headers, Origin, Verdict, lifetime};

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

/// Looks a live flow up, in both tables.
#[inline(always)]
pub(crate) fn find<A: Addr, N: FlowStore<A>>(node: &N, key: &FlowKey<A>) -> Option<(Flow<A>, FlowTable)> {
    let live = |flow: &Flow<A>| !lifetime::expired(node.config(), key.protocol, flow.meta, node.now());
    if let Some(flow) = node.flow(FlowTable::Flows, key)
        && live(&flow)
    {
        return Some((flow, FlowTable::Flows));
    }
    if let Some(flow) = node.flow(FlowTable::Embryos, key)
        && live(&flow)
    {
        return Some((flow, FlowTable::Embryos));
    }
    None
}

/// What is to be done with a packet to a destination that may be a frontend.
#[inline(always)]
pub(crate) fn decide<A: Addr, N: FlowStore<A>>(node: &N, origin: Origin, packet: &Headers<A>) -> Verdict<A> {
    let key = packet.key(Direction::Forward);
    if let Some((flow, table)) = find(node, &key) {
        if holds(node, packet, &flow) {
            follow(node, packet, &key, &flow, table);
            return Verdict::of(&flow);
        }
        if packet.protocol == protocol::UDP {
            node.count(Counter::UdpRebalanced);
        }
        remove_pair(node, &key, &flow);
    } else if let Some(flow) = node.flow(FlowTable::Flows, &key)
        && !lifetime::expired(node.config(), key.protocol, flow.meta, node.now())
    {
        // Promoted by another CPU between the two look-ups.
        return Verdict::of(&flow);
    }
    create::decide(node, origin, packet, &NewFlow { key })
}

/// Whether a flow still binds this packet. TCP: a SYN on a closing flow, or towards a dead backend, starts anew; all
/// else follows the entry, because a connection belongs to its endpoint until it ends. UDP: as long as the backend
/// serves.
#[inline(always)]
fn holds<A: Addr, N: FlowStore<A>>(node: &N, packet: &Headers<A>, flow: &Flow<A>) -> bool {
    if packet.protocol == protocol::TCP && !packet.opens() {
        return true;
    }
    if packet.protocol == protocol::TCP && super::state::is_closing(flow.meta.state()) {
        return false;
    }
    if flow.backend.0 == 0 {
        // A foreign tuple has no backend of ours.
        return true;
    }
    node.backend(flow.backend)
        .is_some_and(|backend| backend.life == flow.generation)
}

/// Notes what the packet does to its flow.
#[inline(always)]
fn follow<A: Addr, N: FlowStore<A>>(
    node: &N,
    packet: &Headers<A>,
    key: &FlowKey<A>,
    flow: &Flow<A>,
    table: FlowTable,
) {
    let bits = super::state::after(flow.meta.state(), Direction::Forward, packet);
    if table == FlowTable::Embryos && proves(packet, flow) {
        promote(node, key, flow, bits | state::ESTABLISHED);
        return;
    }
    note(node, key, flow, table, bits);
}

/// Whether the packet proves that its sender receives the backend's replies.
#[inline(always)]
fn proves<A: Addr>(packet: &Headers<A>, flow: &Flow<A>) -> bool {
    if flow.meta.state() & state::REPLIED == 0 {
        return false;
    }
    if packet.protocol != protocol::TCP {
        return true;
    }
    use super::headers::tcp;
    packet.tcp_flags & (tcp::ACK | tcp::SYN | tcp::RST) == tcp::ACK
        && packet.acknowledgement.wrapping_sub(flow.expected_acknowledgement) < ACKNOWLEDGEMENT_WINDOW
}

/// Writes a flow's new state and time, and its partner's, if the state changed or a second has passed.
#[inline(always)]
pub(crate) fn note<A: Addr, N: FlowStore<A>>(
    node: &N,
    key: &FlowKey<A>,
    flow: &Flow<A>,
    table: FlowTable,
    bits: u8,
) {
    let now = node.now();
    if bits == flow.meta.state() && lifetime::age(flow.meta, now) < node.config().ticks_per_second {
        return;
    }
    refresh(node, key, flow, table, bits);
}

#[cfg_attr(target_arch = "bpf", inline(never))]
fn refresh<A: Addr, N: FlowStore<A>>(node: &N, key: &FlowKey<A>, flow: &Flow<A>, table: FlowTable, bits: u8) {
    let now = node.now();
    node.exchange_meta(table, key, flow.meta, flow.meta.with(bits, now));
    let partner = key.partner(flow);
    match node.flow(table, &partner) {
        Some(other) => {
            node.exchange_meta(table, &partner, other.meta, other.meta.with(bits, now));
        }
        None => {
            let mut other = key.partner_flow(flow, &partner);
            other.meta = other.meta.with(bits, now);
            if flow.backend.0 != 0 && node.insert_flow(table, &partner, &other) {
                node.count(Counter::PartnerRestored);
            }
        }
    }
}

/// Moves a flow from EMBRYOS to FLOWS: reverse first, the embryos go last, so that no packet finds nothing.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn promote<A: Addr, N: FlowStore<A>>(node: &N, key: &FlowKey<A>, flow: &Flow<A>, bits: u8) {
    let mut flow = *flow;
    flow.meta = flow.meta.with(bits, node.now());
    let partner = key.partner(&flow);
    let other = key.partner_flow(&flow, &partner);
    if !settle(node, &partner, &other) || !settle(node, key, &flow) {
        return;
    }
    node.remove_flow(FlowTable::Embryos, key);
    node.remove_flow(FlowTable::Embryos, &partner);
    node.count(Counter::FlowPromoted);
}

/// Inserts an entry into FLOWS; an expired one, or one of the same translation, gives way.
#[inline(always)]
fn settle<A: Addr, N: FlowStore<A>>(node: &N, key: &FlowKey<A>, flow: &Flow<A>) -> bool {
    if node.insert_flow(FlowTable::Flows, key, flow) {
        return true;
    }
    if let Some(old) = node.flow(FlowTable::Flows, key)
        && !lifetime::expired(node.config(), key.protocol, old.meta, node.now())
        && key.partner(&old) != key.partner(flow)
    {
        node.count(Counter::ReverseCollision);
        return false;
    }
    node.put_flow(FlowTable::Flows, key, flow)
}

/// Removes a flow, both entries, from both tables: forward first, so that nobody follows it any more.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn remove_pair<A: Addr, N: FlowStore<A>>(node: &N, key: &FlowKey<A>, flow: &Flow<A>) {
    let partner = key.partner(flow);
    node.remove_flow(FlowTable::Flows, key);
    node.remove_flow(FlowTable::Embryos, key);
    node.remove_flow(FlowTable::Flows, &partner);
    node.remove_flow(FlowTable::Embryos, &partner);
}
