//! Answers to packets that go no further: TCP resets and ICMP errors, made out of the packet itself and sent back by
//! the interface that it came in by.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    helpers::generated::{
        bpf_csum_diff, bpf_l4_csum_replace, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
};
use proxy_common::{
    layout::{Addr, Counter, V4, V6, protocol},
    rules::{
        Headers, checksum,
        headers::{Fragment, tcp},
    },
};

use crate::{node::count, redirect};

/// Keeps skb->csum right under CHECKSUM_COMPLETE while bytes are stored.
const BPF_F_RECOMPUTE_CSUM: u64 = 1;
const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
const HOP_LIMIT: u8 = 64;

/// What an ICMP error says.
#[derive(Clone, Copy)]
pub(crate) enum Message {
    /// Port unreachable (RFC 792, RFC 4443 §3.1).
    PortUnreachable,
    /// Fragmentation needed (RFC 1191), packet too big (RFC 4443 §3.2): the next hop's MTU.
    TooBig(u32),
    /// The hop limit ran out.
    TimeExceeded,
}

/// An address family's headers, made from scratch.
pub(crate) trait Answer: Addr {
    /// Turns the packet into a TCP reset. `None` if the kernel refused.
    fn reset<const LINK: u32>(skb: *mut __sk_buff, packet: &Headers<Self>) -> Option<()>;
    /// Turns the packet into an ICMP error that quotes it. `None` if the kernel refused.
    fn icmp<const LINK: u32>(skb: *mut __sk_buff, message: Message) -> Option<()>;
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
    A::icmp::<LINK>(skb, Message::PortUnreachable)
}

/// Answers a packet with an ICMP error.
#[inline(always)]
pub(crate) fn error<A: Answer, const LINK: u32>(skb: *mut __sk_buff, message: Message) -> i32 {
    if A::icmp::<LINK>(skb, message).is_none() {
        return TC_ACT_SHOT;
    }
    count(Counter::ErrorSent as u32);
    redirect::back::<LINK>(skb)
}

/// Cuts or lengthens the packet and writes all of it behind the link header.
#[inline(always)]
fn replace<const LINK: u32, const N: usize>(skb: *mut __sk_buff, words: &[u32; N]) -> Option<()> {
    let size = (N * 4) as u32;
    // SAFETY: `skb` is the program's context, and the buffer is `size` bytes long.
    unsafe {
        if bpf_skb_change_tail(skb, LINK + size, 0) != 0 {
            return None;
        }
        (bpf_skb_store_bytes(skb, LINK, words.as_ptr().cast(), size, BPF_F_RECOMPUTE_CSUM) == 0).then_some(())
    }
}

/// The unfolded sum over words.
#[inline(always)]
fn sum<const N: usize>(words: &mut [u32; N], seed: u32) -> u32 {
    // SAFETY: the buffer is N words long.
    unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, words.as_mut_ptr(), (N * 4) as u32, seed) as u32 }
}

/// A u32 whose bytes stand in network order.
#[inline(always)]
const fn word(host: u32) -> u32 {
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

/// Fills in the checksum field, which is 0, in whatever state the packet's checksum is: the header's own sum counts
/// only where the sum is complete, the pseudo-header's always.
#[inline(always)]
fn finish_reset(skb: *mut __sk_buff, field: u32, header: u32, pseudo: u32) -> Option<()> {
    // SAFETY: `skb` is the program's context; the helper checks the offset.
    unsafe {
        if bpf_l4_csum_replace(skb, field, 0, header as u64, 0) != 0 {
            return None;
        }
        (bpf_l4_csum_replace(skb, field, 0, pseudo as u64, BPF_F_PSEUDO_HDR) == 0).then_some(())
    }
}

/// An IPv4 header's words, with checksum.
#[inline(always)]
fn ipv4_header(length: u32, ip_protocol: u8, source: V4, destination: V4) -> [u32; 5] {
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
        let [t0, t1, t2, t3, t4] = header;
        replace::<LINK, 10>(skb, &[i0, i1, i2, i3, i4, t0, t1, t2, t3, t4])?;
        let header = sum(&mut header, 0);
        let pseudo = sum(&mut [i3, i4, word((protocol::TCP as u32) << 16 | 20)], 0);
        finish_reset(skb, LINK + 36, header, pseudo)
    }

    #[inline(always)]
    fn icmp<const LINK: u32>(skb: *mut __sk_buff, message: Message) -> Option<()> {
        // The IP header without options and eight bytes: what RFC 792 asks for and Linux's receivers need.
        const QUOTE: usize = 7;
        let (kind, code, rest) = match message {
            Message::PortUnreachable => (3, 3, 0),
            Message::TooBig(mtu) => (3, 4, mtu & 0xffff),
            Message::TimeExceeded => (11, 0, 0),
        };
        let mut icmp = [0_u32; 2 + QUOTE];
        icmp[0] = word(kind << 24 | code << 16);
        icmp[1] = word(rest);
        // SAFETY: QUOTE words are left behind the first two.
        let read = unsafe {
            bpf_skb_load_bytes(
                skb.cast(),
                LINK,
                icmp.as_mut_ptr().add(2).cast(),
                (QUOTE * 4) as u32,
            )
        };
        if read != 0 {
            return None;
        }
        let (source, destination) = (V4(icmp[2 + 4]), V4(icmp[2 + 3]));
        let check = !checksum::fold(sum(&mut icmp, 0));
        icmp[0] |= if cfg!(target_endian = "little") {
            (check as u32) << 16
        } else {
            check as u32
        };
        let length = (20 + (2 + QUOTE) * 4) as u32;
        let [i0, i1, i2, i3, i4] = ipv4_header(length, protocol::ICMP, source, destination);
        let [c0, c1, c2, c3, c4, c5, c6, c7, c8] = icmp;
        replace::<LINK, 14>(skb, &[i0, i1, i2, i3, i4, c0, c1, c2, c3, c4, c5, c6, c7, c8])
    }
}

impl Answer for V6 {
    #[inline(always)]
    fn reset<const LINK: u32>(skb: *mut __sk_buff, packet: &Headers<V6>) -> Option<()> {
        let [s0, s1, s2, s3] = packet.destination.0;
        let [d0, d1, d2, d3] = packet.source.0;
        let mut header = reset_words(packet);
        let [t0, t1, t2, t3, t4] = header;
        let lengths = word(20 << 16 | (protocol::TCP as u32) << 8 | HOP_LIMIT as u32);
        let first = word(6 << 28);
        replace::<LINK, 15>(
            skb,
            &[first, lengths, s0, s1, s2, s3, d0, d1, d2, d3, t0, t1, t2, t3, t4],
        )?;
        let header = sum(&mut header, 0);
        let pseudo = [
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
        finish_reset(skb, LINK + 56, header, sum(&mut { pseudo }, 0))
    }

    #[inline(always)]
    fn icmp<const LINK: u32>(skb: *mut __sk_buff, message: Message) -> Option<()> {
        // The IPv6 header and eight bytes.
        const QUOTE: usize = 12;
        const LENGTH: u32 = ((2 + QUOTE) * 4) as u32;
        let (kind, code, rest) = match message {
            Message::PortUnreachable => (1, 4, 0),
            Message::TooBig(mtu) => (2, 0, mtu),
            Message::TimeExceeded => (3, 0, 0),
        };
        let mut words = [0_u32; 10 + 2 + QUOTE];
        words[0] = word(6 << 28);
        words[1] = word(LENGTH << 16 | (protocol::ICMPV6 as u32) << 8 | HOP_LIMIT as u32);
        words[10] = word(kind << 24 | code << 16);
        words[11] = word(rest);
        // SAFETY: QUOTE words are left behind the first twelve.
        let read = unsafe {
            bpf_skb_load_bytes(
                skb.cast(),
                LINK,
                words.as_mut_ptr().add(12).cast(),
                (QUOTE * 4) as u32,
            )
        };
        if read != 0 {
            return None;
        }
        // The quoted packet's source is the answer's destination, and the other way round.
        for n in 0..4 {
            words[2 + n] = words[12 + 6 + n];
            words[6 + n] = words[12 + 2 + n];
        }
        // The pseudo-header (RFC 8200 §8.1): addresses, length, next header.
        let seed = sum(&mut [word(LENGTH), word(protocol::ICMPV6 as u32)], 0);
        // SAFETY: the addresses and all behind them: 22 words from the third on.
        let total = unsafe {
            bpf_csum_diff(
                core::ptr::null_mut(),
                0,
                words.as_mut_ptr().add(2),
                (22 * 4) as u32,
                seed,
            ) as u32
        };
        let check = !checksum::fold(total);
        words[10] |= if cfg!(target_endian = "little") {
            (check as u32) << 16
        } else {
            check as u32
        };
        replace::<LINK, 24>(skb, &words)
    }
}
