//! Answers to packets that go no further: TCP resets, and ICMP errors by [`error`], made out of the packet itself and sent
//! back by the interface that it came in by.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    helpers::generated::{bpf_csum_diff, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_store_bytes},
};
use proxy_common::{
    layout::{Addr, Counter, V4, V6, protocol},
    rules::{
        Headers, checksum,
        headers::{Fragment, echo, tcp},
    },
};

use crate::{
    error::{self, Errors, Message},
    node::count,
    redirect,
    rewrite::{self, Rewrite},
};

/// Keeps skb->csum right under CHECKSUM_COMPLETE while bytes are stored.
pub(crate) const BPF_F_RECOMPUTE_CSUM: u64 = 1;
pub(crate) const HOP_LIMIT: u8 = 64;

/// An address family's headers, made from scratch.
pub(crate) trait Answer: Errors {
    /// Turns the packet into a TCP reset. `None` if the kernel refused.
    fn reset<const LINK: u32>(skb: *mut __sk_buff, packet: &Headers<Self>) -> Option<()>;
}

/// Refuses a packet: TCP RST, else port unreachable.
#[inline(always)]
pub(crate) fn reject<A: Answer, const LINK: u32>(skb: *mut __sk_buff, packet: &Headers<A>) -> i32 {
    if refuse::<A, LINK>(skb, packet).is_none() {
        return TC_ACT_SHOT;
    }
    count(Counter::ErrorSent as u32);
    redirect::back::<LINK>(skb)
}

/// The same on egress: the answer comes in by the interface that the packet would have left by.
#[inline(always)]
pub(crate) fn reject_sender<A: Answer, const LINK: u32>(skb: *mut __sk_buff, packet: &Headers<A>) -> i32 {
    if refuse::<A, LINK>(skb, packet).is_none() {
        return TC_ACT_SHOT;
    }
    count(Counter::ErrorSent as u32);
    redirect::inwards::<LINK>(skb)
}

#[inline(always)]
fn refuse<A: Answer, const LINK: u32>(skb: *mut __sk_buff, packet: &Headers<A>) -> Option<()> {
    if packet.fragment == Fragment::Later {
        // Its first fragment was answered.
        return None;
    }
    if packet.protocol == protocol::TCP {
        if packet.tcp_flags & tcp::RST != 0 {
            // A reset is never answered (RFC 9293 §3.5.2).
            return None;
        }
        return A::reset::<LINK>(skb, packet);
    }
    error::turn::<A, LINK>(skb, packet.transport, Message::PortUnreachable)
}

/// Turns an echo request into the reply to it, or a part of one into that part of the reply. `None` if the kernel refused.
#[inline(always)]
pub(crate) fn echo<A: Rewrite, const LINK: u32>(skb: *mut __sk_buff, packet: &Headers<A>) -> Option<()> {
    // Where addresses change places no sum over them changes.
    let (from, to) = (&packet.source, &packet.destination);
    A::write_addresses::<LINK>(skb, (from, to), (to, from))?;
    A::set_hop_limit::<LINK>(skb, HOP_LIMIT)?;
    if packet.fragment == Fragment::Later {
        return Some(());
    }
    let (request, reply) = (echo::request(A::FAMILY), echo::reply(A::FAMILY));
    let word = |kind: u8| u16::from_ne_bytes([kind, 0]) as u32;
    let transport = LINK.wrapping_add(packet.transport);
    rewrite::store(skb, transport, &reply)?;
    let difference = checksum::difference(word(request), word(reply));
    rewrite::fix_checksum(skb, transport.wrapping_add(2), difference, 0)
}

/// Makes the packet so many bytes long behind the link header, all of them to be written, whatever the state of its
/// checksum was: nothing is left to be finished by hardware. `None` if the kernel refused.
///
/// The place of a partial checksum is fixed in memory. The packet is made longer by what comes before that place, and cut
/// by as much in front: the kernel sees that the place is no longer in the packet and forgets it.
#[inline(always)]
pub(crate) fn blank<const LINK: u32>(skb: *mut __sk_buff, transport: u32, size: u32) -> Option<()> {
    const BPF_ADJ_ROOM_MAC: u32 = 1;
    // Beyond it the helper refuses; partial checksums are behind few headers.
    const MOST: u32 = 0xff0;
    let needed = LINK.wrapping_add(transport).wrapping_add(8);
    let cut = if needed > MOST { MOST } else { needed };
    // SAFETY: `skb` is the program's context.
    unsafe {
        if bpf_skb_change_tail(skb, LINK + size + cut, 0) != 0 {
            return None;
        }
        (bpf_skb_adjust_room(skb, -(cut as i32), BPF_ADJ_ROOM_MAC, 0) == 0).then_some(())
    }
}

/// Writes the whole packet behind the link header anew.
#[inline(always)]
fn replace<const LINK: u32, const N: usize>(
    skb: *mut __sk_buff,
    transport: u32,
    words: &[u32; N],
) -> Option<()> {
    let size = (N * 4) as u32;
    blank::<LINK>(skb, transport, size)?;
    // SAFETY: `skb` is the program's context, and the buffer is `size` bytes long.
    let stored = unsafe { bpf_skb_store_bytes(skb, LINK, words.as_ptr().cast(), size, BPF_F_RECOMPUTE_CSUM) };
    (stored == 0).then_some(())
}

/// The unfolded sum over words.
#[inline(always)]
pub(crate) fn sum<const N: usize>(words: &mut [u32; N], seed: u32) -> u32 {
    // SAFETY: the buffer is N words long.
    unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, words.as_mut_ptr(), (N * 4) as u32, seed) as u32 }
}

/// A u32 whose bytes stand in network order.
#[inline(always)]
pub(crate) const fn word(host: u32) -> u32 {
    host.to_be()
}

/// The words of a TCP header that resets the connection (RFC 9293 §3.5.2), without checksum.
#[inline(always)]
fn reset_words<A: Addr>(packet: &Headers<A>) -> [u32; 5] {
    let (sequence, acknowledgement, flags) = if packet.tcp_flags & tcp::ACK != 0 {
        (packet.acknowledgement, 0, tcp::RST)
    } else {
        let syn = (packet.tcp_flags & tcp::SYN != 0) as u32;
        let length = packet.length.wrapping_sub(packet.payload);
        (
            0,
            packet.sequence.wrapping_add(syn).wrapping_add(length),
            tcp::RST | tcp::ACK,
        )
    };
    let ports = (packet.destination_port.number() as u32) << 16 | packet.source_port.number() as u32;
    [
        word(ports),
        word(sequence),
        word(acknowledgement),
        word(5 << 28 | (flags as u32) << 16),
        0,
    ]
}

/// Fills in the checksum field of [`reset_words`], given the sum of the pseudo-header.
#[inline(always)]
fn finish(header: &mut [u32; 5], pseudo: u32) {
    let check = !checksum::fold(sum(header, pseudo));
    header[4] = if cfg!(target_endian = "little") {
        check as u32
    } else {
        (check as u32) << 16
    };
}

/// An IPv4 header's words, with checksum.
#[inline(always)]
pub(crate) fn ipv4_header(length: u32, ip_protocol: u8, source: V4, destination: V4) -> [u32; 5] {
    const DONT_FRAGMENT: u32 = 0x4000;
    let mut words = [
        word(0x4500_0000 | length),
        word(DONT_FRAGMENT),
        word((HOP_LIMIT as u32) << 24 | (ip_protocol as u32) << 16),
        source.0,
        destination.0,
    ];
    let check = !checksum::fold(sum(&mut words, 0));
    words[2] |= if cfg!(target_endian = "little") {
        (check as u32) << 16
    } else {
        check as u32
    };
    words
}

impl Answer for V4 {
    #[inline(always)]
    fn reset<const LINK: u32>(skb: *mut __sk_buff, packet: &Headers<V4>) -> Option<()> {
        let [i0, i1, i2, i3, i4] = ipv4_header(40, protocol::TCP, packet.destination, packet.source);
        let mut header = reset_words(packet);
        finish(
            &mut header,
            sum(&mut [i3, i4, word((protocol::TCP as u32) << 16 | 20)], 0),
        );
        let [t0, t1, t2, t3, t4] = header;
        replace::<LINK, 10>(skb, packet.transport, &[i0, i1, i2, i3, i4, t0, t1, t2, t3, t4])
    }
}

impl Answer for V6 {
    #[inline(always)]
    fn reset<const LINK: u32>(skb: *mut __sk_buff, packet: &Headers<V6>) -> Option<()> {
        let [s0, s1, s2, s3] = packet.destination.0;
        let [d0, d1, d2, d3] = packet.source.0;
        let mut header = reset_words(packet);
        let mut pseudo = [
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
            word(20),
            word(protocol::TCP as u32),
        ];
        finish(&mut header, sum(&mut pseudo, 0));
        let [t0, t1, t2, t3, t4] = header;
        let lengths = word(20 << 16 | (protocol::TCP as u32) << 8 | HOP_LIMIT as u32);
        replace::<LINK, 15>(
            skb,
            packet.transport,
            &[
                word(6 << 28),
                lengths,
                s0,
                s1,
                s2,
                s3,
                d0,
                d1,
                d2,
                d3,
                t0,
                t1,
                t2,
                t3,
                t4,
            ],
        )
    }
}
