//! ICMP errors about packets that go no further, made out of the packet itself.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    helpers::generated::{bpf_csum_diff, bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_skb_store_bytes},
};
use proxy_common::{
    layout::{Addr, Counter, V4, V6, protocol},
    rules::{checksum, limit},
};

use crate::{
    answer::{BPF_F_RECOMPUTE_CSUM, HOP_LIMIT, blank, ipv4_header, sum, word},
    maps::{ERROR_LIMIT, WORK_ERROR},
    node::count,
    redirect,
};

/// Words of the workspace: the longest error, and room to sum it up in whole pieces.
pub(crate) const WORDS: usize = 400;
/// Bytes that bpf_csum_diff takes at a time.
const PIECE: u32 = 512;
/// Bytes of an ICMP header.
const ICMP_HEADER: u32 = 8;

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

/// An address family's ICMP.
pub(crate) trait Errors: Addr {
    /// Bytes of the network header.
    const HEADER: u32;
    /// Bytes of the longest error: all hosts take that much (RFC 1812 §4.3.2.3, RFC 4443 §2.4).
    const LONGEST: u32;
    /// Type and code, in the high half of the first word of an ICMP header; and the second word.
    fn words(message: Message) -> (u32, u32);
    /// Writes the network header of the answer to the packet that is quoted behind ICMP's header, in front of so many
    /// bytes. Gives the sum of what ICMP's checksum covers of it.
    fn write_header(error: &mut [u32; WORDS], length: u32) -> u32;
}

impl Errors for V4 {
    const HEADER: u32 = 20;
    const LONGEST: u32 = 576;

    #[inline(always)]
    fn words(message: Message) -> (u32, u32) {
        match message {
            Message::PortUnreachable => (3 << 24 | 3 << 16, 0),
            Message::TooBig(mtu) => (3 << 24 | 4 << 16, mtu & 0xffff),
            Message::TimeExceeded => (11 << 24, 0),
        }
    }

    #[inline(always)]
    fn write_header(error: &mut [u32; WORDS], length: u32) -> u32 {
        // The quoted packet's source is the answer's destination, and the other way round.
        let (source, destination) = (V4(error[7 + 4]), V4(error[7 + 3]));
        let header = ipv4_header(Self::HEADER + length, protocol::ICMP, source, destination);
        for (to, from) in error.iter_mut().zip(header) {
            *to = from;
        }
        0
    }
}

impl Errors for V6 {
    const HEADER: u32 = 40;
    const LONGEST: u32 = 1280;

    #[inline(always)]
    fn words(message: Message) -> (u32, u32) {
        match message {
            Message::PortUnreachable => (1 << 24 | 4 << 16, 0),
            Message::TooBig(mtu) => (2 << 24, mtu),
            Message::TimeExceeded => (3 << 24, 0),
        }
    }

    #[inline(always)]
    fn write_header(error: &mut [u32; WORDS], length: u32) -> u32 {
        error[0] = word(6 << 28);
        error[1] = word(length << 16 | (protocol::ICMPV6 as u32) << 8 | HOP_LIMIT as u32);
        for n in 0..4 {
            error[2 + n] = error[12 + 6 + n];
            error[6 + n] = error[12 + 2 + n];
        }
        // The pseudo-header (RFC 8200 §8.1): addresses, length, next header.
        let seed = sum(&mut [word(length), word(protocol::ICMPV6 as u32)], 0);
        let [_, _, a, b, c, d, e, f, g, h, ..] = *error;
        sum(&mut [a, b, c, d, e, f, g, h], seed)
    }
}

/// Answers a packet with an ICMP error.
#[inline(always)]
pub(crate) fn answer<A: Errors, const LINK: u32>(
    skb: *mut __sk_buff,
    transport: u32,
    message: Message,
) -> i32 {
    if turn::<A, LINK>(skb, transport, message).is_none() {
        return TC_ACT_SHOT;
    }
    count(Counter::ErrorSent as u32);
    redirect::back::<LINK>(skb)
}

/// Turns a packet, whose transport header begins at `transport`, into an ICMP error that quotes it. `None` if the kernel
/// refused, or if this CPU has sent too many.
#[inline(always)]
pub(crate) fn turn<A: Errors, const LINK: u32>(
    skb: *mut __sk_buff,
    transport: u32,
    message: Message,
) -> Option<()> {
    if !matches!(message, Message::TooBig(_)) && !is_admitted() {
        count(Counter::ErrorLimited as u32);
        return None;
    }
    let (first, second) = A::words(message);
    // Plain numbers, and no more than five of them: the function is not inlined.
    (write::<A, LINK>(skb, transport, first, second) == 0).then_some(())
}

/// Takes an error out of this CPU's bucket, if there is one left.
#[inline(always)]
fn is_admitted() -> bool {
    let Some(full) = ERROR_LIMIT.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the helper has no preconditions; the value is this CPU's own, and map values live as long as the program.
    unsafe {
        match limit::admit(*full, bpf_ktime_get_ns()) {
            Some(next) => {
                *full = next;
                true
            }
            None => false,
        }
    }
}

/// A number that is within its bounds. The verifier must see that just before the number is used, and the compiler, which
/// knows it from before, must not leave the look out.
#[inline(always)]
fn bounded(number: u32, least: u32, most: u32) -> Option<u32> {
    // SAFETY: it is a variable of this function.
    let number = unsafe { read_volatile(&raw const number) };
    (number >= least && number <= most).then_some(number)
}

/// 0, or -1 if the kernel refused.
#[inline(never)]
fn write<A: Errors, const LINK: u32>(skb: *mut __sk_buff, transport: u32, first: u32, second: u32) -> i32 {
    let Some(error) = WORK_ERROR.get_ptr_mut(0) else {
        return -1;
    };
    // SAFETY: the value is this CPU's own, and no other TC program runs on it before this one returns.
    let error = unsafe { &mut *error };
    let headers = A::HEADER + ICMP_HEADER;
    // Whole words, so that the sum has no odd end.
    // SAFETY: `skb` is the program's context.
    let length = unsafe { (*skb).len }.saturating_sub(LINK) & !3;
    let quoted = if length > A::LONGEST - headers {
        A::LONGEST - headers
    } else {
        length
    };
    let Some(quoted) = bounded(quoted, A::HEADER, A::LONGEST - headers) else {
        return -1;
    };
    let start = (headers / 4) as usize;
    // SAFETY: the workspace is longer than the longest error.
    let read = unsafe { bpf_skb_load_bytes(skb.cast(), LINK, error.as_mut_ptr().add(start).cast(), quoted) };
    if read != 0 {
        return -1;
    }
    let length = ICMP_HEADER + quoted;
    let seed = A::write_header(error, length);
    let icmp = (A::HEADER / 4) as usize;
    error[icmp] = word(first);
    error[icmp + 1] = word(second);
    let check = !checksum::fold(sum_of(error, icmp, length, seed));
    error[icmp] |= if cfg!(target_endian = "little") {
        (check as u32) << 16
    } else {
        check as u32
    };
    let size = A::HEADER + length;
    if blank::<LINK>(skb, transport, size).is_none() {
        return -1;
    }
    let Some(size) = bounded(size, headers, A::LONGEST) else {
        return -1;
    };
    // SAFETY: the workspace is longer than the longest error.
    let stored = unsafe { bpf_skb_store_bytes(skb, LINK, error.as_ptr().cast(), size, BPF_F_RECOMPUTE_CSUM) };
    if stored == 0 { 0 } else { -1 }
}

/// The unfolded sum over `length` bytes from a word on, by pieces that older kernels take as well.
#[inline(always)]
fn sum_of(error: &mut [u32; WORDS], from: usize, length: u32, seed: u32) -> u32 {
    let mut total = seed;
    for piece in 0..3 {
        let done = piece * PIECE;
        if length <= done {
            break;
        }
        let rest = length - done;
        let size = if rest > PIECE { PIECE } else { rest };
        // SAFETY: three pieces behind the longest header are within the workspace.
        total = unsafe {
            let start = error.as_mut_ptr().add(from + (done / 4) as usize);
            bpf_csum_diff(core::ptr::null_mut(), 0, start, size, total) as u32
        };
    }
    total
}
