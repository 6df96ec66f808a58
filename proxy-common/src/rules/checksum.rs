//! Ones' complement sums (RFC 1071) and their incremental update (RFC 1624).
//!
//! All sums are over 16-bit words in memory order, so that they need no byte swap on any machine.

use crate::layout::{Addr, Port};

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What must be added to a sum when words that summed up to `old` become words that sum up to `new`; both at most
/// 2^20 (32 words).
#[inline(always)]
pub const fn difference(old: u32, new: u32) -> u32 {
    fold(new) as u32 + (!fold(old)) as u32
}

/// A checksum field after the summed words changed by `difference`.
#[inline(always)]
pub const fn update(field: u16, difference: u32) -> u16 {
    !fold((!field) as u32 + (difference & 0xffff) + (difference >> 16))
}

/// What a translation changes in the sum of the addresses.
#[inline(always)]
pub fn address_difference<A: Addr>(old: (&A, &A), new: (&A, &A)) -> u32 {
    difference(
        old.0.checksum_words() + old.1.checksum_words(),
        new.0.checksum_words() + new.1.checksum_words(),
    )
}

/// What a translation changes in the sum of the ports.
#[inline(always)]
pub fn port_difference(old: (Port, Port), new: (Port, Port)) -> u32 {
    difference(
        old.0.wire() as u32 + old.1.wire() as u32,
        new.0.wire() as u32 + new.1.wire() as u32,
    )
}

/// The unfolded sum over a pseudo-header: addresses, protocol, and the length of what the checksum covers behind them
/// (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1).
#[inline(always)]
pub fn pseudo_header<A: Addr>(addresses: (&A, &A), protocol: u8, length: u16) -> u32 {
    addresses.0.checksum_words()
        + addresses.1.checksum_words()
        + (protocol as u16).to_be() as u32
        + length.to_be() as u32
}

/// Whether a checksum field holds what the kernel leaves in it for hardware to finish (CHECKSUM_PARTIAL): the sum of the
/// pseudo-header, not complemented. A finished checksum is that in one packet of 65,535.
///
/// 0 and 0xffff are one number in ones' complement.
#[inline(always)]
pub const fn may_be_partial(field: u16, pseudo_header: u32) -> bool {
    let partial = fold(pseudo_header);
    field == partial || (partial == 0xffff && field == 0)
}

/// The checksum field of a translated TCP or UDP packet, where it is complete. UDP's 0 means that there is none (over IPv4),
/// and stays; one that comes out as 0 is written as all ones (RFC 768).
#[inline(always)]
pub const fn translated(field: u16, difference: u32, is_udp: bool) -> u16 {
    if is_udp && field == 0 {
        return 0;
    }
    match update(field, difference) {
        0 if is_udp => 0xffff,
        new => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{V4, V6};
    use proptest::prelude::*;

    /// The checksum of RFC 1071 over bytes, from scratch, in memory order.
    fn full(bytes: &[u8]) -> u16 {
        let mut sum = 0_u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// 0 and 0xffff are one number in ones' complement; a header that is not all zeroes never sums up to 0.
    fn same(left: u16, right: u16) -> bool {
        left == right || (left == 0 && right == 0xffff) || (left == 0xffff && right == 0)
    }

    #[test]
    fn no_checksum_stays_none_and_none_comes_out_as_all_ones() {
        assert_eq!(translated(0, 0x1234, true), 0);
        // A difference that makes the sum all ones, and the field 0.
        let difference = difference(0x1234, 0xffff);
        assert_eq!(update(!0x1234, difference), 0);
        assert_eq!(translated(!0x1234, difference, true), 0xffff);
        assert_eq!(translated(!0x1234, difference, false), 0);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_full_sum_v4(old: [[u8; 4]; 2], new: [[u8; 4]; 2], ports: [u16; 4], rest: [u8; 32]) {
            let bytes = |a: &[[u8; 4]; 2], p: &[u16]| {
                let mut out = std::vec::Vec::new();
                for octets in a { out.extend(octets); }
                for port in p { out.extend(port.to_be_bytes()); }
                out.extend(rest);
                out
            };
            let before = full(&bytes(&old, &ports[..2]));
            let port = |n: usize| Port::new(ports[n]);
            let [a, b] = old.map(V4::new);
            let [c, d] = new.map(V4::new);
            let field = update(before, address_difference((&a, &b), (&c, &d)));
            let field = update(field, port_difference((port(0), port(1)), (port(2), port(3))));
            prop_assert!(same(field, full(&bytes(&new, &ports[2..]))));
        }

        #[test]
        fn an_update_equals_a_full_sum_v6(old: [[u8; 16]; 2], new: [[u8; 16]; 2], rest: [u8; 24]) {
            let bytes = |a: &[[u8; 16]; 2]| [a[0].as_slice(), &a[1], &rest].concat();
            let [a, b] = old.map(V6::new);
            let [c, d] = new.map(V6::new);
            let field = update(full(&bytes(&old)), address_difference((&a, &b), (&c, &d)));
            prop_assert!(same(field, full(&bytes(&new))));
        }

        /// A whole packet's checksum, before and after a translation, from scratch and by the difference.
        #[test]
        fn a_translated_packets_sum_is_the_full_sum(
            old: [[u8; 16]; 2], new: [[u8; 16]; 2], ports: [u16; 4], data in proptest::collection::vec(any::<u8>(), 0..80),
            is_udp: bool,
        ) {
            // UDP: ports, length, checksum, data; TCP: the sum is behind twelve more bytes.
            let header = if is_udp { 8 } else { 20 };
            let length = (header + data.len()) as u16;
            let kind: u8 = if is_udp { 17 } else { 6 };
            let bytes = |a: &[[u8; 16]; 2], p: &[u16]| {
                let mut out = a.concat();
                out.extend([0, kind]);
                out.extend(length.to_be_bytes());
                for port in p { out.extend(port.to_be_bytes()); }
                out.resize(36 + header, 7);
                out[36 + if is_udp { 6 } else { 16 }..][..2].fill(0);
                out.extend(&data);
                out
            };
            let finished = |sum: u16| if is_udp && sum == 0 { 0xffff } else { sum };
            let before = finished(full(&bytes(&old, &ports[..2])));
            let after = finished(full(&bytes(&new, &ports[2..])));
            let port = |n: usize| Port::new(ports[n]);
            let [a, b] = old.map(V6::new);
            let [c, d] = new.map(V6::new);
            let change = address_difference((&a, &b), (&c, &d))
                + port_difference((port(0), port(1)), (port(2), port(3)));
            let got = translated(before, change, is_udp);
            if is_udp {
                prop_assert_eq!(got, after);
            } else {
                prop_assert!(same(got, after));
            }
        }

        /// What the kernel leaves in the field, from scratch: the sum over the pseudo-header alone.
        #[test]
        fn a_partial_sum_is_known(old: [[u8; 4]; 2], length: u16, is_udp: bool) {
            let kind: u8 = if is_udp { 17 } else { 6 };
            let mut bytes = old.concat();
            bytes.extend([0, kind]);
            bytes.extend(length.to_be_bytes());
            let field = !full(&bytes);
            let [a, b] = old.map(V4::new);
            let pseudo = pseudo_header((&a, &b), kind, length);
            prop_assert!(may_be_partial(field, pseudo));
            for other in [field ^ 1, field ^ 0x8000, !field] {
                prop_assert!(!may_be_partial(other, pseudo) || same(other, field));
            }
        }

        #[test]
        fn an_update_back_gives_the_old_sum(field: u16, old: u16, new: u16) {
            let there = update(field, difference(old.into(), new.into()));
            prop_assert!(same(update(there, difference(new.into(), old.into())), field));
        }
    }
}
