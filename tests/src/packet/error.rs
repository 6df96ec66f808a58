//! ICMP errors: built from what they say, and read back with every checksum computed anew.

use std::net::IpAddr;

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv4Options, Ipv6Header, PacketHeaders};
use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, Ipv6RawExtHeader};

use super::frame::network;

/// An ICMP error in an Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// MAC addresses: destination, source.
    pub link: [[u8; 6]; 2],
    /// Who says it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Words of IPv4 options, or eight-byte words of an IPv6 header with destination options.
    pub options: u8,
    /// Type and code.
    pub kind: (u8, u8),
    /// The four bytes behind the checksum.
    pub word: u32,
    /// The quoted packet, from its network header on.
    pub quoted: Vec<u8>,
}

impl Error {
    /// Its bytes, with right checksums.
    pub fn bytes(&self) -> Vec<u8> {
        let (kind, code) = self.kind;
        let word = self.word.to_be_bytes();
        let mut out = Vec::new();
        let link = |ether_type| Ethernet2Header {
            destination: self.link[0],
            source: self.link[1],
            ether_type,
        };
        let length = 8 + self.quoted.len();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                link(EtherType::IPV4).write(&mut out).expect("writing to memory");
                let mut header = Ipv4Header {
                    source: source.octets(),
                    destination: destination.octets(),
                    time_to_live: self.hop_limit,
                    protocol: IpNumber::ICMP,
                    options: Ipv4Options::try_from(vec![1; usize::from(self.options) * 4].as_slice())
                        .expect("at most ten words"),
                    ..Ipv4Header::default()
                };
                header.set_payload_len(length).expect("a short packet");
                header.header_checksum = header.calc_header_checksum();
                header.write(&mut out).expect("writing to memory");
                let icmp = Icmpv4Type::Unknown {
                    type_u8: kind,
                    code_u8: code,
                    bytes5to8: word,
                };
                let icmp = Icmpv4Header::with_checksum(icmp, &self.quoted);
                icmp.write(&mut out).expect("writing to memory");
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                link(EtherType::IPV6).write(&mut out).expect("writing to memory");
                let extension = usize::from(self.options) * 8;
                let header = Ipv6Header {
                    source: source.octets(),
                    destination: destination.octets(),
                    hop_limit: self.hop_limit,
                    payload_length: (length + extension) as u16,
                    next_header: if extension == 0 {
                        IpNumber::IPV6_ICMP
                    } else {
                        IpNumber::IPV6_DESTINATION_OPTIONS
                    },
                    ..Ipv6Header::default()
                };
                header.write(&mut out).expect("writing to memory");
                if extension > 0 {
                    let options = Ipv6RawExtHeader::new_raw(IpNumber::IPV6_ICMP, &vec![0; extension - 2]);
                    options
                        .expect("whole words")
                        .write(&mut out)
                        .expect("writing to memory");
                }
                let icmp = Icmpv6Type::Unknown {
                    type_u8: kind,
                    code_u8: code,
                    bytes5to8: word,
                };
                let icmp =
                    Icmpv6Header::with_checksum(icmp, source.octets(), destination.octets(), &self.quoted);
                icmp.expect("a short packet")
                    .write(&mut out)
                    .expect("writing to memory");
            }
            other => panic!("two families in one packet: {other:?}"),
        }
        out.extend(&self.quoted);
        out
    }

    /// Reads an ICMP error; every checksum in it must be right.
    pub fn read(bytes: &[u8]) -> Self {
        let headers =
            PacketHeaders::from_ethernet_slice(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
        let link = headers
            .link
            .clone()
            .and_then(|link| link.ethernet2())
            .expect("an Ethernet header");
        let (source, destination, hop_limit, options) = network(headers.net.as_ref().expect("an IP header"));
        let transport = headers.transport.as_ref().expect("an ICMP header");
        let start = bytes.len() - headers.payload.slice().len() - transport.header_len();
        let message = &bytes[start..];
        // Not by the parsed header, which leaves out what its kind of message does not use.
        assert_eq!(sum(source, destination, message), 0xffff, "ICMP's checksum");
        Self {
            link: [link.destination, link.source],
            source,
            destination,
            hop_limit,
            options,
            kind: (message[0], message[1]),
            word: u32::from_be_bytes([message[4], message[5], message[6], message[7]]),
            quoted: message[8..].to_vec(),
        }
    }
}

/// The sum of RFC 1071 over a message, and over IPv6's pseudo-header before it.
fn sum(source: IpAddr, destination: IpAddr, message: &[u8]) -> u64 {
    let mut summed = Vec::new();
    if let (IpAddr::V6(source), IpAddr::V6(destination)) = (source, destination) {
        summed.extend(source.octets());
        summed.extend(destination.octets());
        summed.extend((message.len() as u32).to_be_bytes());
        summed.extend([0, 0, 0, IpNumber::IPV6_ICMP.0]);
    }
    summed.extend(message);
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    let mut sum = summed.chunks(2).map(word).sum::<u64>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
