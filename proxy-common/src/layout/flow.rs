//! The flow tables: EMBRYOS and FLOWS, each for TCP (and SCTP) and UDP, IPv4 and IPv6.

use super::{Addr, BackendId, Port, ServiceId, Via};

/// Which way a packet of a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From the client to the frontend.
    Forward = 1,
    /// From the backend to the client.
    Reverse = 2,
}

impl Direction {
    /// The other one.
    #[inline(always)]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Forward => Self::Reverse,
            Self::Reverse => Self::Forward,
        }
    }

    /// From the byte in a map.
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Forward),
            2 => Some(Self::Reverse),
            _ => None,
        }
    }
}

/// Which of a protocol's two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowTable {
    /// Flows not yet proven: a flood pushes out other embryos only.
    Embryos,
    /// Flows whose client has answered its backend.
    Flows,
}

/// A key of the flow tables: a packet's tuple as it arrives. 16 bytes (IPv4) or 40 (IPv6).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// A [`Direction`].
    pub direction: u8,
    /// Zero.
    pub pad: u16,
}

const _: () = assert!(size_of::<FlowKey<super::V4>>() == 16);
const _: () = assert!(size_of::<FlowKey<super::V6>>() == 40);

/// How a translated packet goes on; the byte 0 is no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// Through the node's stack, which sees client <-> backend in both directions.
    Stack = 1,
    /// Around the stack, by FIB look-up and redirect: its source was changed.
    Redirect = 2,
    /// Back out of the interface it came in by: a pod that reaches itself.
    Hairpin = 3,
    /// Not ours: netfilter's masquerade uses a port of our range for this tuple; pass.
    Foreign = 4,
    /// Whole, with its own tuple, in an outer header to the backend's address: the backend's node answers the client (DSR).
    /// There is no entry of the other direction.
    Encapsulate = 5,
    /// Around the stack in both directions, with the client's own address: by FIB look-up, and into the pod or out of the
    /// uplink.
    Bypass = 6,
}

impl Action {
    /// From the byte in a map.
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Stack),
            2 => Some(Self::Redirect),
            3 => Some(Self::Hairpin),
            4 => Some(Self::Foreign),
            5 => Some(Self::Encapsulate),
            6 => Some(Self::Bypass),
            _ => None,
        }
    }
}

/// Bits of [`Meta::state`].
pub mod state {
    /// The backend has answered (TCP: SYN-ACK; SCTP: INIT ACK; UDP: any datagram).
    pub const REPLIED: u8 = 1;
    /// The client has answered the backend.
    pub const ESTABLISHED: u8 = 2;
    /// FIN, or SCTP's SHUTDOWN or SHUTDOWN ACK, seen from the client.
    pub const FIN_FORWARD: u8 = 4;
    /// The same from the backend.
    pub const FIN_REVERSE: u8 = 8;
    /// It began here in the middle of a connection, whose backend the hash found; no SYN-ACK or INIT ACK since.
    pub const JOINED: u8 = 32;
    /// RST, or SCTP's ABORT or SHUTDOWN COMPLETE, seen from either side and no data since.
    pub const RESET: u8 = 16;
}

/// How many bits of [`Meta`] are state.
pub const STATE_BITS: u32 = 8;

/// State, last-seen and tag of a flow in one u64, so that they are read and exchanged together: bits 0..32 the tick
/// when it was last seen, 32..40 [`state`], 40..64 a tag of the key.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meta(pub u64);

impl Meta {
    /// From its parts; 24 bits of `tag` are used.
    #[inline(always)]
    pub const fn new(tag: u32, state: u8, seen: u32) -> Self {
        Self((tag as u64) << 40 | (state as u64) << 32 | seen as u64)
    }

    /// Tick (low half of `bpf_jiffies64`) when a packet of the flow was last noted; at most a second late.
    #[inline(always)]
    pub const fn seen(self) -> u32 {
        self.0 as u32
    }

    /// Bits of [`state`].
    #[inline(always)]
    pub const fn state(self) -> u8 {
        (self.0 >> 32) as u8
    }

    /// 24 bits of the key's hash.
    #[inline(always)]
    pub const fn tag(self) -> u32 {
        (self.0 >> 40) as u32
    }

    /// The same with another state and time.
    #[inline(always)]
    pub const fn with(self, state: u8, seen: u32) -> Self {
        Self::new(self.tag(), state, seen)
    }
}

/// A value of the flow tables: the complete new tuple (of [`Action::Encapsulate`] the client's and the backend's), and what is needed to judge whether it still holds. 40 bytes
/// (IPv4) or 64 (IPv6). `meta` stands first, so that a reader who copies the rest and then reads `meta` notices an
/// element that became another key's meanwhile.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow<A> {
    /// State, last-seen and tag.
    pub meta: Meta,
    /// Zero.
    #[cfg(feature = "next-layout")]
    pub reserved: u64,
    /// New source address.
    pub source: A,
    /// New destination address.
    pub destination: A,
    /// New source port.
    pub source_port: Port,
    /// New destination port.
    pub destination_port: Port,
    /// The backend.
    pub backend: BackendId,
    /// [`super::Backend::life`] when the flow was made.
    pub generation: u32,
    /// The service port.
    pub service: ServiceId,
    /// TCP embryo, forward: the acknowledgement number that answers the SYN-ACK; SCTP: the verification tag that the INIT
    /// ACK asks for. Machine order.
    pub expected_acknowledgement: u32,
    /// An [`Action`]; the same in both directions.
    pub action: u8,
    /// Of a flow that goes around the stack, the uplink that it came in by, and that its answers leave by if there is a way; of one
    /// that another node handed on whole, the uplink that it came in by.
    pub via: Via,
}

const RESERVED: usize = if cfg!(feature = "next-layout") { 8 } else { 0 };
const _: () = assert!(size_of::<Flow<super::V4>>() == 40 + RESERVED);
const _: () = assert!(size_of::<Flow<super::V6>>() == 64 + RESERVED);

impl<A: Addr> FlowKey<A> {
    /// The 24-bit tag that a value of this key carries in [`Meta`]; never 0.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        (crate::rules::hash::flow(self) >> 40) as u32 | 1
    }

    /// The key under which the packets of the other direction arrive, given the translation of this direction.
    #[inline(always)]
    pub fn partner(&self, flow: &Flow<A>) -> Self {
        Self {
            source: flow.destination,
            destination: flow.source,
            source_port: flow.destination_port,
            destination_port: flow.source_port,
            protocol: self.protocol,
            direction: self.direction ^ (Direction::Forward as u8 ^ Direction::Reverse as u8),
            pad: 0,
        }
    }

    /// Writes the entry of the other direction, to stand under `partner`.
    #[inline(always)]
    pub fn fill_partner(&self, flow: &Flow<A>, partner: &Self, into: &mut Flow<A>) {
        into.meta = Meta::new(partner.tag(), flow.meta.state(), flow.meta.seen());
        #[cfg(feature = "next-layout")]
        {
            into.reserved = 0;
        }
        into.source = self.destination;
        into.destination = self.source;
        into.source_port = self.destination_port;
        into.destination_port = self.source_port;
        into.backend = flow.backend;
        into.generation = flow.generation;
        into.service = flow.service;
        into.expected_acknowledgement = 0;
        into.action = flow.action;
        into.via = flow.via;
    }
}

impl<A: Addr> Flow<A> {
    /// Whether both entries translate to the same tuple in the same way.
    #[inline(always)]
    pub fn same_tuple(&self, other: &Self) -> bool {
        self.source == other.source
            && self.destination == other.destination
            && self.source_port == other.source_port
            && self.destination_port == other.destination_port
            && self.action == other.action
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::V4;

    #[test]
    fn meta_holds_its_parts() {
        let meta = Meta::new(0xabcdef, state::REPLIED | state::RESET, 0xdead_beef);
        assert_eq!(
            (meta.tag(), meta.state(), meta.seen()),
            (0xabcdef, 17, 0xdead_beef)
        );
        assert_eq!(meta.with(2, 1), Meta::new(0xabcdef, 2, 1));
    }

    #[test]
    fn the_partner_of_the_partner_is_the_flow_itself() {
        let key = FlowKey {
            source: V4::new([10, 0, 0, 1]),
            destination: V4::new([10, 96, 0, 1]),
            source_port: Port::new(40000),
            destination_port: Port::new(80),
            protocol: 6,
            direction: Direction::Forward as u8,
            pad: 0,
        };
        let flow = Flow {
            meta: Meta::new(key.tag(), state::REPLIED, 7),
            source: V4::new([192, 168, 0, 1]),
            destination: V4::new([10, 1, 0, 9]),
            source_port: Port::new(60001),
            destination_port: Port::new(8080),
            backend: BackendId(4),
            generation: 3,
            service: ServiceId(2),
            expected_acknowledgement: 0,
            action: Action::Redirect as u8,
            via: Via::new(7),
        };
        let partner = key.partner(&flow);
        assert_eq!(partner.source, flow.destination);
        assert_eq!(partner.destination_port, flow.source_port);
        let mut back = Flow::default();
        key.fill_partner(&flow, &partner, &mut back);
        assert_eq!(partner.partner(&back), key);
        let mut again = Flow::default();
        partner.fill_partner(&back, &key, &mut again);
        assert_eq!(again, flow);
    }
}
