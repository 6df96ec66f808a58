//! FRAGMENTS4 and FRAGMENTS6: the ports that only a datagram's first fragment carries.

use super::Port;

/// A key of FRAGMENTS4 (16 bytes) or FRAGMENTS6 (40 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// The datagram's identification; IPv4's 16 bits widened.
    pub id: u32,
    /// IP protocol number; 0 in IPv6, whose later fragments may name an extension header instead (RFC 8200 §4.5).
    pub protocol: u32,
}

const _: () = assert!(size_of::<FragmentKey<super::V4>>() == 16);
const _: () = assert!(size_of::<FragmentKey<super::V6>>() == 40);

/// A value of FRAGMENTS4 and FRAGMENTS6.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentPorts {
    /// Source port.
    pub source: Port,
    /// Destination port.
    pub destination: Port,
    /// 24 bits of the key's hash, and below them the protocol, in which the first fragment's headers end.
    pub tag: u32,
}

impl FragmentPorts {
    /// The ports and the protocol of the datagram with the key that has this tag.
    #[inline(always)]
    pub const fn new(key_tag: u32, source: Port, destination: Port, protocol: u8) -> Self {
        Self {
            source,
            destination,
            tag: key_tag & !0xff | protocol as u32,
        }
    }

    /// Whether it stands under the key with this tag.
    #[inline(always)]
    pub const fn is_of(&self, key_tag: u32) -> bool {
        self.tag >> 8 == key_tag >> 8
    }

    /// TCP, UDP or SCTP.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.tag as u8
    }
}

const _: () = assert!(size_of::<FragmentPorts>() == 8);
