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
fn round(tc_index: u32) -> u32 {
    if tc_index & !ROUNDS == AGAIN {
        tc_index & ROUNDS
    } else {
        0
    }
}

/// What [`again`] gives if a fragment has come in often enough.
pub(crate) const ENOUGH: i32 = i32::MIN;

/// Lets a fragment come in again, or gives [`ENOUGH`]. It must be as it came. Not inlined: others need the stack.
#[inline(never)]
pub(crate) fn again(skb: *mut __sk_buff) -> i32 {
    const BPF_F_INGRESS: u64 = 1;
    // SAFETY: `skb` is the program's context.
    let round = round(unsafe { (*skb).tc_index });
    if round == ROUNDS || round == 0 && !is_admitted() {
        found(skb);
        return ENOUGH;
    }
    if round == 0 {
        count(Counter::FragmentAhead as u32);
    }
    // SAFETY: `skb` is the program's context.
    unsafe {
        (*skb).tc_index = AGAIN | (round + 1);
        bpf_redirect((*skb).ifindex, BPF_F_INGRESS) as i32
    }
}

/// A fragment that has come by before is as any other from here on.
#[inline(always)]
pub(crate) fn found(skb: *mut __sk_buff) {
    // SAFETY: `skb` is the program's context.
    unsafe {
        if round((*skb).tc_index) != 0 {
            (*skb).tc_index = 0;
        }
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
