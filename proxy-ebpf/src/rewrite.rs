//! Writing a translation into a packet.
//!
//! Whether the packet's transport checksum is complete, or a partial one that the hardware will finish, can't be read
//! here: the helper knows, so it alone touches that field. Addresses, ports and the IPv4 header's checksum are
//! written directly.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_l4_csum_replace};
use proxy_common::{
    layout::{Addr, CONFIG_CHECKSUM_IPV6, Family, Flow, V4, V6, protocol},
    rules::{Headers, checksum, headers::Fragment},
};

/// The difference concerns the pseudo-header as well.
const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
/// UDP: a field of 0 (no checksum) stays, a computed 0 becomes 0xffff.
const BPF_F_MARK_MANGLED_0: u64 = 1 << 5;
/// IPv6 under CHECKSUM_COMPLETE: no IP checksum makes up for the new addresses (Linux 6.16).
const BPF_F_IPV6: u64 = 1 << 7;

/// Writes an address family's header.
pub(crate) trait Rewrite: Addr {
    /// Replaces both addresses; IPv4: also fixes the header's checksum. `None` beyond the packet's end.
    fn write_addresses<const LINK: u32>(
        skb: *mut __sk_buff,
        old: &Headers<Self>,
        new: &Flow<Self>,
    ) -> Option<()>;
    /// Lowers the hop limit by one. `None` beyond the packet's end.
    fn lower_hop_limit<const LINK: u32>(skb: *mut __sk_buff) -> Option<()>;
}

/// A pointer to `T` at an offset into the packet; `None` beyond the end.
#[inline(always)]
pub(crate) fn at<T>(skb: *mut __sk_buff, offset: u32) -> Option<*mut T> {
    // SAFETY: `skb` is the program's context; the verifier checks the bounds that are compared here.
    unsafe {
        let start = (*skb).data as usize + offset as usize;
        (start + size_of::<T>() <= (*skb).data_end as usize).then_some(start as *mut T)
    }
}

impl Rewrite for V4 {
    #[inline(always)]
    fn write_addresses<const LINK: u32>(
        skb: *mut __sk_buff,
        old: &Headers<V4>,
        new: &Flow<V4>,
    ) -> Option<()> {
        let header = at::<[u16; 10]>(skb, LINK)?;
        let difference =
            checksum::address_difference((&old.source, &old.destination), (&new.source, &new.destination));
        // SAFETY: `at` checked the bounds; BPF needs no alignment.
        unsafe {
            (*header)[5] = checksum::update((*header)[5], difference);
            let addresses = header.cast::<[u32; 5]>();
            (*addresses)[3] = new.source.0;
            (*addresses)[4] = new.destination.0;
        }
        Some(())
    }

    #[inline(always)]
    fn lower_hop_limit<const LINK: u32>(skb: *mut __sk_buff) -> Option<()> {
        let header = at::<[u16; 10]>(skb, LINK)?;
        // SAFETY: `at` checked the bounds; BPF needs no alignment.
        unsafe {
            let old = (*header)[4];
            let [hop_limit, next] = old.to_ne_bytes();
            let new = u16::from_ne_bytes([hop_limit.wrapping_sub(1), next]);
            (*header)[4] = new;
            (*header)[5] = checksum::update((*header)[5], checksum::difference(old as u32, new as u32));
        }
        Some(())
    }
}

impl Rewrite for V6 {
    #[inline(always)]
    fn write_addresses<const LINK: u32>(
        skb: *mut __sk_buff,
        _old: &Headers<V6>,
        new: &Flow<V6>,
    ) -> Option<()> {
        let header = at::<[u32; 10]>(skb, LINK)?;
        // SAFETY: `at` checked the bounds; BPF needs no alignment.
        unsafe {
            let addresses = header.cast::<[u32; 2]>().add(1).cast::<[[u32; 4]; 2]>();
            (*addresses)[0] = new.source.0;
            (*addresses)[1] = new.destination.0;
        }
        Some(())
    }

    #[inline(always)]
    fn lower_hop_limit<const LINK: u32>(skb: *mut __sk_buff) -> Option<()> {
        let header = at::<[u8; 40]>(skb, LINK)?;
        // SAFETY: `at` checked the bounds.
        unsafe { (*header)[7] = (*header)[7].wrapping_sub(1) };
        Some(())
    }
}

/// Writes a translation into a packet; `None` if the kernel refused.
#[inline(always)]
pub(crate) fn translate<A: Rewrite, const LINK: u32>(
    skb: *mut __sk_buff,
    config_flags: u32,
    old: &Headers<A>,
    new: &Flow<A>,
) -> Option<()> {
    A::write_addresses::<LINK>(skb, old, new)?;
    if old.fragment == Fragment::Later {
        return Some(());
    }
    let transport = LINK + old.transport;
    write_ports(skb, transport, old, new)?;
    let (field, mangled) = match old.protocol {
        protocol::TCP => (transport + 16, 0),
        _ => (transport + 6, BPF_F_MARK_MANGLED_0),
    };
    let family = match A::FAMILY {
        Family::V6 if config_flags & CONFIG_CHECKSUM_IPV6 != 0 => BPF_F_IPV6,
        _ => 0,
    };
    let addresses =
        checksum::address_difference((&old.source, &old.destination), (&new.source, &new.destination));
    let ports = checksum::port_difference(
        (old.source_port, old.destination_port),
        (new.source_port, new.destination_port),
    );
    // SAFETY: `skb` is the program's context; the helper checks the offset.
    let fix = |difference: u32, flags: u64| unsafe {
        (bpf_l4_csum_replace(skb, field, 0, difference as u64, flags) == 0).then_some(())
    };
    fix(addresses, BPF_F_PSEUDO_HDR | mangled | family)?;
    if same_ports(old, new) {
        Some(())
    } else {
        fix(ports, mangled)
    }
}

#[inline(always)]
fn same_ports<A: Addr>(old: &Headers<A>, new: &Flow<A>) -> bool {
    old.source_port == new.source_port && old.destination_port == new.destination_port
}

#[inline(always)]
fn write_ports<A: Addr>(skb: *mut __sk_buff, transport: u32, old: &Headers<A>, new: &Flow<A>) -> Option<()> {
    if same_ports(old, new) {
        return Some(());
    }
    let ports = [new.source_port.wire(), new.destination_port.wire()];
    // SAFETY: `skb` is the program's context; the helper checks the offset, and the buffer has 4 bytes.
    let result = unsafe {
        aya_ebpf::helpers::generated::bpf_skb_store_bytes(skb, transport, ports.as_ptr().cast(), 4, 0)
    };
    (result == 0).then_some(())
}
