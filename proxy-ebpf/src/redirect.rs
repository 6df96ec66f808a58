//! The ways around the stack.

use aya_ebpf::{
    bindings::{
        __sk_buff, TC_ACT_SHOT, bpf_fib_lookup as FibLookup, bpf_fib_lookup__bindgen_ty_1, bpf_redir_neigh,
        bpf_redir_neigh__bindgen_ty_1,
    },
    helpers::generated::{
        bpf_fib_lookup, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_head,
        bpf_skb_change_type,
    },
};
use proxy_common::{
    layout::{Addr, Counter, Family, Flow, INTERFACE_PEER, Port, V4, V6, protocol},
    rules::{Headers, Work, quote::Said, step::Step},
};

use crate::{
    ETHERNET, LAYER3, global,
    maps::Maps,
    node::{count, interface_address, interface_flags},
    rewrite::at,
    skb::GSO_BY_FRAGMENTS,
};

/// In `__sk_buff.tc_index`: one of our programs has sent this packet, egress hooks have nothing to do.
pub(crate) const MARK: u32 = 0x5348;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Return values of bpf_fib_lookup (linux/bpf.h).
pub(crate) const FIB_SUCCESS: i64 = 0;
const FIB_NO_NEIGHBOUR: i64 = 7;
const FIB_FRAGMENTATION_NEEDED: i64 = 8;

/// Where a packet leaves by.
pub(crate) struct Hop {
    pub(crate) interface: u32,
    /// For bpf_redirect_neigh: the next hop's address.
    neighbour: bpf_redir_neigh,
    /// Whether the neighbour is known: then `__sk_buff.cb` has the interface's own link-layer address, and the neighbour's.
    is_known: bool,
}

/// Why a packet can't be sent on.
pub(crate) enum NoWay {
    /// The routing table says no.
    NoRoute,
    /// It is larger than this MTU.
    TooBig(u32),
}

/// An address family's routing look-up.
pub(crate) trait Route: Addr {
    /// Its number in socket calls.
    const AF: u8;
    /// Writes the addresses into a look-up.
    fn fill(look_up: &mut FibLookup, source: &Self, destination: &Self);
}

impl Route for V4 {
    const AF: u8 = AF_INET;
    #[inline(always)]
    fn fill(look_up: &mut FibLookup, source: &Self, destination: &Self) {
        look_up.__bindgen_anon_3.ipv4_src = source.0;
        look_up.__bindgen_anon_4.ipv4_dst = destination.0;
    }
}

impl Route for V6 {
    const AF: u8 = AF_INET6;
    #[inline(always)]
    fn fill(look_up: &mut FibLookup, source: &Self, destination: &Self) {
        look_up.__bindgen_anon_3.ipv6_src = source.0;
        look_up.__bindgen_anon_4.ipv6_dst = destination.0;
    }
}

/// A packet as the kernel hands it to a hook.
pub(crate) trait Arrival {
    /// The interface at whose hook it is.
    fn interface(&self) -> u32;
    /// Asks the routing table. `params` are filled but for the interface.
    fn look_up(&self, params: &mut FibLookup) -> i64;
    /// Counts an event of the rules.
    fn count(&self, counter: Counter);
    /// Takes a step of the rules by its global function.
    fn step<A: Maps, S: Step>(&self, step: S) -> u32;
}

/// A packet at a TC hook: what becomes of it is decided here and nowhere else.
impl Arrival for *mut __sk_buff {
    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: it is the program's context.
        unsafe { (**self).ifindex }
    }

    #[inline(always)]
    fn look_up(&self, params: &mut FibLookup) -> i64 {
        params.ifindex = self.interface();
        // SAFETY: it is the program's context, and `params` is as long as said.
        unsafe { bpf_fib_lookup(self.cast(), params, size_of::<FibLookup>() as i32, 0) }
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        count(counter as u32);
    }

    #[inline(always)]
    fn step<A: Maps, S: Step>(&self, step: S) -> u32 {
        global::packet::<A, S>(*self, step)
    }
}

#[inline(always)]
pub(crate) fn empty() -> FibLookup {
    // SAFETY: a struct of integers, for which all zeroes is valid.
    unsafe { core::mem::zeroed() }
}

/// The interface by which a packet to `destination` leaves.
#[inline(always)]
pub(crate) fn egress_towards<A: Addr, P: Arrival>(arrival: &P, destination: &A) -> Result<u32, Counter> {
    let mut params = empty();
    match A::FAMILY {
        Family::V4 => {
            params.family = AF_INET;
            params.__bindgen_anon_4.ipv4_dst = V4::from_mapped(destination.to_mapped()).0;
        }
        Family::V6 => {
            params.family = AF_INET6;
            params.__bindgen_anon_4.ipv6_dst = destination.to_mapped().0;
        }
    }
    match arrival.look_up(&mut params) {
        result if has_way(result) => Ok(params.ifindex),
        _ => Err(Counter::NoRoute),
    }
}

/// What the routing table must know of a translated packet.
pub(crate) struct Leaving<'a, A> {
    source: &'a A,
    destination: &'a A,
    /// IP protocol number.
    protocol: u8,
    ports: (Port, Port),
    /// Bytes of the network header and all behind it.
    length: u32,
    /// Bytes of the headers alone.
    headers: u32,
    /// The interface that it should leave by; 0: any.
    way_back: u32,
}

impl<'a, A: Addr> Leaving<'a, A> {
    #[inline(always)]
    pub(crate) fn packet(packet: &Headers<A>, new: &'a Flow<A>, way_back: u32) -> Self {
        Self {
            source: &new.source,
            destination: &new.destination,
            protocol: packet.protocol,
            ports: (new.source_port, new.destination_port),
            length: packet.length,
            headers: packet.payload,
            way_back,
        }
    }

    /// A whole packet in an outer header of so many bytes.
    #[inline(always)]
    pub(crate) fn encapsulated(
        packet: &Headers<A>,
        source: &'a A,
        destination: &'a A,
        ip_protocol: u8,
        header: u32,
    ) -> Self {
        Self {
            source,
            destination,
            protocol: ip_protocol,
            ports: (Port::new(0), Port::new(0)),
            length: packet.length + header,
            headers: packet.payload + header,
            way_back: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn error(work: &Work<A>, new: &Said<'a, A>) -> Self {
        Self {
            source: new.outer.0,
            destination: new.outer.1,
            protocol: match A::FAMILY {
                Family::V4 => protocol::ICMP,
                Family::V6 => protocol::ICMPV6,
            },
            ports: (Port::new(0), Port::new(0)),
            length: work.packet.length,
            headers: 0,
            way_back: work.way_back(),
        }
    }
}

/// Whether a look-up has found an interface, be its neighbour known or not, and the packet too large for it or not.
#[inline(always)]
fn has_way(result: i64) -> bool {
    matches!(result, FIB_SUCCESS | FIB_NO_NEIGHBOUR | FIB_FRAGMENTATION_NEEDED)
}

/// Asks the routing table. `out_by`: for a way by this interface, as packets from its own address go; 0: for any.
#[inline(always)]
fn ask<A: Route + Maps>(
    skb: *mut __sk_buff,
    leaving: &Leaving<A>,
    params: &mut FibLookup,
    out_by: u32,
) -> i64 {
    const BPF_FIB_LOOKUP_OUTPUT: u32 = 2;
    params.family = A::AF;
    params.__bindgen_anon_2.tos = 0;
    params.l4_protocol = leaving.protocol;
    params.sport = leaving.ports.0.wire();
    params.dport = leaving.ports.1.wire();
    // SAFETY: `skb` is the program's context.
    let segment = unsafe { (*skb).gso_size };
    // A GSO packet leaves in segments: it is their size that must fit. SCTP's are the packets that its sender made, and how
    // long those are is not said.
    let length = match segment {
        0 => leaving.length,
        GSO_BY_FRAGMENTS => leaving.headers,
        _ => leaving.headers + segment,
    };
    params.__bindgen_anon_1 = bpf_fib_lookup__bindgen_ty_1 {
        tot_len: length as u16,
    };
    if out_by == 0 {
        A::fill(params, leaving.source, leaving.destination);
        return skb.look_up(params);
    }
    // Where uplinks have tables of their own, rules choose them by the uplink's address.
    let source = interface_address::<A>(out_by).unwrap_or(A::UNSPECIFIED);
    A::fill(params, &source, leaving.destination);
    params.ifindex = out_by;
    // IPv6 takes the way out for a preference, and looks at rules by source in the other direction only.
    let flags = match A::FAMILY {
        Family::V4 => BPF_FIB_LOOKUP_OUTPUT,
        Family::V6 => 0,
    };
    // SAFETY: it is the program's context, and `params` is as long as said.
    unsafe { bpf_fib_lookup(skb.cast(), params, size_of::<FibLookup>() as i32, flags) }
}

/// The next hop of a translated packet, before anything is written. What answers a flow goes back by the interface that
/// the flow came in by, if there is a way: a client behind one of several uplinks may be out of the others' reach.
#[inline(always)]
pub(crate) fn next_hop<A: Route + Maps>(skb: *mut __sk_buff, leaving: &Leaving<A>) -> Result<Hop, NoWay> {
    let mut params = empty();
    let mut result = ask(skb, leaving, &mut params, 0);
    if leaving.way_back != 0 && !(has_way(result) && params.ifindex == leaving.way_back) {
        result = ask(skb, leaving, &mut params, leaving.way_back);
        if !(has_way(result) && params.ifindex == leaving.way_back) {
            result = ask(skb, leaving, &mut params, 0);
        }
    }
    match result {
        FIB_SUCCESS | FIB_NO_NEIGHBOUR => {}
        FIB_FRAGMENTATION_NEEDED => {
            // SAFETY: both members of the union are a u16.
            let mtu = unsafe { params.__bindgen_anon_1.mtu_result };
            return Err(NoWay::TooBig(mtu as u32));
        }
        _ => return Err(NoWay::NoRoute),
    }
    if result == FIB_SUCCESS {
        let [a, b, c, d, e, f] = params.smac;
        let [g, h, i, j, k, l] = params.dmac;
        // Not on the stack, of which the rules need much.
        // SAFETY: `skb` is the program's context, and these words of it are for programs at its hooks.
        unsafe {
            (*skb).cb[0] = u32::from_ne_bytes([a, b, c, d]);
            (*skb).cb[1] = u32::from_ne_bytes([e, f, g, h]);
            (*skb).cb[2] = u32::from_ne_bytes([i, j, k, l]);
        }
    }
    // The look-up has put the gateway in place of the destination; an IPv4 route may have an IPv6 gateway.
    // SAFETY: the union's longest member; what is behind an IPv4 address is not looked at.
    let gateway = unsafe { params.__bindgen_anon_4.ipv6_dst };
    let neighbour = bpf_redir_neigh {
        nh_family: params.family as u32,
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: gateway },
    };
    Ok(Hop {
        interface: params.ifindex,
        neighbour,
        is_known: result == FIB_SUCCESS,
    })
}

/// Sends a packet to its next hop.
#[inline(always)]
pub(crate) fn send<const LINK: u32>(skb: *mut __sk_buff, mut hop: Hop) -> i32 {
    // SAFETY: `skb` is the program's context, and the neighbour is as long as said.
    unsafe {
        // From a device without link header the helper drops everything unless there is room for one.
        if LINK == LAYER3 && bpf_skb_change_head(skb, ETHERNET, 0) != 0 {
            count(Counter::RewriteFailed as u32);
            return TC_ACT_SHOT;
        }
        (*skb).tc_index = MARK;
        bpf_redirect_neigh(
            hop.interface,
            &mut hop.neighbour,
            size_of::<bpf_redir_neigh>() as i32,
            0,
        ) as i32
    }
}

/// The two halves of a word, in the order in which they stand in memory.
#[inline(always)]
fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_ne_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

/// Sends a packet to its next hop; if that is a pod at the other end of the interface, into the pod at once.
#[inline(always)]
pub(crate) fn deliver<const LINK: u32>(skb: *mut __sk_buff, hop: Hop) -> i32 {
    if LINK == ETHERNET && hop.is_known {
        let sent = global::into_pod(skb, hop.interface);
        if sent != NOT_SENT {
            return sent;
        }
    }
    send::<LINK>(skb, hop)
}

/// What [`into_pod`] gives where there is no pod at the other end.
const NOT_SENT: i32 = i32::MIN;

/// Sends a packet, whose link-layer addresses [`next_hop`] has left in its context, into the pod at the other end of an interface.
#[inline(always)]
pub(crate) fn into_pod(skb: *mut __sk_buff, interface: u32) -> i32 {
    /// `__sk_buff.pkt_type` of a frame to whoever receives it (linux/if_packet.h).
    const PACKET_HOST: u32 = 0;
    if interface_flags(interface) & INTERFACE_PEER == 0 {
        return NOT_SENT;
    }
    let Some(header) = at::<[u16; 6]>(skb, 0) else {
        return NOT_SENT;
    };
    // SAFETY: `at` checked the bounds, BPF needs no alignment, and `skb` is the program's context.
    unsafe {
        let [[a, b], [c, d], [e, f]] = [halves((*skb).cb[0]), halves((*skb).cb[1]), halves((*skb).cb[2])];
        *header = [d, e, f, a, b, c];
        // As a veth does on the way to another network namespace.
        (*skb).mark = 0;
        // At a bridge's port it was to the bridge: the pod would take it for another's.
        bpf_skb_change_type(skb, PACKET_HOST);
        bpf_redirect_peer(interface, 0) as i32
    }
}

/// Sends a packet out of the interface that it came in by, to the neighbour that it came from.
#[inline(always)]
pub(crate) fn back<const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    turn::<LINK>(skb, MARK, 0)
}

/// Lets a packet that was about to leave come in by the same interface.
#[inline(always)]
pub(crate) fn inwards<const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    const BPF_F_INGRESS: u64 = 1;
    turn::<LINK>(skb, 0, BPF_F_INGRESS)
}

#[inline(always)]
fn turn<const LINK: u32>(skb: *mut __sk_buff, mark: u32, flags: u64) -> i32 {
    if LINK != LAYER3 {
        let Some(link) = at::<[u16; 6]>(skb, 0) else {
            count(Counter::RewriteFailed as u32);
            return TC_ACT_SHOT;
        };
        // SAFETY: `at` checked the bounds; BPF needs no alignment.
        unsafe {
            let [a, b, c, d, e, f] = *link;
            *link = [d, e, f, a, b, c];
        }
    }
    // SAFETY: `skb` is the program's context.
    unsafe {
        (*skb).tc_index = mark;
        bpf_redirect((*skb).ifindex, flags) as i32
    }
}
