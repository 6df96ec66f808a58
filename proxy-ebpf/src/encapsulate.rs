//! Direct server return: whole packets in an outer header, out to their backend's node and in from another.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_adjust_room, bpf_skb_store_bytes},
};
use proxy_common::{
    layout::{Action, Counter, V4, V6},
    rules::{
        Directory, Headers, Verdict,
        dsr::{self, Encapsulated, Inner},
        headers::Readable,
    },
};

use crate::{
    ahead,
    answer::{self, BPF_F_RECOMPUTE_CSUM, HOP_LIMIT, ipv4_header, word},
    error::{self, Message},
    maps::Maps,
    node::{Node, Tables, config, count, interface_address},
    redirect::{self, Leaving},
    skb::Packet,
    tc::{self, Family, UNSETTLED, dropped, ended, mark, relay},
};

/// Room between the link-layer header and the network header (linux/bpf.h, as the flags).
const BPF_ADJ_ROOM_MAC: u32 = 1;
/// Segments keep their size.
const BPF_F_ADJ_ROOM_FIXED_GSO: u64 = 1;
const BPF_F_ADJ_ROOM_ENCAP_L3_IPV4: u64 = 1 << 1;
const BPF_F_ADJ_ROOM_ENCAP_L3_IPV6: u64 = 1 << 2;

/// An address family's outer header.
pub(crate) trait Outside: Encapsulated {
    /// Tells the kernel what comes in front.
    const ROOM: u64;
    /// Writes the header in front of so many bytes, into room that is zero. `None` if the kernel refused.
    fn write_outer<const LINK: u32>(
        skb: *mut __sk_buff,
        length: u32,
        source: &Self,
        destination: &Self,
    ) -> Option<()>;
}

/// A length for its field: 0 where it does not fit, as BIG TCP has it.
#[inline(always)]
const fn in_field(length: u32) -> u32 {
    if length > 0xffff { 0 } else { length }
}

#[inline(always)]
fn store<const LINK: u32, const N: usize>(skb: *mut __sk_buff, words: &[u32; N]) -> Option<()> {
    let size = (N * 4) as u32;
    // SAFETY: `skb` is the program's context, and the buffer is `size` bytes long.
    let stored = unsafe { bpf_skb_store_bytes(skb, LINK, words.as_ptr().cast(), size, BPF_F_RECOMPUTE_CSUM) };
    (stored == 0).then_some(())
}

impl Outside for V4 {
    const ROOM: u64 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;

    #[inline(always)]
    fn write_outer<const LINK: u32>(
        skb: *mut __sk_buff,
        length: u32,
        source: &V4,
        destination: &V4,
    ) -> Option<()> {
        let length = in_field(length + <V4 as Readable>::HEADER);
        store::<LINK, 5>(skb, &ipv4_header(length, Self::PROTOCOL, *source, *destination))
    }
}

impl Outside for V6 {
    const ROOM: u64 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;

    #[inline(always)]
    fn write_outer<const LINK: u32>(
        skb: *mut __sk_buff,
        length: u32,
        source: &V6,
        destination: &V6,
    ) -> Option<()> {
        let [s0, s1, s2, s3] = source.0;
        let [d0, d1, d2, d3] = destination.0;
        let lengths = word(in_field(length) << 16 | (Self::PROTOCOL as u32) << 8 | HOP_LIMIT as u32);
        store::<LINK, 10>(skb, &[word(6 << 28), lengths, s0, s1, s2, s3, d0, d1, d2, d3])
    }
}

/// Hands the packet that the workspace tells of on whole to its backend's node. What keeps it from that is told to its sender, unless `is_error`.
#[inline(never)]
pub(crate) fn hand_on<A: Family, const LINK: u32>(skb: *mut __sk_buff, is_error: u32) -> i32 {
    let Some(work) = tc::work::<A>() else {
        return dropped(Counter::RewriteFailed as u32);
    };
    let packet = &work.packet;
    if packet.hop_limit <= 1 {
        count(Counter::HopLimit as u32);
        return tell::<A, LINK>(skb, packet, is_error, Message::TimeExceeded);
    }
    let header = <A as Readable>::HEADER;
    let backend = &work.flow.destination;
    // The way is settled before the first write.
    let anybody = A::UNSPECIFIED;
    let leaving = Leaving::encapsulated(packet, &anybody, backend, A::PROTOCOL, header);
    let hop = match redirect::next_hop(skb, &leaving) {
        Ok(hop) => hop,
        Err(redirect::NoWay::TooBig(mtu)) => {
            count(Counter::TooBig as u32);
            let fits = mtu.saturating_sub(header);
            return tell::<A, LINK>(skb, packet, is_error, Message::TooBig(fits));
        }
        Err(redirect::NoWay::NoRoute) => return dropped(Counter::NoRoute as u32),
    };
    let Some(source) = outer_source(packet, hop.interface) else {
        return dropped(Counter::NoSourceAddress as u32);
    };
    if A::set_hop_limit::<LINK>(skb, packet.hop_limit.wrapping_sub(1)).is_none()
        || adjust(skb, header as i32, A::ROOM) != 0
        || A::write_outer::<LINK>(skb, packet.length, &source, backend).is_none()
    {
        return dropped(Counter::RewriteFailed as u32);
    }
    count(Counter::Encapsulated as u32);
    redirect::send::<LINK>(skb, hop)
}

/// Whose packet the outer one is: the node's by the address that was called, where that is its own, which the backend's node
/// wants to see of a NodePort; else by that of the interface.
#[inline(always)]
fn outer_source<A: Maps>(packet: &Headers<A>, interface: u32) -> Option<A> {
    if Tables.is_node_address(&packet.destination) {
        return Some(packet.destination);
    }
    interface_address(interface).or_else(|| interface_address(0))
}

#[inline(always)]
fn tell<A: Family, const LINK: u32>(
    skb: *mut __sk_buff,
    packet: &Headers<A>,
    is_error: u32,
    message: Message,
) -> i32 {
    if is_error != 0 {
        return aya_ebpf::bindings::TC_ACT_SHOT;
    }
    error::answer::<A, LINK>(skb, packet.transport, message)
}

#[inline(always)]
fn adjust(skb: *mut __sk_buff, by: i32, flags: u64) -> i64 {
    // SAFETY: `skb` is the program's context.
    unsafe { bpf_skb_adjust_room(skb, by, BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_FIXED_GSO) }
}

/// Takes over a packet that another node handed on whole; [`UNSETTLED`]: it is none.
#[inline(always)]
pub(crate) fn take<A: Family, const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    if A::outer(&Packet::<LINK>::with(skb)).is_none() {
        return UNSETTLED;
    }
    let verdict = judge::<A, LINK>(skb);
    if verdict == Verdict::PASS {
        return UNSETTLED;
    }
    take_over::<A, LINK>(skb, verdict)
}

/// What the rules say of a packet in an outer header. Not inlined, as what is done about it is not: both need the stack.
#[inline(never)]
fn judge<A: Family, const LINK: u32>(skb: *mut __sk_buff) -> Verdict {
    let (Some(config), Some(work), Some(outer)) =
        (config(), tc::work::<A>(), A::outer(&Packet::<LINK>::with(skb)))
    else {
        return Verdict::PASS;
    };
    let node = Node::new(skb, config);
    let inner = Inner::<A, _>::of(Packet::<LINK>::with(skb));
    dsr::take(&node, outer, &inner, work)
}

#[inline(never)]
fn take_over<A: Family, const LINK: u32>(skb: *mut __sk_buff, verdict: Verdict) -> i32 {
    let (Some(config), Some(work)) = (config(), tc::work::<A>()) else {
        return dropped(Counter::RewriteFailed as u32);
    };
    if let Some(counter) = verdict.dropped() {
        if counter == Counter::FragmentWithoutFirst as u32 {
            let verdict = ahead::again(skb);
            if verdict != ahead::ENOUGH {
                return verdict;
            }
        }
        return dropped(counter);
    }
    ahead::found(skb);
    if adjust(skb, -(<A as Readable>::HEADER as i32), 0) != 0 {
        return dropped(Counter::RewriteFailed as u32);
    }
    count(Counter::Decapsulated as u32);
    // What was behind two headers may not be at hand yet.
    let _pulled = Packet::<LINK>::new(skb);
    if let Some(counter) = verdict.rejected() {
        count(counter);
        return answer::reject::<A, LINK>(skb, &work.packet);
    }
    if let Some(action) = verdict.error_action() {
        return relay::<A, LINK>(skb, work, action as u32);
    }
    if verdict.action() != Some(Action::Stack as u8) {
        return dropped(Counter::NoLocalEndpoint as u32);
    }
    mark(skb, config);
    ended(tc::write::<A, LINK>(skb, work))
}
