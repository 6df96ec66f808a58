//! ICMP errors: built from what they say, and read back with every checksum computed anew.

use std::net::IpAddr;

use etherparse::IpNumber;

use super::head::Head;

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
        let protocol = if self.source.is_ipv4() {
            IpNumber::ICMP
        } else {
            IpNumber::IPV6_ICMP
        };
        let mut message = vec![self.kind.0, self.kind.1, 0, 0];
        message.extend(self.word.to_be_bytes());
        message.extend(&self.quoted);
        let checksum = !(sum(self.source, self.destination, &message) as u16);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let head = Head {
            link: self.link,
            source: self.source,
            destination: self.destination,
            hop_limit: self.hop_limit,
            options: self.options,
        };
        let mut out = Vec::new();
        head.write(&mut out, protocol, message.len());
        out.extend(message);
        out
    }

    /// Reads an ICMP error; every checksum in it must be right.
    pub fn read(bytes: &[u8]) -> Self {
        let (head, headers) = Head::read(bytes);
        let transport = headers.transport.as_ref().expect("an ICMP header");
        let start = bytes.len() - headers.payload.slice().len() - transport.header_len();
        let message = &bytes[start..];
        // Not by the parsed header, which leaves out what its kind of message does not use.
        assert_eq!(
            sum(head.source, head.destination, message),
            0xffff,
            "ICMP's checksum"
        );
        Self {
            link: head.link,
            source: head.source,
            destination: head.destination,
            hop_limit: head.hop_limit,
            options: head.options,
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
