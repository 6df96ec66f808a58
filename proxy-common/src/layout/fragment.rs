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
    /// IP protocol number.
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
    /// Hash of the key.
    pub tag: u32,
}

const _: () = assert!(size_of::<FragmentPorts>() == 8);
