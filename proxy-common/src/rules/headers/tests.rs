//! Reading packets: options, extension headers, every truncation, and bytes that are no packet.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::rules::scene::{PROTOCOLS, Packet, Spoken, in_both_families};

in_both_families!(
    a_tcp_segment_is_read_whole,
    a_datagram_is_read_whole,
    a_truncated_packet_is_never_taken_for_a_whole_one,
    bytes_behind_the_datagram_do_not_count,
    a_tcp_header_longer_than_the_packet_is_malformed,
    a_datagrams_length_must_fit,
    an_association_is_read_in_tcps_words,
    an_sctp_packet_needs_a_chunk,
    usual_packets_are_plain_and_others_are_not,
);

/// A packet that refuses, loudly, to be read beyond its end.
struct Guarded<'a>(&'a [u8]);

impl Bytes for Guarded<'_> {
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        (&self.0).words(offset)
    }
    fn length(&self) -> u32 {
        self.0.len() as u32
    }
}

fn parse<A: Spoken>(bytes: &[u8]) -> (Parsed, Headers<A>) {
    let mut headers = Headers::default();
    let parsed = A::parse(&Guarded(bytes), &mut headers);
    if let Some(plain) = A::plain(&Guarded(bytes)) {
        assert_eq!((parsed, headers), (Parsed::Transport, plain), "a plain packet");
    }
    (parsed, headers)
}

fn usual_packets_are_plain_and_others_are_not<A: Spoken>() {
    let is_plain = |packet: Packet<A>| A::plain(&Guarded(&packet.bytes())).is_some();
    for payload in [0, 1, 1000] {
        assert!(is_plain(segment(payload)));
        assert!(is_plain(Packet::udp((1, 40000), (2, 53)).with_payload(payload)));
        assert!(!is_plain(Packet::init((1, 40000), (2, 80)).with_payload(payload)));
    }
    let cut = |fragment| Packet {
        fragment: Some(fragment),
        ..Packet::udp((1, 40000), (2, 53)).with_payload(16)
    };
    assert!(!is_plain(cut((7, 0, true))));
    assert!(!is_plain(cut((7, 16, false))));
}

fn segment<A: Spoken>(payload: usize) -> Packet<A> {
    Packet::tcp((1, 40000), (2, 80), tcp::ACK | tcp::FIN)
        .numbers(0x0102_0304, 0xf0e0_d0c0)
        .with_payload(payload)
}

fn a_tcp_segment_is_read_whole<A: Spoken>() {
    for payload in [0, 1, 1000] {
        let bytes = segment::<A>(payload).bytes();
        let (parsed, headers) = parse::<A>(&bytes);
        assert_eq!(parsed, Parsed::Transport);
        assert_eq!((headers.source, headers.destination), (A::of(1), A::of(2)));
        assert_eq!(
            (headers.source_port.number(), headers.destination_port.number()),
            (40000, 80)
        );
        assert_eq!(
            (headers.sequence, headers.acknowledgement),
            (0x0102_0304, 0xf0e0_d0c0)
        );
        assert_eq!((headers.tcp_flags, headers.hop_limit), (tcp::ACK | tcp::FIN, 64));
        assert_eq!(headers.has_payload, payload > 0);
        assert_eq!(headers.length as usize, bytes.len());
        assert_eq!(headers.payload as usize, bytes.len() - payload);
        assert_eq!(headers.fragment, Fragment::Whole);
    }
}

fn a_datagram_is_read_whole<A: Spoken>() {
    let bytes = Packet::<A>::udp((1, 40000), (2, 53)).with_payload(9).bytes();
    let (parsed, headers) = parse::<A>(&bytes);
    assert_eq!(parsed, Parsed::Transport);
    assert_eq!(
        (headers.source_port.number(), headers.destination_port.number()),
        (40000, 53)
    );
    assert_eq!((headers.protocol, headers.tcp_flags), (protocol::UDP, 0));
    assert_eq!(headers.payload as usize, bytes.len() - 9);
}

fn a_truncated_packet_is_never_taken_for_a_whole_one<A: Spoken>() {
    let udp = Packet::udp((1, 1), (2, 2)).with_payload(20);
    let first = Packet {
        fragment: Some((1, 0, true)),
        ..udp
    };
    let later = Packet {
        fragment: Some((1, 64, true)),
        ..udp
    };
    let init = Packet::init((1, 1), (2, 2));
    for packet in [segment::<A>(20), udp, first, later, init] {
        let bytes = packet.bytes();
        assert_eq!(parse::<A>(&bytes).0, Parsed::Transport);
        for length in 0..bytes.len() {
            let parsed = parse::<A>(&bytes[..length]).0;
            assert_ne!(parsed, Parsed::Transport, "{length} of {} bytes", bytes.len());
        }
    }
}

fn bytes_behind_the_datagram_do_not_count<A: Spoken>() {
    // Ethernet's padding.
    let mut bytes = segment::<A>(0).bytes();
    bytes.extend([0; 6]);
    let (parsed, headers) = parse::<A>(&bytes);
    assert_eq!((parsed, headers.has_payload), (Parsed::Transport, false));
}

fn an_association_is_read_in_tcps_words<A: Spoken>() {
    let start = A::wrap(&segment(0), &[]).len();
    let with_chunk = |chunk: u8| {
        let packet = Packet::<A>::init((1, 40000), (2, 38412)).numbers(0xcafe_f00d, 0x0102_0304);
        let mut bytes = packet.bytes();
        bytes[start + 12] = chunk;
        bytes
    };
    const ENDS: [u8; 7] = [1, 2, 6, 7, 8, 9, 14];
    for chunk in 0..=255 {
        let bytes = with_chunk(chunk);
        let (parsed, headers) = parse::<A>(&bytes);
        assert_eq!(parsed, Parsed::Transport);
        let flags = match chunk {
            1 => tcp::SYN,
            2 => tcp::SYN | tcp::ACK,
            6 | 14 => tcp::RST,
            7 | 8 => tcp::FIN | tcp::ACK,
            _ => tcp::ACK,
        };
        assert_eq!(headers.tcp_flags, flags, "chunk {chunk}");
        assert_eq!(headers.has_payload, !ENDS.contains(&chunk), "chunk {chunk}");
        assert_eq!(headers.acknowledgement, 0x0102_0304, "the verification tag");
        assert_eq!(headers.sequence, if chunk == 2 { 0xcafe_f00d } else { 0 });
        assert_eq!(
            (headers.source_port.number(), headers.destination_port.number()),
            (40000, 38412)
        );
        assert_eq!(
            (headers.transport as usize, headers.payload as usize),
            (start, start + 12)
        );
        assert_eq!((headers.opens(), headers.answers()), (chunk == 1, chunk == 2));
    }
}

fn an_sctp_packet_needs_a_chunk<A: Spoken>() {
    let start = A::wrap(&segment(0), &[]).len();
    let packet = Packet::<A>::init((1, 1), (2, 2));
    let rest = packet.bytes()[start..].to_vec();
    let of = |chunk: u8, length: usize| {
        let mut rest = rest.clone();
        rest[12] = chunk;
        parse::<A>(&A::wrap(&packet, &rest[..length])).0
    };
    for (chunk, least) in [(11, 16), (14, 16), (1, 16), (2, 20)] {
        for length in 0..rest.len() {
            let expected = if length < least {
                Parsed::Malformed
            } else {
                Parsed::Transport
            };
            assert_eq!(of(chunk, length), expected, "chunk {chunk}, {length} bytes");
        }
    }
}

fn transport_of<A: Spoken>() -> usize {
    A::wrap(&segment(0), &[]).len()
}

fn a_tcp_header_longer_than_the_packet_is_malformed<A: Spoken>() {
    let offset = transport_of::<A>() + 12;
    for (words, payload, expected) in [
        (0, 0, Parsed::Malformed),
        (4, 0, Parsed::Malformed),
        (5, 0, Parsed::Transport),
        (6, 3, Parsed::Malformed),
        (6, 4, Parsed::Transport),
        (15, 39, Parsed::Malformed),
        (15, 40, Parsed::Transport),
    ] {
        let mut bytes = segment::<A>(payload).bytes();
        bytes[offset] = words << 4;
        let (parsed, headers) = parse::<A>(&bytes);
        assert_eq!(parsed, expected, "{words} words, {payload} bytes");
        if parsed == Parsed::Transport {
            assert_eq!(headers.has_payload, payload > usize::from(words) * 4 - 20);
        }
    }
}

fn a_datagrams_length_must_fit<A: Spoken>() {
    for fragment in [None, Some((1, 0, true))] {
        let packet = Packet {
            fragment,
            ..Packet::<A>::udp((1, 1), (2, 2)).with_payload(20)
        };
        let offset = packet.bytes().len() - 20 - 8 + 4;
        for (length, fits) in [
            (1, false),
            (7, false),
            (8, true),
            (28, true),
            (29, fragment.is_some()),
        ] {
            let mut bytes = packet.bytes();
            bytes[offset..offset + 2].copy_from_slice(&u16::to_be_bytes(length));
            let expected = if fits {
                Parsed::Transport
            } else {
                Parsed::Malformed
            };
            assert_eq!(parse::<A>(&bytes).0, expected, "{length} {fragment:?}");
        }
    }
}

#[test]
fn options_of_ipv4_are_stepped_over() {
    for words in 5..=15_usize {
        let plain = segment::<V4>(5).bytes();
        let mut bytes = plain[..20].to_vec();
        bytes[0] = 0x40 | words as u8;
        bytes.extend(std::vec![1; (words - 5) * 4]);
        bytes.extend(&plain[20..]);
        let length = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let (parsed, headers) = parse::<V4>(&bytes);
        assert_eq!(parsed, Parsed::Transport);
        assert_eq!(headers.transport as usize, words * 4);
        assert_eq!(headers.destination_port.number(), 80);
    }
}

#[test]
fn headers_of_ipv4_that_contradict_themselves_are_malformed() {
    let good = segment::<V4>(4).bytes();
    let with = |offset: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[offset] = value;
        parse::<V4>(&bytes).0
    };
    for words in 0..5 {
        assert_eq!(
            with(0, 0x40 | words),
            Parsed::Malformed,
            "a header of {words} words"
        );
    }
    assert_eq!(with(0, 0x4f), Parsed::Malformed, "a header beyond the datagram");
    assert_eq!(with(3, 19), Parsed::Malformed, "shorter than its header");
    assert_eq!(
        with(3, good.len() as u8 + 1),
        Parsed::Malformed,
        "longer than the packet"
    );
    for version in [0, 3, 5, 6, 15] {
        assert_eq!(with(0, version << 4 | 5), Parsed::Other, "version {version}");
    }
}

/// An IPv6 packet with these extension headers, each of so many bytes, in front of a TCP segment.
fn extended(chain: &[(u8, usize)]) -> Vec<u8> {
    let plain = segment::<V6>(4).bytes();
    let mut bytes = plain[..40].to_vec();
    bytes[6] = chain.first().map_or(protocol::TCP, |(kind, _)| *kind);
    for (index, (kind, length)) in chain.iter().enumerate() {
        let next = chain.get(index + 1).map_or(protocol::TCP, |(kind, _)| *kind);
        let mut header = std::vec![0; *length];
        header[0] = next;
        if *kind != 44 {
            header[1] = (length / 8 - 1) as u8;
        }
        bytes.extend(header);
    }
    bytes.extend(&plain[40..]);
    let payload = (bytes.len() - 40) as u16;
    bytes[4..6].copy_from_slice(&payload.to_be_bytes());
    bytes
}

#[test]
fn extension_headers_of_ipv6_are_stepped_over() {
    for chain in [
        &[][..],
        &[(0, 8)],
        &[(0, 16), (60, 24), (43, 40), (44, 8), (60, 8)],
        &[(60, 8); 6],
        &[(60, 2048)],
    ] {
        let bytes = extended(chain);
        let (parsed, headers) = parse::<V6>(&bytes);
        assert_eq!(parsed, Parsed::Transport, "{chain:?}");
        assert_eq!(headers.transport as usize, bytes.len() - 24);
        assert_eq!(
            (headers.protocol, headers.destination_port.number()),
            (protocol::TCP, 80)
        );
        assert!(headers.has_payload);
        for length in 0..bytes.len() {
            assert_ne!(parse::<V6>(&bytes[..length]).0, Parsed::Transport);
        }
    }
}

#[test]
fn too_many_or_unknown_extension_headers_pass() {
    assert_eq!(parse::<V6>(&extended(&[(60, 8); 7])).0, Parsed::Message);
    for kind in [50, 51, 59, 135, 255] {
        let (parsed, headers) = parse::<V6>(&extended(&[(kind, 8)]));
        assert_eq!(
            (parsed, headers.protocol, headers.is_echo),
            (Parsed::Message, kind, false)
        );
    }
}

#[test]
fn an_extension_header_beyond_the_datagram_is_malformed() {
    let mut bytes = extended(&[(60, 8)]);
    bytes[41] = 200;
    assert_eq!(parse::<V6>(&bytes).0, Parsed::Malformed);
}

#[test]
fn segments_larger_than_their_length_field_are_read() {
    // BIG TCP: the field holds 0.
    let mut four = segment::<V4>(0).bytes();
    four.extend(std::vec![0; 70_000]);
    four[2..4].copy_from_slice(&[0, 0]);
    let (parsed, headers) = parse::<V4>(&four);
    assert_eq!((parsed, headers.length as usize), (Parsed::Transport, four.len()));
    let mut six = segment::<V6>(0).bytes();
    six.extend(std::vec![0; 70_000]);
    six[4..6].copy_from_slice(&[0, 0]);
    let (parsed, headers) = parse::<V6>(&six);
    assert_eq!((parsed, headers.length as usize), (Parsed::Transport, six.len()));
    // A small packet has no right to it, nor one of either size to less than a header.
    for length in [0, 1, 19] {
        let mut short = segment::<V4>(0).bytes();
        short[2..4].copy_from_slice(&u16::to_be_bytes(length));
        assert_eq!(parse::<V4>(&short).0, Parsed::Malformed, "{length}");
    }
    four[2..4].copy_from_slice(&[0, 1]);
    assert_eq!(parse::<V4>(&four).0, Parsed::Malformed);
}

fn is_consistent<A: Spoken>(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (parsed, headers) = parse::<A>(bytes);
    if parsed == Parsed::Transport {
        let is_known = PROTOCOLS.contains(&headers.protocol);
        // A later fragment of IPv6 may name the extension header that comes behind the fragment header of the first.
        let names_extension = headers.fragment == Fragment::Later && [43, 60].contains(&headers.protocol);
        prop_assert!(is_known || names_extension);
        prop_assert!(headers.length as usize <= bytes.len());
        prop_assert!(headers.transport <= headers.length);
        if headers.fragment != Fragment::Later {
            let room = headers.length - headers.transport;
            let least = match headers.protocol {
                protocol::TCP => 20,
                protocol::SCTP => 16,
                _ => 8,
            };
            prop_assert!(room >= least);
            prop_assert!(headers.payload <= headers.length);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn arbitrary_bytes_are_read_without_harm(bytes: Vec<u8>) {
        is_consistent::<V4>(&bytes)?;
        is_consistent::<V6>(&bytes)?;
    }

    #[test]
    fn a_packet_with_wrong_bytes_is_read_without_harm(
        changes in prop::collection::vec((0_usize..80, any::<u8>()), 1..6), cut in 0_usize..120, is_tcp: bool,
        headers in prop::collection::vec((prop::sample::select(std::vec![0_u8, 43, 44, 60]), Just(8_usize)), 0..7),
    ) {
        let packet = |bytes: &mut Vec<u8>| {
            for (offset, value) in &changes {
                if let Some(byte) = bytes.get_mut(*offset) {
                    *byte = *value;
                }
            }
            bytes.truncate(cut);
        };
        let mut four = if is_tcp { segment::<V4>(30).bytes() } else { Packet::<V4>::udp((1, 1), (2, 2)).bytes() };
        packet(&mut four);
        is_consistent::<V4>(&four)?;
        let mut six = extended(&headers);
        packet(&mut six);
        is_consistent::<V6>(&six)?;
    }
}
