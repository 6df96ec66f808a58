//! Direct server return: packets that nodes hand on to each other whole.
//!
//! The node that a client calls leaves the packet as it is and sends it in an outer header to its backend's own address, which
//! the network of the pods leads to the backend's node. That node takes the packet out again, treats it as if the client had
//! called there, and answers the client itself. So the first node sees one direction alone: its flow has one entry, which
//! stays among the embryos for good, because no answer ever proves the client, and which a flood may push out. The choice
//! is by the flow's hash, so that the same backend is found again.

use core::marker::PhantomData;

use crate::layout::{
    Action, Addr, AffinityWord, ChoiceRule, Counter, Direction, FilterBit, FlowTable, FrontendKind, ListWord,
    NEVER_HANDED_ON, NEVER_HANDED_ON_TAG, V4, V6, When, protocol, state,
};
use crate::rules::choice::{self, Found, Offer};
use crate::rules::forward::{find_step, follow, holds, live};
use crate::rules::headers::{Bytes, Parsed, Readable, tcp};
use crate::rules::quote;
use crate::rules::step::Remove;
use crate::rules::vip::Place;
use crate::rules::{FlowStore, Headers, Origin, Verdict, Work, create, fragment, hook, load};

/// How many backends of this node are compared with where a packet was sent to: the verifier follows each round for each way
/// there. Of a service port with more backends on one node, a packet to one of the others is for whichever the list's rule says.
const COMPARED: u32 = 32;

/// The outer header of a packet that was handed on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outer<A> {
    /// Who handed it on.
    pub source: A,
    /// The backend's address.
    pub destination: A,
}

/// An address family's packets can be put into each other.
pub trait Encapsulated: Readable {
    /// The protocol that an outer header says: IPv4 in IPv4, IPv6 in IPv6.
    const PROTOCOL: u8;
    /// The outer header of a packet of this family in another, if nothing stands between the two.
    fn outer<B: Bytes>(bytes: &B) -> Option<Outer<Self>>;
}

impl Encapsulated for V4 {
    const PROTOCOL: u8 = protocol::IPV4;

    #[inline(always)]
    fn outer<B: Bytes>(bytes: &B) -> Option<Outer<Self>> {
        let [first, second, third, source, destination] = bytes.glance::<5>(0)?;
        let is_plain = u32::from_be(first) >> 24 == 0x45 && u32::from_be(second) & 0x3fff == 0;
        (is_plain && (u32::from_be(third) >> 16) as u8 == Self::PROTOCOL).then_some(Outer {
            source: V4(source),
            destination: V4(destination),
        })
    }
}

impl Encapsulated for V6 {
    const PROTOCOL: u8 = protocol::IPV6;

    #[inline(always)]
    fn outer<B: Bytes>(bytes: &B) -> Option<Outer<Self>> {
        let [first, second, s0, s1, s2, s3, d0, d1, d2, d3] = bytes.glance::<10>(0)?;
        let is_plain = u32::from_be(first) >> 28 == 6;
        (is_plain && (u32::from_be(second) >> 8) as u8 == Self::PROTOCOL).then_some(Outer {
            source: V6([s0, s1, s2, s3]),
            destination: V6([d0, d1, d2, d3]),
        })
    }
}

/// A packet behind the outer header that it came in.
pub struct Inner<A, B> {
    /// The whole.
    bytes: B,
    family: PhantomData<A>,
}

impl<A, B> Inner<A, B> {
    /// Of a whole that has an [`Outer`] header.
    #[inline(always)]
    pub fn of(bytes: B) -> Self {
        Self {
            bytes,
            family: PhantomData,
        }
    }
}

impl<A: Readable, B: Bytes> Bytes for Inner<A, B> {
    #[inline(always)]
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        self.bytes.words(offset.wrapping_add(A::HEADER))
    }
    #[inline(always)]
    fn glance<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        self.bytes.glance(offset.wrapping_add(A::HEADER))
    }
    #[inline(always)]
    fn copied<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        self.bytes.copied(offset.wrapping_add(A::HEADER))
    }
    #[inline(always)]
    fn length(&self) -> u32 {
        self.bytes.length().saturating_sub(A::HEADER)
    }
}

/// Whether a packet of a connection that nobody knows here goes where the hash says: there its backend's node knows it, unless
/// the choice went by something else.
#[inline(always)]
pub(crate) fn may_join(Offer { list, hands_on, .. }: Offer) -> bool {
    hands_on && list.count() != 0 && list.rule() != ChoiceRule::LeastConnections
}

/// Whether a packet from there may go on as its flow says: what pods of this node send is never handed on, whoever has sent in
/// their name before.
#[inline(always)]
pub(crate) fn may_follow<A: Addr>(origin: Origin, work: &Work<A>) -> bool {
    matches!(origin, Origin::Network) || work.flow.action != Action::Encapsulate as u8
}

/// Whether a client's packets are never handed on.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(crate) fn is_exempt<A: Addr, N: FlowStore<A>>(node: &N, work: &Work<A>) -> bool {
    node.allows(NEVER_HANDED_ON, NEVER_HANDED_ON_TAG, &work.key.source)
}

/// The state of a flow that is handed on, after a packet from its client: what goes on is established, and who has ended one
/// direction is taken to have ended both, since the other is not seen.
#[inline(always)]
pub(crate) fn after<A: Addr>(bits: u8, packet: &Headers<A>) -> u8 {
    let mut bits = bits & !state::FIN_REVERSE;
    if bits & state::FIN_FORWARD != 0 {
        bits |= state::FIN_REVERSE;
    }
    if packet.tcp_flags & tcp::SYN == 0 {
        bits |= state::ESTABLISHED;
    }
    bits
}

/// Inserts the one entry of a flow that is handed on; who loses the race takes the winner's.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(crate) fn publish<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> Verdict {
    work.flow.source_port = work.key.source_port;
    if !node.insert_flow(FlowTable::Embryos, &work.key, &work.flow) {
        if live(node, FlowTable::Embryos, &work.key, &mut work.spare) {
            work.flow = work.spare;
            node.count(Counter::LostRace);
            return work.verdict();
        }
        // An expired entry does not exist.
        if !node.put_flow(FlowTable::Embryos, &work.key, &work.flow) {
            return Verdict::drop(Counter::FlowTableRefused);
        }
    }
    load::begin(node, &work.flow);
    create::count_made(node, work);
    work.verdict()
}

/// What is to be done with a packet from the network that came in an outer header: [`Verdict::PASS`] for one that no node
/// handed on to a backend of this node, which is somebody else's tunnel and stays as it is. All else is said of the packet
/// inside.
#[inline(always)]
pub fn take<A: Encapsulated, N: FlowStore<A>, B: Bytes>(
    node: &N,
    outer: Outer<A>,
    inner: &B,
    work: &mut Work<A>,
) -> Verdict {
    if !node.filter(FilterBit::reverse_address(&outer.destination)) {
        return Verdict::PASS;
    }
    match hook::parse(inner, &mut work.packet) {
        Parsed::Transport => {}
        Parsed::Error => return error(node, inner, work),
        Parsed::Message | Parsed::Other | Parsed::Malformed => return Verdict::PASS,
    }
    match fragment::resolve_handed_on(node, work) {
        Some(verdict) => verdict,
        None => {
            work.outer = outer;
            decide(node, work)
        }
    }
}

/// An ICMP error about an answer of a backend of this node.
#[inline(always)]
fn error<A: Encapsulated, N: FlowStore<A>, B: Bytes>(node: &N, inner: &B, work: &mut Work<A>) -> Verdict {
    let verdict = quote::decide(node, inner, Place::Inwards, work);
    if verdict == Verdict::of_error(Action::Stack as u8) {
        verdict
    } else {
        Verdict::PASS
    }
}

#[cfg_attr(target_arch = "bpf", inline(never))]
fn decide<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> Verdict {
    work.key = work.packet.key(Direction::Forward);
    let (mut is_found, mut is_known) = (false, false);
    if let Some(table) = find_step(node, work) {
        is_found = true;
        is_known = work.flow.action == Action::Stack as u8;
        if is_known && holds(node, work) {
            follow(node, work, table);
            return work.verdict();
        }
        if is_known && work.packet.protocol == protocol::UDP {
            node.count(Counter::UdpRebalanced);
        }
    }
    let Some(found) = frontend(node, work) else {
        return Verdict::PASS;
    };
    let list = match node.service(found.service) {
        Some(service) if service.hands_on(found.tag) && service.shortcut.tag() == found.tag => {
            service.shortcut
        }
        _ => return Verdict::PASS,
    };
    let chosen = backend_at(node, list, &work.outer.destination);
    if chosen == 0 && !is_known && list.count() <= COMPARED {
        return Verdict::PASS;
    }
    if !choice::admits(node, &found, &work.key.source) {
        return Verdict::drop(Counter::SourceNotAllowed);
    }
    if list.count() == 0 {
        return match list.when_empty() {
            When::Reject => Verdict::reject(Counter::NoEndpoint),
            // It has an outer header: as it is, it leads nowhere.
            When::Drop | When::Pass => Verdict::drop(Counter::NoLocalEndpoint),
        };
    }
    if is_found {
        // Where it went to another node, it does so no more.
        node.step(Remove {}, work);
    }
    create::begin(node, work, found.service);
    (work.hands_on, work.is_taken_over) = (false, true);
    let offer = Offer {
        list,
        affinity: AffinityWord::OFF,
        hands_on: false,
    };
    let verdict = create::make(node, Origin::Network, work, offer, chosen);
    if verdict == Verdict::PASS {
        // It is ours, and goes no other way.
        return Verdict::drop(Counter::SourcePortsExhausted);
    }
    if verdict
        .action()
        .is_some_and(|action| action != Action::Stack as u8)
    {
        // The list is about to become this node's.
        return Verdict::drop(Counter::NoLocalEndpoint);
    }
    verdict
}

/// The frontend that a packet was handed on for. A NodePort is the other node's: that one names the address that was called as
/// its own, so that nobody gets an answer from an address that could not have asked for it.
#[inline(always)]
fn frontend<A: Addr, N: FlowStore<A>>(node: &N, work: &Work<A>) -> Option<Found> {
    let key = &work.key;
    if let Some(found) = choice::frontend(node, &key.destination, key.destination_port, key.protocol) {
        return (found.kind as u8 != FrontendKind::ClusterIp as u8).then_some(found);
    }
    let port = key.destination_port;
    if key.destination == work.outer.source && node.filter(FilterBit::node_port(port, key.protocol)) {
        return choice::node_port(node, port, key.protocol);
    }
    None
}

/// The backend of a list at an address, if it serves on this node; else 0.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn backend_at<A: Addr, N: FlowStore<A>>(node: &N, list: ListWord, address: &A) -> u32 {
    let count = list.count();
    for offset in 0..COMPARED {
        if offset >= count {
            break;
        }
        let Some(id) = node.slot(list.first().wrapping_add(offset)) else {
            break;
        };
        if let Some(backend) = node.backend(id)
            && backend.is_alive()
            && backend.is_local()
            && A::from_mapped(backend.address) == *address
        {
            return id.0;
        }
    }
    0
}

#[cfg(test)]
mod tests;
