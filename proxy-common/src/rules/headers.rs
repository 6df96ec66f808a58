//! Reading a packet's headers.

use crate::layout::{Addr, Family, Port, V4, V6, protocol};
use crate::rules::{Work, quote, sctp};

/// The bytes of a packet from its network header on.
pub trait Bytes {
    /// `N` words of four bytes, in memory order, at an offset; `None` beyond the end.
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]>;
    /// The same, but only if the bytes are at hand; `None` is no answer.
    #[inline(always)]
    fn glance<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        self.words(offset)
    }
    /// The same, always by a copy: for offsets without a known bound, off the fast path.
    #[inline(always)]
    fn copied<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        self.words(offset)
    }
    /// Reads a packet's headers into the workspace, as [`Readable::parse`] does.
    #[inline(always)]
    fn read<A: Readable>(&self, work: &mut Work<A>) -> Parsed
    where
        Self: Sized,
    {
        A::parse(self, &mut work.packet)
    }
    /// Reads what an ICMP error quotes: [`quote::look_inside`].
    #[inline(always)]
    fn read_quoted<A: Readable>(&self, work: &mut Work<A>) -> bool
    where
        Self: Sized,
    {
        quote::look_inside(self, work)
    }
    /// Bytes from the network header to the end of the packet.
    fn length(&self) -> u32;
    /// Whether there are so many of them.
    #[inline(always)]
    fn reaches(&self, length: u32) -> bool {
        length <= self.length()
    }
}

/// Flags of a TCP header.
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset the connection.
    pub const RST: u8 = 4;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 16;
}

/// Types of ICMP's echo messages (RFC 792, RFC 4443 §4).
pub mod echo {
    use crate::layout::Family;

    /// The type of a request.
    #[inline(always)]
    pub const fn request(family: Family) -> u8 {
        match family {
            Family::V4 => 8,
            Family::V6 => 128,
        }
    }

    /// The type of a reply.
    #[inline(always)]
    pub const fn reply(family: Family) -> u8 {
        match family {
            Family::V4 => 0,
            Family::V6 => 129,
        }
    }
}

/// Bytes of SCTP's common header: ports, verification tag, checksum.
const SCTP_HEADER: u32 = 12;

/// Whether Services can have ports of this protocol.
#[inline(always)]
const fn has_ports(ip_protocol: u8) -> bool {
    ip_protocol == protocol::TCP || ip_protocol == protocol::UDP || ip_protocol == protocol::SCTP
}

/// What kind of fragment a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// A whole datagram.
    #[default]
    Whole,
    /// The first fragment: it carries the ports.
    First,
    /// A later fragment: the ports are 0.
    Later,
}

/// What the rules know of a TCP, UDP or SCTP packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
    /// IP protocol number: TCP, UDP or SCTP.
    pub protocol: u8,
    /// [`tcp`] flags, of SCTP as [`sctp`] puts them; 0 for UDP.
    pub tcp_flags: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Whether there is data behind the TCP header; SCTP: whether the first chunk shows that the association goes on.
    pub has_payload: bool,
    /// What kind of fragment it is.
    pub fragment: Fragment,
    /// Whether it is an ICMP echo request, or a later fragment of an ICMP message, as long as nothing but a request would be.
    pub is_echo: bool,
    /// Offset of the transport header from the network header.
    pub transport: u32,
    /// Offset of the data from the network header.
    pub payload: u32,
    /// Bytes from the network header to the end of the datagram.
    pub length: u32,
    /// TCP sequence number; the tag that an SCTP INIT ACK asks for. Machine order.
    pub sequence: u32,
    /// TCP acknowledgement number; SCTP's verification tag. Machine order.
    pub acknowledgement: u32,
    /// The datagram's identification, for fragments.
    pub fragment_id: u32,
}

/// What reading a packet gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// TCP, UDP or SCTP: all headers are known.
    Transport,
    /// An ICMP error, whole: addresses, hop limit, length and the offset of its ICMP header are known.
    Error,
    /// Never translated, but whole: addresses, protocol, hop limit, length and the offset of what is behind the headers are
    /// known, and whether it is an echo request.
    Message,
    /// Something that is never translated.
    Other,
    /// Headers that contradict themselves or are cut short: only the addresses are known.
    Malformed,
}

impl Parsed {
    /// It as a number.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// What a number stands for.
    #[inline(always)]
    pub const fn of_number(number: u32) -> Self {
        match number {
            0 => Self::Transport,
            1 => Self::Error,
            2 => Self::Message,
            3 => Self::Other,
            _ => Self::Malformed,
        }
    }
}

/// A packet's tuple, read without a look at anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
    /// IP protocol number: TCP, UDP or SCTP.
    pub protocol: u8,
}

/// An address family's packets can be read.
pub trait Readable: Addr {
    /// Bytes of a network header without options or extension headers.
    const HEADER: u32;
    /// The tuple of a whole TCP, UDP or SCTP packet without IP options or extension headers, which nearly all packets are;
    /// `None` for any other, which [`Self::parse`] must read.
    fn glance<B: Bytes>(bytes: &B) -> Option<Glance<Self>>;
    /// The headers of a whole TCP or UDP packet that [`Self::glance`] can read, as [`Self::parse`] reads them; `None` for any
    /// other, and for one of which something is not at hand or not as usual.
    fn plain<B: Bytes>(bytes: &B) -> Option<Headers<Self>>;
    /// Reads the headers of a packet of this family into `packet`, whose old content does not matter.
    fn parse<B: Bytes>(bytes: &B, packet: &mut Headers<Self>) -> Parsed;
    /// Reads what an ICMP error quotes of a packet: addresses, protocol and, but for a later fragment, ports. The rest may
    /// be cut off. `bytes` end where the error ends.
    fn parse_quoted<B: Bytes>(bytes: &B, packet: &mut Headers<Self>) -> Parsed;
}

/// How many IPv6 extension headers are walked; a packet with more passes untouched.
const EXTENSION_HEADERS: u32 = 6;

impl Readable for V4 {
    const HEADER: u32 = 20;

    #[inline(always)]
    fn plain<B: Bytes>(bytes: &B) -> Option<Headers<Self>> {
        let [first, second, third, source, destination, ports, behind] = bytes.glance::<7>(0)?;
        let (first, second, third) = (u32::from_be(first), u32::from_be(second), u32::from_be(third));
        if first >> 24 != 0x45 || second & 0x3fff != 0 {
            return None;
        }
        let packet = Headers {
            source: V4(source),
            destination: V4(destination),
            source_port: Port::from_wire(first_half(ports)),
            destination_port: Port::from_wire(second_half(ports)),
            protocol: (third >> 16) as u8,
            hop_limit: (third >> 24) as u8,
            fragment_id: second >> 16,
            transport: Self::HEADER,
            length: first & 0xffff,
            ..Headers::default()
        };
        plain_transport(bytes, packet, behind)
    }

    #[inline(always)]
    fn glance<B: Bytes>(bytes: &B) -> Option<Glance<Self>> {
        let [first, second, third, source, destination] = bytes.glance::<5>(0)?;
        let protocol = (u32::from_be(third) >> 16) as u8;
        let is_plain = u32::from_be(first) >> 24 == 0x45 && u32::from_be(second) & 0x3fff == 0;
        if !is_plain || !has_ports(protocol) {
            return None;
        }
        let [ports] = bytes.glance::<1>(20)?;
        Some(Glance {
            source: V4(source),
            destination: V4(destination),
            source_port: Port::from_wire(first_half(ports)),
            destination_port: Port::from_wire(second_half(ports)),
            protocol,
        })
    }

    #[inline(always)]
    fn parse<B: Bytes>(bytes: &B, packet: &mut Headers<Self>) -> Parsed {
        let Some([first, second, third, source, destination]) = bytes.words::<5>(0) else {
            return Parsed::Other;
        };
        let first = u32::from_be(first);
        let second = u32::from_be(second);
        let third = u32::from_be(third);
        if first >> 28 != 4 {
            return Parsed::Other;
        }
        let header = (first >> 24 & 0xf) * 4;
        *packet = Headers {
            source: V4(source),
            destination: V4(destination),
            protocol: (third >> 16) as u8,
            hop_limit: (third >> 24) as u8,
            fragment: ipv4_fragment(second),
            fragment_id: second >> 16,
            transport: header,
            length: first & 0xffff,
            ..Headers::default()
        };
        // The length is asked for where it was written: in a register of its own, the verifier of kernel 6.1 follows it being 0
        // to where it can no longer be.
        if packet.length == 0 {
            if bytes.length() <= 0xffff {
                return Parsed::Malformed;
            }
            // BIG TCP: a segment too large for the field, which is then 0.
            packet.length = bytes.length();
        }
        if header < 20 || packet.length < header || packet.length > bytes.length() {
            return Parsed::Malformed;
        }
        if packet.protocol == protocol::ICMP {
            return icmp(bytes, packet);
        }
        transport(bytes, packet)
    }

    #[inline(always)]
    fn parse_quoted<B: Bytes>(bytes: &B, packet: &mut Headers<Self>) -> Parsed {
        let Some([first, second, third, source, destination]) = bytes.words::<5>(0) else {
            return Parsed::Other;
        };
        let first = u32::from_be(first);
        let second = u32::from_be(second);
        let header = (first >> 24 & 0xf) * 4;
        if first >> 28 != 4 || header < 20 {
            return Parsed::Other;
        }
        *packet = Headers {
            source: V4(source),
            destination: V4(destination),
            protocol: (u32::from_be(third) >> 16) as u8,
            fragment: ipv4_fragment(second),
            transport: header,
            ..Headers::default()
        };
        quoted_ports(bytes, packet)
    }
}

impl Readable for V6 {
    const HEADER: u32 = 40;

    #[inline(always)]
    fn plain<B: Bytes>(bytes: &B) -> Option<Headers<Self>> {
        let [first, second, s0, s1, s2, s3, d0, d1, d2, d3, ports, behind] = bytes.glance::<12>(0)?;
        let second = u32::from_be(second);
        let payload = second >> 16;
        // A length of 0 stands for one that does not fit.
        if u32::from_be(first) >> 28 != 6 || payload == 0 {
            return None;
        }
        let packet = Headers {
            source: V6([s0, s1, s2, s3]),
            destination: V6([d0, d1, d2, d3]),
            source_port: Port::from_wire(first_half(ports)),
            destination_port: Port::from_wire(second_half(ports)),
            protocol: (second >> 8) as u8,
            hop_limit: second as u8,
            transport: Self::HEADER,
            length: payload + Self::HEADER,
            ..Headers::default()
        };
        plain_transport(bytes, packet, behind)
    }

    #[inline(always)]
    fn glance<B: Bytes>(bytes: &B) -> Option<Glance<Self>> {
        let [first, second, s0, s1, s2, s3, d0, d1, d2, d3] = bytes.glance::<10>(0)?;
        let protocol = (u32::from_be(second) >> 8) as u8;
        let is_plain = u32::from_be(first) >> 28 == 6;
        if !is_plain || !has_ports(protocol) {
            return None;
        }
        let [ports] = bytes.glance::<1>(40)?;
        Some(Glance {
            source: V6([s0, s1, s2, s3]),
            destination: V6([d0, d1, d2, d3]),
            source_port: Port::from_wire(first_half(ports)),
            destination_port: Port::from_wire(second_half(ports)),
            protocol,
        })
    }

    #[inline(always)]
    fn parse<B: Bytes>(bytes: &B, packet: &mut Headers<Self>) -> Parsed {
        let Some(words) = bytes.words::<10>(0) else {
            return Parsed::Other;
        };
        let [first, second, s0, s1, s2, s3, d0, d1, d2, d3] = words;
        if u32::from_be(first) >> 28 != 6 {
            return Parsed::Other;
        }
        let second = u32::from_be(second);
        let payload = second >> 16;
        *packet = Headers {
            source: V6([s0, s1, s2, s3]),
            destination: V6([d0, d1, d2, d3]),
            protocol: (second >> 8) as u8,
            hop_limit: second as u8,
            transport: 40,
            // A payload length of 0 is a jumbogram or BIG TCP: the packet's own length counts.
            length: if payload == 0 {
                bytes.length()
            } else {
                payload + 40
            },
            ..Headers::default()
        };
        if packet.length > bytes.length() {
            return Parsed::Malformed;
        }
        if !has_ports(packet.protocol) {
            match extension_headers(bytes, packet) {
                Walk::Transport => {}
                Walk::Other => return Parsed::Message,
                Walk::Malformed => return Parsed::Malformed,
            }
        }
        if packet.protocol == protocol::ICMPV6 {
            return icmp(bytes, packet);
        }
        transport(bytes, packet)
    }

    #[inline(always)]
    fn parse_quoted<B: Bytes>(bytes: &B, packet: &mut Headers<Self>) -> Parsed {
        let Some([first, second, s0, s1, s2, s3, d0, d1, d2, d3]) = bytes.words::<10>(0) else {
            return Parsed::Other;
        };
        if u32::from_be(first) >> 28 != 6 {
            return Parsed::Other;
        }
        *packet = Headers {
            source: V6([s0, s1, s2, s3]),
            destination: V6([d0, d1, d2, d3]),
            protocol: (u32::from_be(second) >> 8) as u8,
            transport: 40,
            length: bytes.length(),
            ..Headers::default()
        };
        if !has_ports(packet.protocol) && extension_headers(bytes, packet) != Walk::Transport {
            return Parsed::Other;
        }
        quoted_ports(bytes, packet)
    }
}

/// Where a walk over extension headers ended.
#[derive(PartialEq, Eq)]
enum Walk {
    Transport,
    Other,
    Malformed,
}

const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;

#[inline(always)]
fn extension_headers<B: Bytes>(bytes: &B, packet: &mut Headers<V6>) -> Walk {
    const HOP_BY_HOP: u8 = 0;
    const FRAGMENT: u8 = 44;
    let mut next = packet.protocol;
    let mut offset = packet.transport;
    for _ in 0..EXTENSION_HEADERS {
        match next {
            protocol::TCP | protocol::UDP | protocol::SCTP | protocol::ICMPV6 => break,
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let Some([word]) = bytes.words::<1>(offset) else {
                    return Walk::Malformed;
                };
                let word = u32::from_be(word);
                next = (word >> 24) as u8;
                offset += ((word >> 16 & 0xff) + 1) * 8;
            }
            FRAGMENT => {
                let Some([word, id]) = bytes.words::<2>(offset) else {
                    return Walk::Malformed;
                };
                let word = u32::from_be(word);
                next = (word >> 24) as u8;
                offset += 8;
                packet.fragment_id = u32::from_be(id);
                packet.fragment = match (word & 0xfff8 != 0, word & 1 != 0) {
                    (true, _) => Fragment::Later,
                    (false, true) => Fragment::First,
                    // An atomic fragment (RFC 6946) is a whole datagram.
                    (false, false) => Fragment::Whole,
                };
                if packet.fragment == Fragment::Later {
                    // What follows is the middle of a datagram, no header.
                    break;
                }
            }
            _ => {
                (packet.protocol, packet.transport) = (next, offset);
                return Walk::Other;
            }
        }
    }
    packet.protocol = next;
    packet.transport = offset;
    if offset > packet.length {
        return Walk::Malformed;
    }
    Walk::Transport
}

/// What kind of fragment the second word of an IPv4 header, in machine order, makes of a packet.
#[inline(always)]
const fn ipv4_fragment(second: u32) -> Fragment {
    match (second & 0x1fff != 0, second & 0x2000 != 0) {
        (true, _) => Fragment::Later,
        (false, true) => Fragment::First,
        (false, false) => Fragment::Whole,
    }
}

/// Tells ICMP errors about a packet from all other messages.
#[inline(always)]
fn icmp<A: Addr, B: Bytes>(bytes: &B, packet: &mut Headers<A>) -> Parsed {
    if packet.fragment == Fragment::Later {
        packet.is_echo = true;
        return Parsed::Message;
    }
    let Some([word]) = bytes.words::<1>(packet.transport) else {
        return Parsed::Message;
    };
    let kind = (u32::from_be(word) >> 24) as u8;
    let is_error = match A::FAMILY {
        // Destination unreachable, time exceeded, parameter problem (RFC 792).
        Family::V4 => matches!(kind, 3 | 11 | 12),
        // And packet too big (RFC 4443).
        Family::V6 => matches!(kind, 1..=4),
    };
    if is_error && packet.fragment == Fragment::Whole {
        return Parsed::Error;
    }
    packet.is_echo = kind == echo::request(A::FAMILY);
    Parsed::Message
}

#[inline(always)]
fn quoted_ports<A: Addr, B: Bytes>(bytes: &B, packet: &mut Headers<A>) -> Parsed {
    if !has_ports(packet.protocol) {
        return Parsed::Other;
    }
    if packet.fragment == Fragment::Later {
        return Parsed::Transport;
    }
    let Some([ports]) = bytes.words::<1>(packet.transport) else {
        return Parsed::Other;
    };
    packet.source_port = Port::from_wire(first_half(ports));
    packet.destination_port = Port::from_wire(second_half(ports));
    Parsed::Transport
}

#[inline(always)]
fn transport<A: Addr, B: Bytes>(bytes: &B, packet: &mut Headers<A>) -> Parsed {
    if A::FAMILY == Family::V6
        && packet.fragment == Fragment::Later
        && (packet.protocol == ROUTING || packet.protocol == DESTINATION_OPTIONS)
    {
        // It names what comes first behind the fragment header of the first fragment, which alone knows the protocol.
        return Parsed::Transport;
    }
    if !has_ports(packet.protocol) {
        return Parsed::Message;
    }
    if packet.fragment == Fragment::Later {
        return Parsed::Transport;
    }
    let malformed = Parsed::Malformed;
    let room = packet.length - packet.transport;
    let Some([ports, second]) = bytes.words::<2>(packet.transport) else {
        return malformed;
    };
    packet.source_port = Port::from_wire(first_half(ports));
    packet.destination_port = Port::from_wire(second_half(ports));
    if packet.protocol == protocol::UDP {
        let length = u32::from_be(second) >> 16;
        // 0: a jumbogram. A first fragment's length is that of the whole datagram.
        let fits = length == 0 || (length >= 8 && (length <= room || packet.fragment == Fragment::First));
        packet.payload = packet.transport + 8;
        return if room >= 8 && fits {
            Parsed::Transport
        } else {
            malformed
        };
    }
    // TCP: acknowledgement number and flags. SCTP: checksum and the first chunk's header.
    let Some([acknowledgement, flags]) = bytes.words::<2>(packet.transport + 8) else {
        return malformed;
    };
    if packet.protocol == protocol::SCTP {
        return association(bytes, packet, second, flags);
    }
    let flags = u32::from_be(flags);
    let header = (flags >> 28) * 4;
    if header < 20 || header > room {
        return malformed;
    }
    packet.sequence = u32::from_be(second);
    packet.acknowledgement = u32::from_be(acknowledgement);
    packet.tcp_flags = (flags >> 16) as u8;
    packet.payload = packet.transport + header;
    packet.has_payload = room > header;
    Parsed::Transport
}

/// Reads on in a packet whose addresses and ports are known; `behind` is the word behind the ports.
#[inline(always)]
fn plain_transport<A: Readable, B: Bytes>(
    bytes: &B,
    mut packet: Headers<A>,
    behind: u32,
) -> Option<Headers<A>> {
    if packet.length < A::HEADER || !bytes.reaches(packet.length) {
        return None;
    }
    let room = packet.length - A::HEADER;
    if packet.protocol == protocol::UDP {
        packet.payload = A::HEADER + 8;
        let length = u32::from_be(behind) >> 16;
        return (length >= 8 && length <= room).then_some(packet);
    }
    if packet.protocol != protocol::TCP {
        return None;
    }
    let [acknowledgement, flags] = bytes.glance::<2>(A::HEADER + 8)?;
    let flags = u32::from_be(flags);
    let header = (flags >> 28) * 4;
    if header < 20 || header > room {
        return None;
    }
    packet.sequence = u32::from_be(behind);
    packet.acknowledgement = u32::from_be(acknowledgement);
    packet.tcp_flags = (flags >> 16) as u8;
    packet.payload = A::HEADER + header;
    packet.has_payload = room > header;
    Some(packet)
}

/// Reads on in an SCTP packet: its verification tag and the first word of its first chunk are known.
#[inline(always)]
fn association<A: Addr, B: Bytes>(bytes: &B, packet: &mut Headers<A>, tag: u32, chunk: u32) -> Parsed {
    let room = packet.length - packet.transport;
    if !(SCTP_HEADER + 4..=0xffff).contains(&room) {
        return Parsed::Malformed;
    }
    let chunk = (u32::from_be(chunk) >> 24) as u8;
    if chunk == sctp::INIT_ACK {
        let Some([asked]) = bytes.words::<1>(packet.transport + SCTP_HEADER + 4) else {
            return Parsed::Malformed;
        };
        packet.sequence = u32::from_be(asked);
    }
    packet.acknowledgement = u32::from_be(tag);
    (packet.tcp_flags, packet.has_payload) = sctp::in_tcp_words(chunk);
    packet.payload = packet.transport + SCTP_HEADER;
    Parsed::Transport
}

/// The half of a word that comes first in memory.
#[inline(always)]
const fn first_half(word: u32) -> u16 {
    if cfg!(target_endian = "little") {
        word as u16
    } else {
        (word >> 16) as u16
    }
}

/// The half of a word that comes second in memory.
#[inline(always)]
const fn second_half(word: u32) -> u16 {
    if cfg!(target_endian = "little") {
        (word >> 16) as u16
    } else {
        word as u16
    }
}

impl<A: Addr> Headers<A> {
    /// Whether it opens a connection: a SYN without ACK and RST, an INIT.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.tcp_flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN
    }

    /// Whether it answers an opening: a SYN-ACK, an INIT ACK.
    #[inline(always)]
    pub const fn answers(&self) -> bool {
        self.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN | tcp::ACK
    }

    /// The number that shows, in a client's packet, that the client got this answer: TCP counts the SYN, SCTP's tags are
    /// as they are.
    #[inline(always)]
    pub const fn proof(&self) -> u32 {
        let counted = (self.protocol == protocol::TCP) as u32;
        self.sequence.wrapping_add(counted)
    }
}

#[cfg(test)]
mod tests;
