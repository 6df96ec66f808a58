//! Reading a packet.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_load_bytes, bpf_skb_pull_data},
};
use proxy_common::rules::{
    Bytes, Work,
    headers::{Parsed, Readable},
};

use crate::global;

/// `__sk_buff.gso_size` of a packet that is a list of packets, as SCTP's long ones are (GSO_BY_FRAGS of linux/skbuff.h).
pub(crate) const GSO_BY_FRAGMENTS: u32 = 0xffff;

/// A packet, behind `LINK` bytes of link-layer header.
pub(crate) struct Packet<const LINK: u32> {
    skb: *mut __sk_buff,
}

impl<const LINK: u32> Packet<LINK> {
    /// One whose headers [`Self::new`] has made readable.
    #[inline(always)]
    pub(crate) fn with(skb: *mut __sk_buff) -> Self {
        Self { skb }
    }

    /// Makes the headers readable in place: a GRO packet may hold them in a page of its own.
    #[inline(always)]
    pub(crate) fn new(skb: *mut __sk_buff) -> Self {
        // Link, IPv6 and TCP headers: what the fast path reads directly.
        const HEADERS: u32 = 74;
        // SAFETY: `skb` is the program's context.
        unsafe {
            let linear = (*skb).data_end.wrapping_sub((*skb).data);
            // Of a list of packets, the first would give its first bytes to the headers of all.
            if linear < HEADERS && linear < (*skb).len && (*skb).gso_size != GSO_BY_FRAGMENTS {
                let wanted = if (*skb).len < HEADERS { (*skb).len } else { HEADERS };
                // If it fails, reads fall back to the helper.
                let _pulled = bpf_skb_pull_data(skb, wanted);
            }
        }
        Self { skb }
    }
}

impl<const LINK: u32> Bytes for Packet<LINK> {
    #[inline(always)]
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        self.glance(offset).or_else(|| self.copied(offset))
    }

    #[inline(always)]
    fn read<A: Readable>(&self, work: &mut Work<A>) -> Parsed {
        global::lend(work);
        global::read::<LINK>(self.skb, A::FAMILY)
    }

    #[inline(always)]
    fn read_quoted<A: Readable>(&self, work: &mut Work<A>) -> bool {
        global::lend(work);
        global::read_quoted::<LINK>(self.skb, A::FAMILY)
    }

    #[inline(always)]
    fn copied<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        let size = N * 4;
        let mut words = [0_u32; N];
        // SAFETY: the buffer is `size` bytes long.
        let result = unsafe {
            bpf_skb_load_bytes(
                self.skb.cast(),
                LINK.wrapping_add(offset),
                words.as_mut_ptr().cast(),
                size as u32,
            )
        };
        (result == 0).then_some(words)
    }

    #[inline(always)]
    fn glance<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        // SAFETY: `skb` is the program's context; the verifier checks the bounds that are compared here, and BPF loads
        // need no alignment.
        unsafe {
            let start = (*self.skb).data as usize + (LINK + offset) as usize;
            (start + N * 4 <= (*self.skb).data_end as usize).then(|| *(start as *const [u32; N]))
        }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: `skb` is the program's context.
        unsafe { (*self.skb).len }.saturating_sub(LINK)
    }
}
