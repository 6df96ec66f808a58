//! Frames: built from what they say, and read back with every checksum computed anew.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PayloadSlice, TcpHeader, TransportHeader, UdpHeader};
use proxy_common::rules::headers::tcp;
use proxy_common::rules::sctp;

use super::head::Head;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment: flags as in [`tcp`], sequence and acknowledgement number.
    Tcp(u8, u32, u32),
    /// A datagram; whether it has a checksum.
    Udp(bool),
    /// An SCTP packet: the type of its first chunk, the tag that it asks for, and its own tag.
    Sctp(u8, u32, u32),
}

/// CRC32c, of a crate that knows nothing of Shunt.
static CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
/// Bytes of SCTP's common header, and of what a frame has of the first chunk beside its payload.
const SCTP_HEADERS: usize = 12 + 8;

/// An Ethernet frame with a TCP, UDP or SCTP packet over IPv4 or IPv6.
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

    /// An SCTP packet that opens an association.
    pub fn init(source: (impl Into<IpAddr>, u16), destination: (impl Into<IpAddr>, u16)) -> Self {
        Self {
            transport: Transport::Sctp(sctp::INIT, 1000, 0),
            payload: vec![7; 12],
            ..Self::udp(source, destination)
        }
    }

    /// The same with other flags and numbers, or with what they are in SCTP's words; a datagram stays as it is.
    #[must_use]
    pub fn numbered(self, flags: u8, sequence: u32, acknowledgement: u32) -> Self {
        match self.transport {
            Transport::Tcp(..) => Self {
                transport: Transport::Tcp(flags, sequence, acknowledgement),
                ..self
            },
            Transport::Udp(_) => self,
            Transport::Sctp(..) => Self {
                transport: Transport::Sctp(chunk(flags), sequence, acknowledgement),
                ..self
            },
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
        let head = Head {
            link: self.link,
            source: self.source.ip(),
            destination: self.destination.ip(),
            hop_limit: self.hop_limit,
            options: self.options,
        };
        let mut out = Vec::new();
        head.write(&mut out, self.ip_number(), segment.len());
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
            Transport::Sctp(..) => IpNumber::SCTP,
        }
    }

    fn write_transport(&self, out: &mut Vec<u8>) {
        let (source, destination) = (self.source.port(), self.destination.port());
        let mut header = match self.transport {
            Transport::Sctp(chunk, asked, tag) => return self.write_sctp(out, chunk, asked, tag),
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

    fn write_sctp(&self, out: &mut Vec<u8>, chunk: u8, asked: u32, tag: u32) {
        let mut header = Vec::new();
        for port in [self.source.port(), self.destination.port()] {
            header.extend(port.to_be_bytes());
        }
        header.extend(tag.to_be_bytes());
        header.extend([0; 4]);
        header.extend([chunk, 0]);
        header.extend((8 + self.payload.len() as u16).to_be_bytes());
        header.extend(asked.to_be_bytes());
        let checksum = sctp_checksum(&[&header, &self.payload[..]].concat());
        header[8..12].copy_from_slice(&checksum);
        out.extend(header);
    }

    /// Reads an SCTP packet behind its IP header.
    fn read_sctp(head: &Head, bytes: &[u8]) -> Self {
        assert_eq!(bytes[8..12], sctp_checksum(bytes), "SCTP's checksum");
        let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
        Self {
            link: head.link,
            source: (head.source, half(0)).into(),
            destination: (head.destination, half(2)).into(),
            hop_limit: head.hop_limit,
            options: head.options,
            transport: Transport::Sctp(bytes[12], word(16), word(4)),
            payload: bytes[SCTP_HEADERS..].to_vec(),
        }
    }

    /// Reads a frame; every checksum in it must be right.
    pub fn read(bytes: &[u8]) -> Self {
        let (head, headers) = Head::read(bytes);
        if let PayloadSlice::Ip(packet) = &headers.payload
            && packet.ip_number == IpNumber::SCTP
        {
            return Self::read_sctp(&head, packet.payload);
        }
        let mut transport = headers.transport.clone().expect("a transport header");
        let payload = headers.payload.slice().to_vec();
        let written = transport.clone();
        set_checksum(&mut transport, head.source, head.destination, &payload);
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
            link: head.link,
            source: (head.source, ports.0).into(),
            destination: (head.destination, ports.1).into(),
            hop_limit: head.hop_limit,
            options: head.options,
            transport,
            payload,
        }
    }
}

/// The chunk that TCP's flags stand for.
fn chunk(flags: u8) -> u8 {
    const DATA: u8 = 0;
    const SYN_ACK: u8 = tcp::SYN | tcp::ACK;
    match flags & !tcp::FIN {
        tcp::SYN => sctp::INIT,
        SYN_ACK => sctp::INIT_ACK,
        tcp::RST => sctp::ABORT,
        _ if flags & tcp::FIN != 0 => sctp::SHUTDOWN,
        _ => DATA,
    }
}

/// The checksum field of an SCTP packet, whatever it says now (RFC 9260 appendix A).
fn sctp_checksum(packet: &[u8]) -> [u8; 4] {
    let mut digest = CRC32C.digest();
    digest.update(&packet[..8]);
    digest.update(&[0; 4]);
    digest.update(&packet[12..]);
    digest.finalize().to_le_bytes()
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
