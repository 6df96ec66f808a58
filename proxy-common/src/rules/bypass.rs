//! Flows that go around the stack with the client's own address (`--host-routing fast`).
//!
//! A flow says for both directions how it goes, so that what is made either way stays so. One is made to go around only if our
//! programs will see its answers where they come in.

use crate::layout::{Action, Addr, Flow, Via};
use crate::rules::{FlowStore, Origin, Work, create};

/// Lets a flow that would go through the stack go around it, if it can in both directions: what is for the backend by an
/// interface that leads there, and what comes from it because it comes by our programs. What another node handed on, and what
/// began before, is the stack's.
#[inline(always)]
pub(crate) fn go_around<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>, origin: Origin) {
    if work.is_taken_over || !create::may_begin(&work.packet) {
        return;
    }
    let Some(backend) = node.backend(work.flow.backend) else {
        return;
    };
    let place = match (backend.is_local(), origin) {
        (true, _) => Origin::Pod,
        (false, Origin::Pod) if backend.is_pod() => Origin::Network,
        (false, _) => return,
    };
    if !node.leads_to(&work.flow.destination, place) {
        return;
    }
    work.flow.action = Action::Bypass as u8;
    if matches!(origin, Origin::Network) {
        work.flow.via = Via::new(node.came_in_by());
    }
}

/// Whether the entry is the same flow's, made when flows like it went the other way: through the stack, or around it. Its forward
/// entry is lost, and the new one says how both directions go from now on.
#[inline(always)]
pub(crate) fn goes_another_way<A: Addr>(entry: &Flow<A>, new: &Flow<A>) -> bool {
    entry.source == new.source
        && entry.source_port == new.source_port
        && entry.action != new.action
        && keeps_the_source(entry.action)
        && keeps_the_source(new.action)
}

/// Whether packets of a flow go on with the client's own address, to a backend that this node's own programs answer for.
#[inline(always)]
pub(crate) const fn keeps_the_source(action: u8) -> bool {
    action == Action::Stack as u8 || action == Action::Bypass as u8
}

#[cfg(test)]
mod tests;
