//! Frames: built from what they say, and read back with every checksum computed anew.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv4Options, Ipv6Header, Ipv6RawExtHeader, NetHeaders,
    PacketHeaders, TcpHeader, TransportHeader, UdpHeader,
};
use proxy_common::rules::headers::tcp;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment: flags as in [`tcp`], sequence and acknowledgement number.
    Tcp(u8, u32, u32),
    /// A datagram; whether it has a checksum.
    Udp(bool),
}

/// An Ethernet frame with a TCP or UDP packet over IPv4 or IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// MAC addresses: destination, source.
    pub link: [[u8; 6]; 2],
    /// Source.
    pub source: SocketAddr,
    /// Destination.
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Words of IPv4 options, or eight-byte words of an IPv6 header with destination options.
    pub options: u8,
    /// What it carries.
    pub transport: Transport,
    /// The data.
    pub payload: Vec<u8>,
}

/// That of the interfaces of [`super::wire`].
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The neighbour's.
const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 2];

impl Frame {
    /// A datagram with some data.
    pub fn udp(source: (impl Into<IpAddr>, u16), destination: (impl Into<IpAddr>, u16)) -> Self {
        Self {
            link: [OWN, NEIGHBOUR],
            source: (source.0.into(), source.1).into(),
            destination: (destination.0.into(), destination.1).into(),
            hop_limit: 64,
            options: 0,
            transport: Transport::Udp(true),
            payload: b"a datagram".to_vec(),
        }
    }

    /// A TCP segment without data.
    pub fn tcp(source: (impl Into<IpAddr>, u16), destination: (impl Into<IpAddr>, u16), flags: u8) -> Self {
        Self {
            transport: Transport::Tcp(flags, 1000, 0),
            payload: Vec::new(),
            ..Self::udp(source, destination)
        }
    }

    /// A TCP segment that opens a connection.
    pub fn syn(source: (impl Into<IpAddr>, u16), destination: (impl Into<IpAddr>, u16)) -> Self {
        Self::tcp(source, destination, tcp::SYN)
    }

    /// The same with other flags and numbers; a datagram stays as it is.
    #[must_use]
    pub fn numbered(self, flags: u8, sequence: u32, acknowledgement: u32) -> Self {
        match self.transport {
            Transport::Tcp(..) => Self {
                transport: Transport::Tcp(flags, sequence, acknowledgement),
                ..self
            },
            Transport::Udp(_) => self,
        }
    }

    /// The same from the other end, back at the hop limit it began with.
    #[must_use]
    pub fn turned(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            hop_limit: 64,
            ..self
        }
    }

    /// Its bytes, with right checksums.
    pub fn bytes(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        self.write_transport(&mut segment);
        segment.extend(&self.payload);
        let mut out = Vec::new();
        let ether_type = match self.source.ip() {
            IpAddr::V4(_) => EtherType::IPV4,
            IpAddr::V6(_) => EtherType::IPV6,
        };
        let link = Ethernet2Header {
            destination: self.link[0],
            source: self.link[1],
            ether_type,
        };
        link.write(&mut out).expect("writing to memory");
        self.write_network(&mut out, segment.len());
        out.extend(segment);
        out
    }

    /// Its bytes without a link header. A test run takes bytes 12 and 13 for the Ethernet type, wherever a program
    /// expects its headers: the source address must hold the type there, see [`super::Kin`].
    pub fn bare(&self) -> Vec<u8> {
        self.bytes()[14..].to_vec()
    }

    fn ip_number(&self) -> IpNumber {
        match self.transport {
            Transport::Tcp(..) => IpNumber::TCP,
            Transport::Udp(_) => IpNumber::UDP,
        }
    }

    fn write_network(&self, out: &mut Vec<u8>, length: usize) {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header {
                    source: source.octets(),
                    destination: destination.octets(),
                    time_to_live: self.hop_limit,
                    protocol: self.ip_number(),
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
                        self.ip_number()
                    } else {
                        IpNumber::IPV6_DESTINATION_OPTIONS
                    },
                    ..Ipv6Header::default()
                };
                header.write(out).expect("writing to memory");
                if extension > 0 {
                    // Pad1 options.
                    let options = Ipv6RawExtHeader::new_raw(self.ip_number(), &vec![0; extension - 2]);
                    options
                        .expect("whole words")
                        .write(out)
                        .expect("writing to memory");
                }
            }
            other => panic!("two families in one packet: {other:?}"),
        }
    }

    fn write_transport(&self, out: &mut Vec<u8>) {
        let (source, destination) = (self.source.port(), self.destination.port());
        let mut header = match self.transport {
            Transport::Udp(_) => TransportHeader::Udp(UdpHeader {
                source_port: source,
                destination_port: destination,
                length: 8 + self.payload.len() as u16,
                checksum: 0,
            }),
            Transport::Tcp(flags, sequence, acknowledgement) => {
                let mut header = TcpHeader::new(source, destination, sequence, 0xffff);
                header.acknowledgment_number = acknowledgement;
                header.syn = flags & tcp::SYN != 0;
                header.ack = flags & tcp::ACK != 0;
                header.fin = flags & tcp::FIN != 0;
                header.rst = flags & tcp::RST != 0;
                TransportHeader::Tcp(header)
            }
        };
        if self.transport != Transport::Udp(false) {
            set_checksum(
                &mut header,
                self.source.ip(),
                self.destination.ip(),
                &self.payload,
            );
        }
        header.write(out).expect("writing to memory");
    }

    /// Reads a frame; every checksum in it must be right.
    pub fn read(bytes: &[u8]) -> Self {
        let headers =
            PacketHeaders::from_ethernet_slice(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
        let link = headers
            .link
            .clone()
            .and_then(|link| link.ethernet2())
            .expect("an Ethernet header");
        let (source, destination, hop_limit, options) = network(headers.net.as_ref().expect("an IP header"));
        let mut transport = headers.transport.clone().expect("a transport header");
        let payload = headers.payload.slice().to_vec();
        let written = transport.clone();
        set_checksum(&mut transport, source, destination, &payload);
        let (ports, transport) = match (&transport, &written) {
            (TransportHeader::Tcp(right), TransportHeader::Tcp(header)) => {
                assert_eq!(header.checksum, right.checksum, "TCP's checksum");
                let flag = |is_set, flag| if is_set { flag } else { 0 };
                let flags = flag(header.syn, tcp::SYN)
                    | flag(header.ack, tcp::ACK)
                    | flag(header.fin, tcp::FIN)
                    | flag(header.rst, tcp::RST);
                let numbers = Transport::Tcp(flags, header.sequence_number, header.acknowledgment_number);
                ((header.source_port, header.destination_port), numbers)
            }
            (TransportHeader::Udp(right), TransportHeader::Udp(header)) => {
                if header.checksum != 0 {
                    assert_eq!(header.checksum, right.checksum, "UDP's checksum");
                }
                let datagram = Transport::Udp(header.checksum != 0);
                ((header.source_port, header.destination_port), datagram)
            }
            other => panic!("neither TCP nor UDP: {other:?}"),
        };
        Self {
            link: [link.destination, link.source],
            source: (source, ports.0).into(),
            destination: (destination, ports.1).into(),
            hop_limit,
            options,
            transport,
            payload,
        }
    }
}

/// Reads an IP header, whose checksum must be right: source, destination, hop limit and words of options.
pub(super) fn network(header: &NetHeaders) -> (IpAddr, IpAddr, u8, u8) {
    match header {
        NetHeaders::Ipv4(header, _) => {
            assert_eq!(
                header.header_checksum,
                header.calc_header_checksum(),
                "IPv4's checksum"
            );
            let words = header.options.as_slice().len() / 4;
            (
                header.source.into(),
                header.destination.into(),
                header.time_to_live,
                words as u8,
            )
        }
        NetHeaders::Ipv6(header, extensions) => {
            let words = extensions.header_len() / 8;
            (
                header.source.into(),
                header.destination.into(),
                header.hop_limit,
                words as u8,
            )
        }
        other => panic!("neither IPv4 nor IPv6: {other:?}"),
    }
}

/// Computes a checksum anew.
fn set_checksum(header: &mut TransportHeader, source: IpAddr, destination: IpAddr, payload: &[u8]) {
    let result = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header4 = Ipv4Header {
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            };
            header
                .update_checksum_ipv4(&header4, payload)
                .map_err(|error| error.to_string())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header6 = Ipv6Header {
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            header
                .update_checksum_ipv6(&header6, payload)
                .map_err(|error| error.to_string())
        }
        other => panic!("two families in one packet: {other:?}"),
    };
    result.expect("a checksum");
}
