//! The headers before the transport header: Ethernet's and IP's.

use std::net::IpAddr;

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv4Options, Ipv6Header, Ipv6RawExtHeader, NetHeaders,
    PacketHeaders,
};

/// What they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// MAC addresses: destination, source.
    pub(super) link: [[u8; 6]; 2],
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// TTL or hop limit.
    pub(super) hop_limit: u8,
    /// Words of options: of four bytes in IPv4, of eight in IPv6's destination options.
    pub(super) options: u8,
}

impl Head {
    /// Writes them before so many bytes of a protocol, with right checksums.
    pub(super) fn write(&self, out: &mut Vec<u8>, protocol: IpNumber, length: usize) {
        let ether_type = match self.source {
            IpAddr::V4(_) => EtherType::IPV4,
            IpAddr::V6(_) => EtherType::IPV6,
        };
        let link = Ethernet2Header {
            destination: self.link[0],
            source: self.link[1],
            ether_type,
        };
        link.write(out).expect("writing to memory");
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header {
                    source: source.octets(),
                    destination: destination.octets(),
                    time_to_live: self.hop_limit,
                    protocol,
                    options: Ipv4Options::try_from(vec![1; usize::from(self.options) * 4].as_slice())
                        .expect("at most ten words"),
                    ..Ipv4Header::default()
                };
                header.set_payload_len(length).expect("a short packet");
                header.header_checksum = header.calc_header_checksum();
                header.write(out).expect("writing to memory");
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let extension = usize::from(self.options) * 8;
                let header = Ipv6Header {
                    source: source.octets(),
                    destination: destination.octets(),
                    hop_limit: self.hop_limit,
                    payload_length: (length + extension) as u16,
                    next_header: if extension == 0 {
                        protocol
                    } else {
                        IpNumber::IPV6_DESTINATION_OPTIONS
                    },
                    ..Ipv6Header::default()
                };
                header.write(out).expect("writing to memory");
                if extension > 0 {
                    // Pad1 options.
                    let options = Ipv6RawExtHeader::new_raw(protocol, &vec![0; extension - 2]);
                    options
                        .expect("whole words")
                        .write(out)
                        .expect("writing to memory");
                }
            }
            other => panic!("two families in one packet: {other:?}"),
        }
    }

    /// Reads them, and what follows; the IP header's checksum must be right.
    pub(super) fn read(bytes: &[u8]) -> (Self, PacketHeaders<'_>) {
        let headers =
            PacketHeaders::from_ethernet_slice(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
        let link = headers.link.clone().and_then(|link| link.ethernet2());
        let link = link.expect("an Ethernet header");
        let (source, destination, hop_limit, options) = match headers.net.as_ref().expect("an IP header") {
            NetHeaders::Ipv4(header, _) => {
                let right = header.calc_header_checksum();
                assert_eq!(header.header_checksum, right, "IPv4's checksum");
                let words = header.options.as_slice().len() / 4;
                let addresses = (header.source.into(), header.destination.into());
                (addresses.0, addresses.1, header.time_to_live, words as u8)
            }
            NetHeaders::Ipv6(header, extensions) => {
                let words = extensions.header_len() / 8;
                let addresses = (header.source.into(), header.destination.into());
                (addresses.0, addresses.1, header.hop_limit, words as u8)
            }
            other => panic!("neither IPv4 nor IPv6: {other:?}"),
        };
        let head = Self {
            link: [link.destination, link.source],
            source,
            destination,
            hop_limit,
            options,
        };
        (head, headers)
    }
}
