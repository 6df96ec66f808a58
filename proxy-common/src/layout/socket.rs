//! SOCKETS: what socket LB did for a socket.
//!
//! One LRU holds two kinds of entry. *Reverse*: (cookie, backend) -> frontend, so that getpeername and recvmsg show
//! what the program called. *Forward*, UDP only: (cookie, frontend) -> backend, so that all datagrams of a socket to
//! one frontend keep their backend while it serves.

use super::{BackendId, MappedAddress, Port};

/// A key of SOCKETS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// The socket's cookie (`SO_COOKIE`).
    pub cookie: u64,
    /// The other end, IPv6 or IPv4 mapped.
    pub address: MappedAddress,
    /// Its port.
    pub port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// A [`super::Direction`].
    pub direction: u8,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<SocketKey>() == 32);

/// A value of SOCKETS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketValue {
    /// Low half of the cookie: the tag of the value.
    pub tag: u32,
    /// The backend that was chosen.
    pub backend: BackendId,
    /// [`super::Backend::life`] when it was chosen.
    pub generation: u32,
    /// Port of the frontend (reverse) or of the backend (forward).
    pub port: Port,
    /// Zero.
    pub pad: u16,
    /// Address of the frontend (reverse) or of the backend (forward).
    pub address: MappedAddress,
}

const _: () = assert!(size_of::<SocketValue>() == 32);
