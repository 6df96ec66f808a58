//! A packet from a backend to a client.

use crate::layout::{Addr, Direction, Flow, FlowKey, FlowTable, protocol, state};
use crate::rules::forward::{find, note};
use crate::rules::{FlowStore, Headers, Verdict, lifetime};

/// What a packet's reverse entry says; `None` without one.
#[inline(always)]
pub(crate) fn decide<A: Addr, N: FlowStore<A>>(node: &N, packet: &Headers<A>) -> Option<Verdict<A>> {
    let key = packet.key(Direction::Reverse);
    let (flow, table) = match find(node, &key) {
        Some(hit) => hit,
        None => {
            // Promoted by another CPU between the two look-ups?
            let flow = node.flow(FlowTable::Flows, &key)?;
            if lifetime::expired(node.config(), key.protocol, flow.meta, node.now()) {
                return None;
            }
            (flow, FlowTable::Flows)
        }
    };
    let bits = super::state::after(flow.meta.state(), Direction::Reverse, packet);
    if table == FlowTable::Embryos && packet.protocol == protocol::TCP && bits & state::REPLIED != 0 {
        answered(node, packet, &key, &flow, bits);
    } else {
        note(node, &key, &flow, table, bits);
    }
    Some(Verdict::of(&flow))
}

/// A SYN-ACK: the forward embryo learns which acknowledgement will prove the client.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn answered<A: Addr, N: FlowStore<A>>(
    node: &N,
    packet: &Headers<A>,
    key: &FlowKey<A>,
    flow: &Flow<A>,
    bits: u8,
) {
    use super::headers::tcp;
    if packet.tcp_flags & (tcp::SYN | tcp::ACK) != tcp::SYN | tcp::ACK {
        note(node, key, flow, FlowTable::Embryos, bits);
        return;
    }
    let now = node.now();
    node.exchange_meta(FlowTable::Embryos, key, flow.meta, flow.meta.with(bits, now));
    let forward = key.partner(flow);
    let mut other = key.partner_flow(flow, &forward);
    other.meta = other.meta.with(bits, now);
    other.expected_acknowledgement = packet.sequence.wrapping_add(1);
    node.put_flow(FlowTable::Embryos, &forward, &other);
}
