//! SCTP's checksum, a CRC32c over the whole packet (RFC 9260 §6.8 and appendix A), after its ports changed.
//!
//! A CRC is linear: the sums of two packets of one length differ by the sum, begun at zero and not inverted at the end, of
//! the packets' difference; start value and final inversion are in both and cancel out. Of a translated packet only the
//! four bytes of the ports differ, which are its first. As a polynomial D over GF(2) they stand in front of N - 4 bytes of
//! zeroes in a packet of N bytes, and a CRC ends with a multiplication by x^32. So the difference of the sums is
//!
//! ```text
//! D · x^(8(N-4)) · x^32  =  D · x^(8N)  =  D · x^(8·(N mod 256)) · x^(8·256·(N div 256))     mod P
//! ```
//!
//! Two multiplications by table entries, whatever the length; no byte behind the ports is read. What was wrong with a sum
//! stays wrong with it: the difference is added to what the packet says.
//!
//! Polynomials are written as CRC32c has them: bit 31 is the coefficient of x^0, bit 0 that of x^31.

/// The polynomial x^32 + x^28 + x^27 + ... + 1 without its highest term.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^0.
const ONE: u32 = 1 << 31;

/// A byte pushed out of the register: what it leaves behind.
static REMAINDERS: [u32; 256] = remainders();
/// x^(8n).
static BYTES: [u32; 256] = powers(8);
/// x^(8·256n).
static PAGES: [u32; 256] = powers(8 * 256);

/// A polynomial times x.
const fn times_x(polynomial: u32) -> u32 {
    let carry = polynomial & 1;
    (polynomial >> 1) ^ (carry * POLYNOMIAL)
}

const fn times_x_to(polynomial: u32, exponent: u32) -> u32 {
    let (mut product, mut done) = (polynomial, 0);
    while done < exponent {
        product = times_x(product);
        done += 1;
    }
    product
}

const fn remainders() -> [u32; 256] {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        table[byte] = times_x_to(byte as u32, 8);
        byte += 1;
    }
    table
}

const fn powers(exponent: u32) -> [u32; 256] {
    let (mut table, mut n) = ([ONE; 256], 1);
    while n < 256 {
        table[n] = times_x_to(table[n - 1], exponent);
        n += 1;
    }
    table
}

/// An entry of a table, by the low eight bits of an index.
#[inline(always)]
fn entry(table: &[u32; 256], index: u32) -> u32 {
    table[(index & 0xff) as usize]
}

/// The product of two polynomials of 32 bits, in 63.
///
/// A common multiplication carries. Where only each fourth bit of both factors is set, at most eight products meet in one
/// place, and what they carry ends within the three places above, which are masked out.
#[inline(always)]
const fn carryless(left: u32, right: u32) -> u64 {
    const EACH_FOURTH: u64 = 0x1111_1111_1111_1111;
    let (left, right) = (left as u64, right as u64);
    let mut product = 0;
    let mut i = 0;
    while i < 4 {
        let mut j = 0;
        while j < 4 {
            let part = (left & (EACH_FOURTH << i)).wrapping_mul(right & (EACH_FOURTH << j));
            product ^= part & (EACH_FOURTH << ((i + j) % 4));
            j += 1;
        }
        i += 1;
    }
    product
}

/// The product of two polynomials modulo CRC32c's.
#[inline(always)]
fn times(left: u32, right: u32) -> u32 {
    // In 64 bits the coefficient of x^0 is bit 63.
    let product = carryless(left, right) << 1;
    let mut high = product as u32;
    for _ in 0..4 {
        high = entry(&REMAINDERS, high) ^ (high >> 8);
    }
    (product >> 32) as u32 ^ high
}

/// The checksum field of an SCTP packet of `length` bytes, at most 65,535, whose first word, the ports, was `old` and is
/// now `new`. All words in memory order.
#[inline(always)]
pub fn update(field: u32, old: u32, new: u32, length: u32) -> u32 {
    let change = u32::from_le(old ^ new);
    let shifted = times(change, entry(&BYTES, length));
    field ^ times(shifted, entry(&PAGES, length >> 8)).to_le()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// The register of a CRC32c after one more byte, bit by bit.
    fn step(register: u32, byte: u8) -> u32 {
        (0..8).fold(register ^ u32::from(byte), |bits, _| times_x(bits))
    }

    /// CRC32c from scratch.
    fn full(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |register, byte| step(register, *byte))
    }

    fn word(bytes: [u8; 4]) -> u32 {
        u32::from_ne_bytes(bytes)
    }

    #[test]
    fn the_reference_is_crc32c() {
        // The check value of its catalogue entry, and RFC 3720 §B.4.
        assert_eq!(full(b"123456789"), 0xe306_9283);
        assert_eq!(full(&[0; 32]), 0x8a91_36aa);
    }

    /// A packet's sum is the register behind its last byte, so that one packet that grows gives those of all lengths.
    #[test]
    fn an_update_equals_a_full_sum_at_every_length() {
        let (old, new) = ([0x9c, 0x40, 0, 80], [0xaf, 0xc9, 0x1f, 0x90]);
        let mut before = old.iter().fold(!0, |register, byte| step(register, *byte));
        let mut after = new.iter().fold(!0, |register, byte| step(register, *byte));
        for length in 4_u32..=65_535 {
            assert_eq!(
                update((!before).to_le(), word(old), word(new), length),
                (!after).to_le(),
                "length {length}"
            );
            let byte = (length.wrapping_mul(0x9e37_79b9) >> 24) as u8;
            before = step(before, byte);
            after = step(after, byte);
        }
    }

    proptest! {
        #[test]
        fn an_update_equals_a_full_sum(old: [u8; 4], new: [u8; 4], rest in prop::collection::vec(any::<u8>(), 8..3000)) {
            let sum = |ports: [u8; 4]| {
                let packet: Vec<u8> = ports.iter().chain(&rest).copied().collect();
                (full(&packet).to_le(), packet.len() as u32)
            };
            let (before, length) = sum(old);
            prop_assert_eq!(update(before, word(old), word(new), length), sum(new).0);
        }

        #[test]
        fn an_update_back_gives_the_old_sum(field: u32, old: u32, new: u32, length in 12_u32..65_536) {
            prop_assert_eq!(update(update(field, old, new, length), new, old, length), field);
        }

        #[test]
        fn what_is_wrong_stays_wrong_by_the_same_bits(field: u32, error: u32, old: u32, new: u32, length in 12_u32..65_536) {
            let right = update(field, old, new, length);
            prop_assert_eq!(update(field ^ error, old, new, length), right ^ error);
        }
    }
}
