//! Datagrams in pieces.

use super::Frame;

/// Splits a datagram behind so many bytes of its transport header and data, a multiple of eight.
pub fn split(call: &Frame, at: usize, id: u16) -> [Vec<u8>; 2] {
    let bytes = call.bytes();
    let is_v4 = call.source.is_ipv4();
    let start = if is_v4 { 34 } else { 54 };
    let piece = |from: usize, to: usize, more: bool| {
        let mut out = bytes[..start].to_vec();
        let offset = (from / 8) as u16;
        if is_v4 {
            let length = (20 + to - from) as u16;
            out[16..18].copy_from_slice(&length.to_be_bytes());
            out[18..20].copy_from_slice(&id.to_be_bytes());
            out[20..22].copy_from_slice(&(offset | (u16::from(more) << 13)).to_be_bytes());
            fix_checksum(&mut out[14..34]);
        } else {
            let length = (8 + to - from) as u16;
            out[18..20].copy_from_slice(&length.to_be_bytes());
            let next = std::mem::replace(&mut out[20], 44);
            out.extend([next, 0]);
            out.extend(((offset << 3) | u16::from(more)).to_be_bytes());
            out.extend([0, 0]);
            out.extend(id.to_be_bytes());
        }
        out.extend(&bytes[start + from..start + to]);
        out
    };
    [piece(0, at, true), piece(at, bytes.len() - start, false)]
}

/// Writes an IPv4 header's checksum anew.
pub fn fix_checksum(header: &mut [u8]) {
    header[10..12].copy_from_slice(&[0, 0]);
    let words = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
}

/// Puts a datagram together again.
pub fn join(pieces: &[Vec<u8>; 2]) -> Vec<u8> {
    let is_v4 = pieces[0][14] >> 4 == 4;
    let (start, extension) = if is_v4 { (34, 0) } else { (54, 8) };
    let mut bytes = pieces[0][..start].to_vec();
    for piece in pieces {
        bytes.extend(&piece[start + extension..]);
    }
    if is_v4 {
        for piece in pieces {
            let mut header = piece[14..34].to_vec();
            fix_checksum(&mut header);
            assert_eq!(header, piece[14..34], "a fragment's own checksum");
        }
        let length = (bytes.len() - 14) as u16;
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
        bytes[18..22].copy_from_slice(&[0; 4]);
        fix_checksum(&mut bytes[14..34]);
    } else {
        let length = (bytes.len() - 54) as u16;
        bytes[18..20].copy_from_slice(&length.to_be_bytes());
        bytes[20] = pieces[0][54];
    }
    bytes
}
