//! Fragments that overtook the first of their datagram, which alone has the ports.
//!
//! A program can keep no packet. But it can send one back to the receiving side of its interface: there it stands in this CPU's
//! queue behind what has arrived meanwhile, and comes by again, so many times.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_ktime_get_ns, bpf_redirect},
};
use proxy_common::{layout::Counter, rules::limit};

use crate::{maps::AHEAD_LIMIT, node::count};

/// In `__sk_buff.tc_index`, the round in the low bits: this fragment has come by before.
const AGAIN: u32 = 0x4600;
/// How often it comes by after the first time.
const ROUNDS: u32 = 0xff;

/// Which round an index says that it is; 0 if a packet comes by for the first time.
#[inline(always)]
pub(crate) fn round(tc_index: u32) -> u32 {
    if tc_index & !ROUNDS == AGAIN {
        tc_index & ROUNDS
    } else {
        0
    }
}

/// Lets a fragment come in again; `None` if it has often enough. It must be as it came.
#[inline(always)]
pub(crate) fn again(skb: *mut __sk_buff, round: u32) -> Option<i32> {
    const BPF_F_INGRESS: u64 = 1;
    if round == ROUNDS || round == 0 && !is_admitted() {
        return None;
    }
    if round == 0 {
        count(Counter::FragmentAhead as u32);
    }
    // SAFETY: `skb` is the program's context.
    unsafe {
        (*skb).tc_index = AGAIN | (round + 1);
        Some(bpf_redirect((*skb).ifindex, BPF_F_INGRESS) as i32)
    }
}

/// Takes a fragment out of this CPU's bucket, if there is one left: who sends nothing but later fragments must not keep it busy.
#[inline(always)]
fn is_admitted() -> bool {
    let Some(full) = AHEAD_LIMIT.get_ptr_mut(0) else {
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
