//! What most packets of Services are: whole, of a flow that is established, and nothing about it is new. Such a packet changes no
//! table, and its flow alone says what becomes of it.
//!
//! These rules are the ones of [`super::hook`] where they apply, and for nothing else but speed: they say nothing wherever
//! anything more than one flow would have to be looked at.

use crate::layout::{Action, Addr, Direction, FilterBit, Flow, FlowTable, protocol, state};
use crate::rules::headers::tcp;
use crate::rules::hook::in_snat_range;
use crate::rules::{FlowStore, Headers, lifetime, vip};

/// TC ingress: copies the flow of a packet that may be to a frontend, is to a port of the SNAT range, or may be a reply that goes
/// around the stack; and gives its direction. `None`: [`super::hook::ingress`] must decide.
#[inline(always)]
pub fn ingress<A: Addr, N: FlowStore<A>>(
    node: &N,
    packet: &Headers<A>,
    may_be_frontend: bool,
    flow: &mut Flow<A>,
) -> Option<Direction> {
    let is_snat = in_snat_range(node.config(), packet.destination_port);
    if (is_snat || node.config().has_bypassed())
        && node.filter(FilterBit::reverse(
            &packet.source,
            packet.source_port,
            packet.protocol,
        ))
    {
        let is_ours = is_snat && node.is_node_address(&packet.destination);
        if is_ours || node.config().has_bypassed() {
            let is_settled = follows(node, packet, Direction::Reverse, flow);
            let is_whole = is_settled && (is_ours || flow.action == Action::Bypass as u8);
            return is_whole.then_some(Direction::Reverse);
        }
    }
    (may_be_frontend && follows(node, packet, Direction::Forward, flow)).then_some(Direction::Forward)
}

/// TC egress of a pod interface: the same of a packet that [`super::hook::may_be_reply`]. `false`:
/// [`super::hook::egress_pod`] must decide.
#[inline(always)]
pub fn egress_pod<A: Addr, N: FlowStore<A>>(node: &N, packet: &Headers<A>, flow: &mut Flow<A>) -> bool {
    follows(node, packet, Direction::Reverse, flow)
}

/// TC egress of an uplink: the same. `false`: [`super::hook::egress_uplink`] must decide.
#[inline(always)]
pub fn egress_uplink<A: Addr, N: FlowStore<A>>(
    node: &N,
    packet: &Headers<A>,
    turns_back: bool,
    flow: &mut Flow<A>,
) -> bool {
    !node.filter(FilterBit::forward(
        &packet.destination,
        packet.destination_port,
        packet.protocol,
    )) && !vip::may_be(node, &packet.destination, turns_back)
        && egress_pod(node, packet, flow)
}

/// Whether a packet goes on in its flow and nothing is to be noted; the flow is then copied.
#[inline(always)]
fn follows<A: Addr, N: FlowStore<A>>(
    node: &N,
    packet: &Headers<A>,
    direction: Direction,
    flow: &mut Flow<A>,
) -> bool {
    const SETTLED: u8 = state::REPLIED | state::ESTABLISHED;
    let is_udp = packet.protocol == protocol::UDP;
    if !is_udp && packet.tcp_flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0 {
        return false;
    }
    if !node.flow(FlowTable::Flows, &packet.key(direction), flow)
        || flow.meta.state() != SETTLED
        || flow.action == 0
        || flow.action == Action::Foreign as u8
    {
        return false;
    }
    let age = lifetime::age(flow.meta, node.now());
    if age >= node.config().ticks_per_second || age > lifetime::of(node.config(), packet.protocol, SETTLED) {
        return false;
    }
    // A datagram's client is bound for as long as its backend serves.
    !is_udp
        || matches!(direction, Direction::Reverse)
        || node
            .backend(flow.backend)
            .is_some_and(|backend| backend.life == flow.generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{BackendId, Counter};
    use crate::rules::scene::*;

    /// Whether the short rule alone decided on a packet. That it decides as the long one does, [`Scene`] sees to, here and
    /// in all other tests of the rules.
    fn is_short<A: Spoken>(scene: &mut Scene<A>, at: Hook, packet: Packet<A>) -> bool {
        let is_settled = settled(&scene.node, at, &packet.bytes()).is_some();
        scene.send(at, packet);
        is_settled
    }

    fn a_connection_is_settled_but_for_what_opens_and_ends_it<A: Spoken>() {
        for (backend, at, client) in [
            (LOCAL, Hook::FromPod, POD),
            (LOCAL, Hook::FromNetwork, CLIENT),
            (REMOTE, Hook::FromNetwork, CLIENT),
        ] {
            let mut scene = Scene::<A>::new(&[backend]);
            let (syn, seen) = scene.establish(at, Packet::syn((client, 40000), (LOAD_BALANCER, 80)));
            let data = syn.with_flags(tcp::ACK).with_payload(10);
            // Where a reply to a remote backend's packet comes back to, and where that of a local one leaves by.
            let back = match (backend, at) {
                (REMOTE, _) => Hook::FromNetwork,
                (_, Hook::FromPod) => Hook::ToPod,
                _ => Hook::ToNetwork,
            };
            let reply = seen.turned().with_flags(tcp::ACK).with_payload(10);
            assert!(is_short(&mut scene, at, data), "{backend} {at:?}");
            assert!(is_short(&mut scene, back, reply), "{backend} {back:?}");
            // A second later it is noted again.
            scene.node.advance(SECOND);
            assert!(!is_short(&mut scene, at, data));
            assert!(is_short(&mut scene, at, data));
            for flags in [tcp::SYN, tcp::FIN | tcp::ACK, tcp::RST] {
                assert!(!is_short(&mut scene, at, data.with_flags(flags)), "{flags}");
            }
            // The RST is to be taken back.
            assert!(!is_short(&mut scene, at, data));
        }
    }

    fn a_datagrams_flow_is_settled_while_its_backend_serves<A: Spoken>() {
        let mut scene = Scene::<A>::new(&[LOCAL]);
        let call = Packet::udp((POD, 40000), (CLUSTER_IP, 80));
        let seen = scene.translated(Hook::FromPod, call);
        assert!(!is_short(&mut scene, Hook::FromPod, call), "an embryo");
        scene.send(Hook::ToPod, seen.turned());
        scene.send(Hook::FromPod, call);
        assert!(is_short(&mut scene, Hook::FromPod, call));
        assert!(is_short(&mut scene, Hook::ToPod, seen.turned()));
        let id: BackendId = Scene::<A>::id(protocol::UDP, 1);
        scene.node.kill_backend(id);
        assert!(!is_short(&mut scene, Hook::FromPod, call));
        assert_eq!(scene.counted(Counter::UdpRebalanced), 1);
    }

    in_both_families!(
        a_connection_is_settled_but_for_what_opens_and_ends_it,
        a_datagrams_flow_is_settled_while_its_backend_serves,
    );
}
