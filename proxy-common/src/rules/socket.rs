//! Socket LB: the choice at the system call.

use crate::layout::{
    Addr, Affinity, AffinityKey, Backend, BackendId, CONFIG_PODS_SOCKET_LB, ChoiceRule, Config, Counter,
    FilterBit, FrontendKind, Port, When, no_loopback, protocol,
};
use crate::rules::Directory;
use crate::rules::affinity;
use crate::rules::choice::{self, Caller, Offer};
use crate::rules::client;

/// What is known of the caller's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The cookie of its network namespace.
    pub netns_cookie: u64,
    /// IP protocol number.
    pub protocol: u8,
}

/// What is to be done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Not a frontend, or not ours to translate: the call goes on as it is.
    Untouched,
    /// Refuse it: no endpoint.
    Refuse(Counter),
    /// Use this backend in place of the destination.
    Backend(BackendId, Backend),
}

/// Whether the calls of a socket are translated: in the host's namespace TCP and UDP, in pods TCP, if enabled; a
/// pod's UDP goes by packets, where a flow's generation is checked (rule 10).
#[inline(always)]
pub fn serves(config: &Config, socket: &Socket) -> bool {
    if socket.netns_cookie == config.host_netns_cookie {
        return socket.protocol == protocol::TCP || socket.protocol == protocol::UDP;
    }
    socket.protocol == protocol::TCP && config.flags & CONFIG_PODS_SOCKET_LB != 0
}

/// Chooses a backend for a destination. `is_loopback`: the destination is a loopback address or the unspecified one,
/// which stand for the node itself in the host's namespace only, and are open to it unless
/// [`no_loopback`] says otherwise.
#[inline(always)]
pub fn choose<A: Addr, D: Directory<A>>(
    node: &D,
    config: &Config,
    socket: &Socket,
    address: &A,
    port: Port,
    is_loopback: bool,
) -> Choice {
    let found = if is_loopback {
        if socket.netns_cookie != config.host_netns_cookie
            || config.flags & no_loopback(A::FAMILY) != 0
            || !node.filter(FilterBit::node_port(port, socket.protocol))
        {
            return Choice::Untouched;
        }
        choice::node_port(node, port, socket.protocol)
    } else {
        choice::frontend(node, address, port, socket.protocol)
    };
    let Some(found) = found else {
        return Choice::Untouched;
    };
    if found.kind == FrontendKind::GuardedLoadBalancer {
        if socket.netns_cookie != config.host_netns_cookie {
            // A pod's address is not known here: it is judged by its packets.
            return Choice::Untouched;
        }
        let source = node.primary_address();
        if !source.is_some_and(|source| choice::admits(node, &found, &source)) {
            return Choice::Refuse(Counter::SourceNotAllowed);
        }
    }
    let offer = choice::offer(node, &found, Caller::Node);
    if offer.list.count() == 0 {
        return match offer.list.when_empty() {
            When::Reject => Choice::Refuse(Counter::NoEndpoint),
            When::Drop => Choice::Refuse(Counter::NoLocalEndpoint),
            When::Pass => Choice::Untouched,
        };
    }
    if offer.list.rule() == ChoiceRule::LeastConnections && socket.netns_cookie != config.host_netns_cookie {
        // Where a connection ends is seen by its packets.
        return Choice::Untouched;
    }
    let mut client = AffinityKey::default();
    if offer.affinity.is_on() {
        let Some(known) = client::key::<A, D>(node, config, socket.netns_cookie, found.service) else {
            // Its packets say who it is.
            return Choice::Untouched;
        };
        client = known;
        if let Some(kept) = kept(node, &client, offer) {
            return kept;
        }
    }
    // A backend that was drawn may have stopped serving a moment ago.
    for _ in 0..4 {
        let id = BackendId(choice::draw(node, offer.list));
        let Some(backend) = node.backend(id).filter(Backend::is_alive) else {
            continue;
        };
        if !offer.affinity.is_on() {
            return Choice::Backend(id, backend);
        }
        if let Some(choice) = claimed(node, &client, offer, id, backend) {
            return choice;
        }
    }
    Choice::Refuse(Counter::NoEndpoint)
}

/// The backend that the client keeps.
#[inline(always)]
fn kept<A: Addr, D: Directory<A>>(node: &D, client: &AffinityKey, offer: Offer) -> Option<Choice> {
    serving(node, affinity::recall(node, client, offer.affinity, offer.list))
}

/// The backend that the client keeps from now on: this one, or what another of its calls has got meanwhile.
#[inline(always)]
fn claimed<A: Addr, D: Directory<A>>(
    node: &D,
    client: &AffinityKey,
    offer: Offer,
    drawn: BackendId,
    backend: Backend,
) -> Option<Choice> {
    let tag = client.tag(offer.affinity.epoch());
    let record = Affinity::new(tag, node.now(), drawn, backend.life);
    serving(
        node,
        affinity::claim(node, client, offer.affinity, offer.list, &record),
    )
}

#[inline(always)]
fn serving<A: Addr, D: Directory<A>>(node: &D, id: u32) -> Option<Choice> {
    let backend = node.backend(BackendId(id)).filter(Backend::is_alive)?;
    Some(Choice::Backend(BackendId(id), backend))
}

#[cfg(test)]
mod tests;
