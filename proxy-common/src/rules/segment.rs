//! How large a TCP segment its receiver takes (RFC 9293 §3.7.1): what it says of that where a connection opens.

use crate::layout::Addr;
use crate::rules::Headers;
use crate::rules::headers::Bytes;

/// Bytes of a TCP header without options.
const TCP_HEADER: u32 = 20;
/// How many options are looked at. All that a header has room for are 40 bytes.
const OPTIONS: u32 = 12;

/// A segment size as a packet says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize {
    /// Where the two bytes stand, from the network header on.
    pub offset: u32,
    /// Bytes of data.
    pub size: u16,
}

/// The segment size in a TCP header's options; `None` if it says none, or too much before.
#[inline(always)]
pub fn said<A: Addr, B: Bytes>(bytes: &B, packet: &Headers<A>) -> Option<SegmentSize> {
    const END: u32 = 0;
    const NOTHING: u32 = 1;
    const SEGMENT_SIZE: u32 = 2;
    let mut offset = packet.transport.wrapping_add(TCP_HEADER);
    for _ in 0..OPTIONS {
        if offset.wrapping_add(4) > packet.payload {
            return None;
        }
        let [word] = bytes.copied::<1>(offset)?;
        let word = u32::from_be(word);
        let length = match (word >> 24, word >> 16 & 0xff) {
            (END, _) => return None,
            (NOTHING, _) => 1,
            (SEGMENT_SIZE, 4) => {
                return Some(SegmentSize {
                    offset: offset.wrapping_add(2),
                    size: word as u16,
                });
            }
            (_, 0 | 1) => return None,
            (_, length) => length,
        };
        offset = offset.wrapping_add(length);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::V4;
    use std::vec::Vec;

    /// Of a header with these options, behind an IPv4 header.
    fn of(options: &[u8]) -> Option<SegmentSize> {
        let bytes: Vec<u8> = [&[0; 40], options].concat();
        let packet = Headers::<V4> {
            transport: 20,
            payload: bytes.len() as u32,
            ..Headers::default()
        };
        said(&&*bytes, &packet)
    }

    #[test]
    fn it_is_found_wherever_it_stands() {
        let found = |offset| Some(SegmentSize { offset, size: 1460 });
        let own = [2, 4, 0x05, 0xb4];
        assert_eq!(of(&own), found(42));
        assert_eq!(of(&[&[1][..], &own, &[1, 1, 0]].concat()), found(43));
        assert_eq!(of(&[&[3, 3, 7, 1][..], &own].concat()), found(46));
        assert_eq!(
            of(&[&[8, 10, 0, 0, 0, 0, 0, 0, 0, 0][..], &[4, 2], &own].concat()),
            found(54)
        );
    }

    #[test]
    fn what_is_no_segment_size_says_none() {
        for options in [
            &[][..],
            &[0, 0, 0, 0, 2, 4, 5, 0xb4],
            &[2, 3, 5, 0xb4],
            &[5, 0, 0, 0, 2, 4, 5, 0xb4],
            &[5, 1, 0, 0, 2, 4, 5, 0xb4],
            &[5, 200, 0, 0, 2, 4, 5, 0xb4],
            &[1, 1, 2, 4],
        ] {
            assert_eq!(of(options), None, "{options:?}");
        }
    }
}
