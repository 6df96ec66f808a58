//! The size of segments that a client is told to send, where they will be handed on in an outer header.

use aya_ebpf::bindings::__sk_buff;
use proxy_common::{
    layout::protocol,
    rules::{Headers, Work, checksum, headers::Readable, segment},
};

use crate::{
    node::interface_mtu,
    rewrite::{self, Rewrite},
    skb::Packet,
};

/// Bytes of a TCP header.
const TCP_HEADER: u32 = 20;

/// Lowers what an answer to an opening says of its sender, if another node handed the opening on: what the client sends comes the
/// same way, and must fit with the outer header. `None` if the kernel refused.
#[inline(always)]
pub(crate) fn leave_room<A: Rewrite + Readable, const LINK: u32>(
    skb: *mut __sk_buff,
    work: &Work<A>,
) -> Option<()> {
    let by = work.flow.via.interface();
    if by == 0 || work.packet.protocol != protocol::TCP || !work.packet.answers() {
        return Some(());
    }
    (lower::<A, LINK>(skb, &work.packet, by) == 0).then_some(())
}

/// 0, or -1 if the kernel refused. Not inlined: others need the stack.
#[inline(never)]
fn lower<A: Rewrite + Readable, const LINK: u32>(
    skb: *mut __sk_buff,
    packet: &Headers<A>,
    interface: u32,
) -> i32 {
    // Outer header, header, TCP's.
    let headers = 2 * A::HEADER + TCP_HEADER;
    let mtu = interface_mtu(interface);
    let Some(said) = segment::said(&Packet::<LINK>::with(skb), packet) else {
        return 0;
    };
    if mtu <= headers || said.size as u32 <= mtu - headers {
        return 0;
    }
    let most = (mtu - headers) as u16;
    let (mut old, mut new) = (said.size.to_be(), most.to_be());
    if rewrite::store(skb, LINK.wrapping_add(said.offset), &new).is_none() {
        return -1;
    }
    if said.offset & 1 != 0 {
        // Each byte stands in the other half of a word of the sum.
        (old, new) = (old.swap_bytes(), new.swap_bytes());
    }
    let field = LINK.wrapping_add(packet.transport).wrapping_add(16);
    let difference = checksum::difference(old as u32, new as u32);
    match rewrite::fix_checksum(skb, field, difference, 0) {
        Some(()) => 0,
        None => -1,
    }
}
