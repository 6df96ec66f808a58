//! What is to be done with a packet.

use crate::layout::{Action, Addr, Counter, Flow, Port};

/// Where a packet comes from, as the policies see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a pod of this node.
    Pod,
    /// From the network.
    Network,
}

/// A packet's new tuple, and how it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation<A> {
    /// New source address.
    pub source: A,
    /// New destination address.
    pub destination: A,
    /// New source port.
    pub source_port: Port,
    /// New destination port.
    pub destination_port: Port,
    /// How it goes on; never [`Action::Foreign`].
    pub action: Action,
}

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<A> {
    /// Pass it on as it is.
    Pass,
    /// Rewrite it and send it on.
    Translate(Translation<A>),
    /// Answer with a TCP RST or an ICMP port unreachable, and drop it.
    Reject(Counter),
    /// Drop it.
    Drop(Counter),
}

impl<A: Addr> Verdict<A> {
    /// The verdict of a flow's entry; an entry without a known action passes the packet.
    #[inline(always)]
    pub(crate) fn of(flow: &Flow<A>) -> Self {
        match Action::from_byte(flow.action) {
            None | Some(Action::Foreign) => Self::Pass,
            Some(action) => Self::Translate(Translation {
                source: flow.source,
                destination: flow.destination,
                source_port: flow.source_port,
                destination_port: flow.destination_port,
                action,
            }),
        }
    }
}
