//! How many connections a backend has: what the rule of least connections compares.
//!
//! A flow counts from when it is made until it closes. What expires or is pushed out of a full table is not seen here: the
//! agent counts the tables anew each time that it sweeps them.

use crate::layout::{Addr, Flow};
use crate::rules::{FlowStore, state};

/// A flow was made.
#[inline(always)]
pub(crate) fn begin<A: Addr, N: FlowStore<A>>(node: &N, flow: &Flow<A>) {
    if counts(flow.meta.state()) {
        node.add_load(flow.backend, 1);
    }
}

/// A flow as it was gets another state: it may close, or data take that back.
#[inline(always)]
pub(crate) fn change<A: Addr, N: FlowStore<A>>(node: &N, flow: &Flow<A>, bits: u8) {
    match (counts(flow.meta.state()), counts(bits)) {
        (true, false) => node.add_load(flow.backend, -1),
        (false, true) => node.add_load(flow.backend, 1),
        _ => (),
    }
}

/// A flow is taken away.
#[inline(always)]
pub(crate) fn end<A: Addr, N: FlowStore<A>>(node: &N, flow: &Flow<A>) {
    if counts(flow.meta.state()) {
        node.add_load(flow.backend, -1);
    }
}

/// Whether a flow in this state is a connection that its backend has.
#[inline(always)]
pub const fn counts(bits: u8) -> bool {
    !state::is_closing(bits)
}

#[cfg(test)]
mod tests;
