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

        #[test]
        fn an_update_back_gives_the_old_sum(field: u16, old: u16, new: u16) {
            let there = update(field, difference(old.into(), new.into()));
            prop_assert!(same(update(there, difference(new.into(), old.into())), field));
        }
    }
}
