//! Frames of the agent's own, by which it sees that what passes an interface comes to a program there.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use proxy_common::{
    layout::{PROBE_ETHERTYPE, ProbeKey, ProbeSide},
    rules::Bytes,
};

use crate::{maps::PROBES, skb::Packet};

/// The protocol as `__sk_buff.protocol` shows it.
pub(crate) const PROTOCOL: u32 = PROBE_ETHERTYPE.to_be() as u32;

/// Notes that a frame has arrived, and ends it. Others' frames of that protocol go on.
#[inline(never)]
pub(crate) fn arrived<const LINK: u32>(skb: *mut __sk_buff, is_egress: u32) -> i32 {
    let side = if is_egress == 0 {
        ProbeSide::Ingress
    } else {
        ProbeSide::Egress
    };
    // SAFETY: `skb` is the program's context.
    let key = ProbeKey::new(unsafe { (*skb).ifindex }, side);
    let Some(awaited) = PROBES.get_ptr_mut(key) else {
        return TC_ACT_UNSPEC;
    };
    // Behind the interface and the direction that the frame was sent by.
    let Some([token]) = Packet::<LINK>::with(skb).copied::<1>(8) else {
        return TC_ACT_UNSPEC;
    };
    // SAFETY: the map's values are aligned words; the agent writes one before it sends a frame, and reads it after.
    unsafe {
        if token == 0 || *awaited != token {
            return TC_ACT_UNSPEC;
        }
        *awaited = 0;
    }
    TC_ACT_SHOT
}
