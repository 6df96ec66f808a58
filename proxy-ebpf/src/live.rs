//! Frames for the bench of packets a second: a program that makes them, and programs at the other end that count them.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action, xdp_md},
    helpers::generated::bpf_redirect,
    macros::map,
    maps::{Array, PerCpuArray},
};
use proxy_common::{
    layout::protocol,
    rules::checksum::{difference, translated},
};

use crate::{ETHERNET, rewrite};

/// Words of a frame: the shortest that Ethernet has.
const WORDS: usize = 15;
/// Where the source port and the checksum of UDP stand in a frame, in halves of a word.
const SOURCE_PORT: usize = 17;
const CHECKSUM: usize = 20;

/// What the frames look like, as the bench writes it; in memory order where it says nothing.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// A whole frame of UDP over IPv4, with the source port 0.
    frame: [u32; WORDS],
    /// The interface that frames are sent out of. Machine order.
    interface: u32,
    /// The first source port, and how many there are. Machine order.
    first_port: u32,
    ports: u32,
    /// Source and destination by which the frames are known where they arrive.
    source: u32,
    destination: u32,
    destination_port: u32,
}

#[map]
static SHAPE: Array<Shape> = Array::with_max_entries(1, 0);
/// How many frames this CPU has made.
#[map]
static MADE: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);
/// How many frames have arrived.
#[map]
static ARRIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Makes the next frame and sends it.
#[inline(always)]
pub(crate) fn make(md: *mut xdp_md) -> u32 {
    let (Some(shape), Some(made)) = (SHAPE.get(0), MADE.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: `md` is the program's context, the verifier checks the bounds that are compared here, and the counter is this
    // CPU's own; BPF needs no alignment.
    unsafe {
        let start = (*md).data as usize;
        if start + WORDS * 4 > (*md).data_end as usize || shape.ports == 0 {
            return xdp_action::XDP_ABORTED;
        }
        let port = (shape.first_port + *made % shape.ports) as u16;
        *made = (*made).wrapping_add(1);
        let port = port.to_be();
        *(start as *mut [u32; WORDS]) = shape.frame;
        let halves = start as *mut [u16; WORDS * 2];
        (*halves)[SOURCE_PORT] = port;
        (*halves)[CHECKSUM] = translated((*halves)[CHECKSUM], difference(0, port as u32), true);
        bpf_redirect(shape.interface, 0) as u32
    }
}

/// Whether it is one of ours that has come where it is to come: if so, it is counted.
#[inline(always)]
fn arrives(words: &[u32; 6]) -> bool {
    let Some(shape) = SHAPE.get(0) else { return false };
    let [first, _, third, source, destination, ports] = *words;
    let is_ours = u32::from_be(first) >> 24 == 0x45
        && (u32::from_be(third) >> 16) as u8 == protocol::UDP
        && source == shape.source
        && destination == shape.destination
        && (ports >> 16) == shape.destination_port;
    if is_ours && let Some(arrived) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: the slot is this CPU's own.
        unsafe { *arrived += 1 }
    }
    is_ours
}

/// Counts and drops them at TC.
#[inline(always)]
pub(crate) fn sink(skb: *mut __sk_buff) -> i32 {
    match rewrite::at::<[u32; 6]>(skb, ETHERNET) {
        // SAFETY: `at` checked the bounds; BPF needs no alignment.
        Some(words) if arrives(unsafe { &*words }) => TC_ACT_SHOT,
        _ => TC_ACT_UNSPEC,
    }
}

/// Counts and drops them at XDP.
#[inline(always)]
pub(crate) fn xdp_sink(md: *mut xdp_md) -> u32 {
    // SAFETY: `md` is the program's context, and the verifier checks the bounds that are compared here; BPF needs no alignment.
    unsafe {
        let start = (*md).data as usize + ETHERNET as usize;
        if start + 24 <= (*md).data_end as usize && arrives(&*(start as *const [u32; 6])) {
            return xdp_action::XDP_DROP;
        }
    }
    xdp_action::XDP_PASS
}
