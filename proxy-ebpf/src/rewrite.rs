//! Writing a translation into a packet.
//!
//! Whether the packet's transport checksum is complete, or a partial one that the hardware will finish, can't be read
//! here: the helper knows, so it alone touches that field. Addresses, ports and the IPv4 header's checksum are
//! written directly.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_csum_update, bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes},
};
use proxy_common::{
    layout::{Addr, CONFIG_CHECKSUM_IPV6, Family, Flow, V4, V6, protocol},
    rules::{
        Headers, Work, checksum, crc32c,
        headers::{Fragment, Readable},
        quote::Said,
    },
};

/// The difference concerns the pseudo-header as well.
const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
/// Keeps a sum that the NIC took over the whole right while bytes are stored.
const BPF_F_RECOMPUTE_CSUM: u64 = 1;
/// UDP: a field of 0 (no checksum) stays, a computed 0 becomes 0xffff.
const BPF_F_MARK_MANGLED_0: u64 = 1 << 5;
/// IPv6 under CHECKSUM_COMPLETE: no IP checksum makes up for the new addresses (Linux 6.16).
const BPF_F_IPV6: u64 = 1 << 7;

/// Writes an address family's header.
pub(crate) trait Rewrite: Addr {
    /// Replaces source and destination; IPv4: also fixes the header's checksum. `None` beyond the packet's end.
    fn write_addresses<const LINK: u32>(
        skb: *mut __sk_buff,
        old: (&Self, &Self),
        new: (&Self, &Self),
    ) -> Option<()>;
    /// The same in the packet that an ICMP error quotes, whose header begins at `offset`. `None` if the kernel refused.
    fn write_quoted(skb: *mut __sk_buff, offset: u32, old: &Said<Self>, new: &Said<Self>) -> Option<()>;
    /// Writes the hop limit. `None` beyond the packet's end.
    fn set_hop_limit<const LINK: u32>(skb: *mut __sk_buff, hop_limit: u8) -> Option<()>;
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
    fn write_addresses<const LINK: u32>(skb: *mut __sk_buff, old: (&V4, &V4), new: (&V4, &V4)) -> Option<()> {
        let header = at::<[u16; 10]>(skb, LINK)?;
        let difference = checksum::address_difference(old, new);
        // SAFETY: `at` checked the bounds; BPF needs no alignment.
        unsafe {
            (*header)[5] = checksum::update((*header)[5], difference);
            let addresses = header.cast::<[u32; 5]>();
            (*addresses)[3] = new.0.0;
            (*addresses)[4] = new.1.0;
        }
        Some(())
    }

    #[inline(always)]
    fn write_quoted(skb: *mut __sk_buff, offset: u32, old: &Said<V4>, new: &Said<V4>) -> Option<()> {
        // From the header's checksum on.
        const FIELD: u32 = 10;
        let mut bytes = [0_u16; 5];
        // SAFETY: `skb` is the program's context; the helper checks the offset, and the buffer has 2 bytes.
        let read = unsafe { bpf_skb_load_bytes(skb.cast(), offset + FIELD, bytes.as_mut_ptr().cast(), 2) };
        if read != 0 {
            return None;
        }
        let difference = checksum::address_difference(old.addresses, new.addresses);
        let [check, ..] = bytes;
        let (source, destination) = (new.addresses.0.octets(), new.addresses.1.octets());
        let [a, b, c, d] = source;
        let [e, f, g, h] = destination;
        let half = |high, low| u16::from_ne_bytes([high, low]);
        let check = checksum::update(check, difference);
        store(
            skb,
            offset + FIELD,
            &[check, half(a, b), half(c, d), half(e, f), half(g, h)],
        )
    }

    #[inline(always)]
    fn set_hop_limit<const LINK: u32>(skb: *mut __sk_buff, hop_limit: u8) -> Option<()> {
        let header = at::<[u16; 10]>(skb, LINK)?;
        // SAFETY: `at` checked the bounds; BPF needs no alignment.
        unsafe {
            let old = (*header)[4];
            let [_, next] = old.to_ne_bytes();
            let new = u16::from_ne_bytes([hop_limit, next]);
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
        _old: (&V6, &V6),
        new: (&V6, &V6),
    ) -> Option<()> {
        let header = at::<[u32; 10]>(skb, LINK)?;
        // SAFETY: `at` checked the bounds; BPF needs no alignment.
        unsafe {
            let addresses = header.cast::<[u32; 2]>().add(1).cast::<[[u32; 4]; 2]>();
            (*addresses)[0] = new.0.0;
            (*addresses)[1] = new.1.0;
        }
        Some(())
    }

    #[inline(always)]
    fn write_quoted(skb: *mut __sk_buff, offset: u32, _old: &Said<V6>, new: &Said<V6>) -> Option<()> {
        // The addresses stand behind the first eight bytes.
        store(skb, offset + 8, new.addresses.0)?;
        store(skb, offset + 24, new.addresses.1)
    }

    #[inline(always)]
    fn set_hop_limit<const LINK: u32>(skb: *mut __sk_buff, hop_limit: u8) -> Option<()> {
        let header = at::<[u16; 20]>(skb, LINK)?;
        // SAFETY: `at` checked the bounds; BPF needs no alignment.
        let (old, new) = unsafe {
            let old = (*header)[3];
            let [next, _] = old.to_ne_bytes();
            let new = u16::from_ne_bytes([next, hop_limit]);
            (*header)[3] = new;
            (old, new)
        };
        // No checksum in the packet makes up for it: a sum that the NIC took over the whole must follow.
        let difference = checksum::difference(old as u32, new as u32);
        // SAFETY: `skb` is the program's context; without such a sum the helper does nothing, and says so.
        let _is_summed = unsafe { bpf_csum_update(skb, difference) };
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
    A::write_addresses::<LINK>(
        skb,
        (&old.source, &old.destination),
        (&new.source, &new.destination),
    )?;
    if old.fragment == Fragment::Later {
        return Some(());
    }
    let transport = LINK + old.transport;
    if old.protocol == protocol::SCTP {
        return translate_sctp(skb, transport, old, new);
    }
    write_ports(skb, transport, old, new)?;
    fix_transport(skb, transport, config_flags, old, new)
}

/// The checksum of a TCP or UDP packet whose addresses and ports were written.
#[inline(always)]
fn fix_transport<A: Rewrite>(
    skb: *mut __sk_buff,
    transport: u32,
    config_flags: u32,
    old: &Headers<A>,
    new: &Flow<A>,
) -> Option<()> {
    let (field, mangled) = match old.protocol {
        protocol::TCP => (transport + 16, 0),
        _ => (transport + 6, BPF_F_MARK_MANGLED_0),
    };
    let family = family_flag::<A>(config_flags);
    let addresses =
        checksum::address_difference((&old.source, &old.destination), (&new.source, &new.destination));
    let ports = checksum::port_difference(
        (old.source_port, old.destination_port),
        (new.source_port, new.destination_port),
    );
    fix_checksum(skb, field, addresses, BPF_F_PSEUDO_HDR | mangled | family)?;
    if same_ports(old, new) {
        Some(())
    } else {
        fix_checksum(skb, field, ports, mangled)
    }
}

/// [`translate`] of a whole TCP or UDP packet whose network header has no options.
#[inline(always)]
pub(crate) fn translate_plain<A: Rewrite + Readable, const LINK: u32>(
    skb: *mut __sk_buff,
    config_flags: u32,
    old: &Headers<A>,
    new: &Flow<A>,
) -> Option<()> {
    let transport = LINK + A::HEADER;
    A::write_addresses::<LINK>(
        skb,
        (&old.source, &old.destination),
        (&new.source, &new.destination),
    )?;
    let ports = at::<[u16; 2]>(skb, transport)?;
    // SAFETY: `at` checked the bounds; BPF needs no alignment.
    unsafe { *ports = [new.source_port.wire(), new.destination_port.wire()] }
    fix_transport(skb, transport, config_flags, old, new)
}

/// SCTP's checksum covers its own packet alone: of a translation the ports.
#[inline(always)]
fn translate_sctp<A: Rewrite>(
    skb: *mut __sk_buff,
    transport: u32,
    old: &Headers<A>,
    new: &Flow<A>,
) -> Option<()> {
    if A::FAMILY == Family::V6 {
        // Nothing in the packet makes up for new addresses: a sum that the NIC took over the whole must follow.
        let difference =
            checksum::address_difference((&old.source, &old.destination), (&new.source, &new.destination));
        // SAFETY: `skb` is the program's context; without such a sum the helper does nothing, and says so.
        let _is_summed = unsafe { bpf_csum_update(skb, difference) };
    }
    if same_ports(old, new) {
        return Some(());
    }
    let length = old.length.wrapping_sub(old.transport);
    // Plain numbers, because the function is not inlined.
    (write_sctp(
        skb,
        transport,
        new.source_port.wire(),
        new.destination_port.wire(),
        length,
    ) == 0)
        .then_some(())
}

/// Writes an SCTP packet's ports and its checksum. Where hardware is to compute the checksum, the field says nothing yet,
/// and what it says now is overwritten. 0, or -1 if the kernel refused.
#[inline(never)]
fn write_sctp(skb: *mut __sk_buff, transport: u32, source: u16, destination: u16, length: u32) -> i32 {
    const SIZE: u32 = 12;
    let mut header = [0_u32; 3];
    // SAFETY: `skb` is the program's context; the helper checks the offset, and the buffer has 12 bytes.
    let read = unsafe { bpf_skb_load_bytes(skb.cast(), transport, header.as_mut_ptr().cast(), SIZE) };
    if read != 0 {
        return -1;
    }
    let [old, tag, field] = header;
    let new = if cfg!(target_endian = "little") {
        (destination as u32) << 16 | source as u32
    } else {
        (source as u32) << 16 | destination as u32
    };
    let header = [new, tag, crc32c::update(field, old, new, length)];
    // SAFETY: as above.
    let stored =
        unsafe { bpf_skb_store_bytes(skb, transport, header.as_ptr().cast(), SIZE, BPF_F_RECOMPUTE_CSUM) };
    if stored == 0 { 0 } else { -1 }
}

#[inline(always)]
fn family_flag<A: Addr>(config_flags: u32) -> u64 {
    match A::FAMILY {
        Family::V6 if config_flags & CONFIG_CHECKSUM_IPV6 != 0 => BPF_F_IPV6,
        _ => 0,
    }
}

#[inline(always)]
pub(crate) fn fix_checksum(skb: *mut __sk_buff, field: u32, difference: u32, flags: u64) -> Option<()> {
    // SAFETY: `skb` is the program's context; the helper checks the offset.
    let result = unsafe { bpf_l4_csum_replace(skb, field, 0, difference as u64, flags) };
    (result == 0).then_some(())
}

/// Writes bytes into a packet without a look at checksums; `None` if the kernel refused.
#[inline(always)]
pub(crate) fn store<T>(skb: *mut __sk_buff, offset: u32, bytes: &T) -> Option<()> {
    // SAFETY: `skb` is the program's context; the helper checks the offset, and the buffer is as long as said.
    let result =
        unsafe { bpf_skb_store_bytes(skb, offset, (bytes as *const T).cast(), size_of::<T>() as u32, 0) };
    (result == 0).then_some(())
}

/// Translates an ICMP error and the packet that it quotes; `None` if the kernel refused.
///
/// In an IPv4 header addresses and checksum change by the same amount, so that the sum over it stays as it was: of what
/// ICMP sums up the ports change, and over IPv6 all addresses do. The quoted packet's own transport checksum stays: it
/// may be cut off, and nobody checks it.
#[inline(always)]
pub(crate) fn translate_error<A: Rewrite, const LINK: u32>(
    skb: *mut __sk_buff,
    config_flags: u32,
    work: &Work<A>,
) -> Option<()> {
    let (old, new) = (work.error_before(), work.error_after());
    let quoted = LINK.wrapping_add(work.quote.offset);
    A::write_addresses::<LINK>(skb, old.outer, new.outer)?;
    A::write_quoted(skb, quoted, &old, &new)?;
    let ports = [new.ports.0.wire(), new.ports.1.wire()];
    store(skb, LINK.wrapping_add(work.packet.transport), &ports)?;
    // ICMP's checksum stands in the second half of the first word of its eight bytes.
    let field = quoted.wrapping_sub(6);
    fix_checksum(skb, field, checksum::port_difference(old.ports, new.ports), 0)?;
    if A::FAMILY == Family::V4 {
        return Some(());
    }
    let inner = checksum::address_difference(old.addresses, new.addresses);
    fix_checksum(skb, field, inner, 0)?;
    let outer = checksum::address_difference(old.outer, new.outer);
    fix_checksum(
        skb,
        field,
        outer,
        BPF_F_PSEUDO_HDR | family_flag::<A>(config_flags),
    )
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
    store(
        skb,
        transport,
        &[new.source_port.wire(), new.destination_port.wire()],
    )
}
