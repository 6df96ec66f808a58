//! By what name a socket's client is known to session affinity.
//!
//! A socket has no address yet when it calls connect(). The host, whose sockets are socket LB's alone, is its network
//! namespace. A pod's calls may also go by packets, which carry its address, so that is its name; until it is known, its
//! calls to frontends with affinity go by packets, and the first of them makes it known.

use crate::layout::{
    Addr, AffinityKey, CONFIG_PODS_SOCKET_LB, Config, NamespaceAddress, NamespaceKey, Port, ServiceId,
    protocol,
};
use crate::rules::{Directory, choice, lifetime};

/// Seconds for which an address is taken for a namespace's: it may get another one.
pub const BELIEVED: u32 = 3600;

/// The key of the client that a socket of this network namespace calls for; none: only its packets say who it is.
#[inline(always)]
pub(crate) fn key<A: Addr, D: Directory<A>>(
    node: &D,
    config: &Config,
    netns_cookie: u64,
    service: ServiceId,
) -> Option<AffinityKey> {
    if netns_cookie == config.host_netns_cookie {
        return Some(AffinityKey::of_namespace(netns_cookie, service));
    }
    let namespace = NamespaceKey::new(netns_cookie, A::FAMILY);
    let known = node.namespace(&namespace)?;
    (known.tag == namespace.tag() && is_believed(config, &known, node.now()))
        .then(|| AffinityKey::of_address(&A::from_mapped(known.address), service))
}

/// Whether a namespace's address was seen not too long ago.
#[inline(always)]
pub fn is_believed(config: &Config, known: &NamespaceAddress, now: u32) -> bool {
    lifetime::since(known.seen, now) < BELIEVED * config.ticks_per_second
}

/// Whether anything is to be learnt of sockets in this network namespace: only pods' that socket LB serves.
#[inline(always)]
pub fn may_learn(config: &Config, netns_cookie: u64) -> bool {
    config.flags & CONFIG_PODS_SOCKET_LB != 0 && netns_cookie != config.host_netns_cookie
}

/// Learns a network namespace's address from a TCP connection that goes by packets to a frontend; from no other, for
/// towards others it may have another address. Most connections end at a bit of PREFILTER: those that socket LB
/// translated lead to a backend.
#[inline(always)]
pub fn learn<A: Addr, D: Directory<A>>(node: &D, netns_cookie: u64, source: &A, destination: &A, port: Port) {
    if !choice::may_be_frontend(node, destination, port, protocol::TCP)
        || source.is_loopback()
        || *source == A::UNSPECIFIED
        || choice::frontend(node, destination, port, protocol::TCP).is_none()
    {
        return;
    }
    let key = NamespaceKey::new(netns_cookie, A::FAMILY);
    node.put_namespace(&key, &NamespaceAddress::new(&key, source, node.now()));
}

#[cfg(test)]
mod tests;
