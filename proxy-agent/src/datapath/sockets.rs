//! The node's sockets, by sock_diag: who holds ports of our range, and what socket LB left behind.
//!
//! Destroys UDP sockets of the host that socket LB connected to a backend that is gone, and TCP sockets where a Service
//! asks for it: their program gets an error and asks again, instead of talking to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proxy_common::layout::{
    Backend, BackendId, Direction, MappedAddress, Port, SocketKey, SocketValue, V4, V6, protocol,
};

use super::error::{Context, DatapathError};
use super::netlink::{Body, Netlink, integer};
use super::tables::Tables;
use crate::plan::{Frontend, Mortal};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// TCP_ESTABLISHED; a UDP socket that is connected is in it.
const CONNECTED: u32 = 1 << 1;

/// TCP_ESTABLISHED, TCP_SYN_SENT and TCP_CLOSE_WAIT: its program still waits for the other end, or may send to it.
const TALKING: u32 = 1 << 1 | 1 << 2 | 1 << 8;

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Socket {
    family: u8,
    /// `struct inet_diag_sockid`, as the kernel gave it.
    id: [u8; 48],
}

impl Socket {
    fn read(body: &[u8]) -> Option<Self> {
        Some(Self {
            family: *body.first()?,
            id: integer(body, 4)?,
        })
    }

    /// Its own port.
    fn port(&self) -> Option<u16> {
        Some(u16::from_be_bytes(integer(&self.id, 0)?))
    }

    fn destination(&self) -> Option<(MappedAddress, Port)> {
        let port = Port::from_wire(u16::from_ne_bytes(integer(&self.id, 2)?));
        let address = if i32::from(self.family) == libc::AF_INET {
            let four: [u8; 4] = integer(&self.id, 20)?;
            proxy_common::layout::Addr::to_mapped(&V4::new(four))
        } else {
            V6::new(integer(&self.id, 20)?)
        };
        Some((address, port))
    }

    fn cookie(&self) -> Option<u64> {
        let low = u32::from_ne_bytes(integer(&self.id, 40)?);
        let high = u32::from_ne_bytes(integer(&self.id, 44)?);
        Some(u64::from(low) | u64::from(high) << 32)
    }
}

/// Destroys the sockets of the calling thread's network namespace that socket LB connected to one of these backends;
/// how many.
pub(super) fn destroy(tables: &Tables, gone: &[(BackendId, Backend)]) -> Result<usize, DatapathError> {
    let mut netlink = Netlink::diagnosis().call("socket", "sock_diag")?;
    let mut destroyed = 0;
    for family in [libc::AF_INET, libc::AF_INET6] {
        for socket in dump(&mut netlink, family, protocol::UDP, CONNECTED)? {
            if is_of(tables, &socket, gone)? {
                destroyed += usize::from(destroy_one(&mut netlink, &socket, protocol::UDP, CONNECTED)?);
            }
        }
    }
    Ok(destroyed)
}

/// Service ports whose connections end with their endpoints, by frontend.
pub(super) struct Living<'a>(BTreeMap<Frontend, &'a BTreeSet<SocketAddr>>);

impl<'a> Living<'a> {
    pub(super) fn new(ports: impl Iterator<Item = &'a Mortal>) -> Self {
        let by_frontend =
            |port: &'a Mortal| port.frontends.iter().map(|frontend| (*frontend, &port.endpoints));
        Self(ports.flat_map(by_frontend).collect())
    }

    /// Whether a connection to this endpoint, made of one to this frontend, is to end.
    fn has_lost(&self, tables: &Tables, to: SocketAddr, frontend: Frontend) -> Result<bool, DatapathError> {
        let wildcard = Frontend {
            address: match frontend.address {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            },
            ..frontend
        };
        let endpoints = match (self.0.get(&frontend), self.0.get(&wildcard)) {
            (Some(endpoints), _) => endpoints,
            // A node port, unless the address has a frontend of its own there.
            (None, Some(endpoints)) if !tables.has_frontend(&frontend)? => endpoints,
            (None, _) => return Ok(false),
        };
        Ok(!endpoints.contains(&to))
    }
}

/// Resets the connections of the calling thread's network namespace that socket LB made to endpoints that are gone; how
/// many. A connection of which nothing is noted any more lives on.
pub(super) fn end_connections(tables: &Tables, living: &Living<'_>) -> Result<usize, DatapathError> {
    let mut netlink = Netlink::diagnosis().call("socket", "sock_diag")?;
    let mut reset = 0;
    for family in [libc::AF_INET, libc::AF_INET6] {
        for socket in dump(&mut netlink, family, protocol::TCP, TALKING)? {
            let Some((to, value)) = noted(tables, &socket, protocol::TCP)? else {
                continue;
            };
            let frontend = Frontend {
                address: value.address.into(),
                port: value.port,
                protocol: protocol::TCP,
            };
            if living.has_lost(tables, to, frontend)? {
                reset += usize::from(destroy_one(&mut netlink, &socket, protocol::TCP, TALKING)?);
            }
        }
    }
    Ok(reset)
}

/// What socket LB noted of a socket: its destination, and what that was made of.
fn noted(
    tables: &Tables,
    socket: &Socket,
    ip_protocol: u8,
) -> Result<Option<(SocketAddr, SocketValue)>, DatapathError> {
    let Some(((address, port), cookie)) = socket.destination().zip(socket.cookie()) else {
        return Ok(None);
    };
    let key = SocketKey {
        cookie,
        address,
        port,
        protocol: ip_protocol,
        direction: Direction::Reverse as u8,
        pad: 0,
    };
    let value = tables.sockets.get(&key)?;
    let value = value.filter(|value| value.tag == cookie as u32);
    Ok(value.map(|value| (SocketAddr::new(address.into(), port.number()), value)))
}

/// The sockets of a family and protocol in some states.
fn dump(
    netlink: &mut Netlink,
    family: i32,
    ip_protocol: u8,
    states: u32,
) -> Result<Vec<Socket>, DatapathError> {
    let request = request(family as u8, ip_protocol, states, &[0; 48]);
    let messages = netlink
        .dump(SOCK_DIAG_BY_FAMILY, &request)
        .call("SOCK_DIAG_BY_FAMILY", "sockets")?;
    let sockets = messages.iter().filter_map(|message| Socket::read(&message.body));
    Ok(sockets.collect())
}

/// Whether socket LB made this socket's destination out of one of these uses of backends.
fn is_of(tables: &Tables, socket: &Socket, gone: &[(BackendId, Backend)]) -> Result<bool, DatapathError> {
    let Some((address, port)) = socket.destination() else {
        return Ok(false);
    };
    if !gone
        .iter()
        .any(|(_, backend)| (backend.address, backend.port) == (address, port))
    {
        return Ok(false);
    }
    let Some((_, value)) = noted(tables, socket, protocol::UDP)? else {
        return Ok(false);
    };
    // The same endpoint may serve another Service on: only the use that ended counts.
    let ended =
        |(id, backend): &(BackendId, Backend)| (*id, backend.life) == (value.backend, value.generation);
    Ok(gone.iter().any(ended))
}

/// Ports of a range at which a socket of the calling thread's network namespace listens or is bound without a peer, as
/// `45001/tcp`.
pub(super) fn bound(first: u16, count: u16) -> Result<Vec<String>, DatapathError> {
    /// TCP_LISTEN and TCP_CLOSE; a UDP socket without a peer is in the latter.
    const UNCONNECTED: u32 = 1 << 10 | 1 << 7;
    let mut netlink = Netlink::diagnosis().call("socket", "sock_diag")?;
    let mut ports = BTreeSet::new();
    for (ip_protocol, name) in [(protocol::TCP, "tcp"), (protocol::UDP, "udp")] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let sockets = dump(&mut netlink, family, ip_protocol, UNCONNECTED)?;
            let found = sockets.iter().filter_map(Socket::port);
            let inside = found.filter(|port| port.wrapping_sub(first) < count && *port >= first);
            ports.extend(inside.map(|port| (port, name)));
        }
    }
    Ok(ports
        .into_iter()
        .map(|(port, name)| format!("{port}/{name}"))
        .collect())
}

/// Asks for the destruction of a socket that can't exist: a kernel that knows how misses it.
pub(super) fn kernel_can_destroy() -> Result<bool, DatapathError> {
    let mut netlink = Netlink::diagnosis().call("socket", "sock_diag")?;
    match netlink.change(
        SOCK_DESTROY,
        0,
        &request(libc::AF_INET as u8, protocol::UDP, CONNECTED, &[0; 48]),
    ) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP)) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        other => other
            .call("SOCK_DESTROY", "no socket")
            .map(|()| true)
            .map_err(DatapathError::from),
    }
}

fn destroy_one(
    netlink: &mut Netlink,
    socket: &Socket,
    ip_protocol: u8,
    states: u32,
) -> Result<bool, DatapathError> {
    match netlink.change(
        SOCK_DESTROY,
        0,
        &request(socket.family, ip_protocol, states, &socket.id),
    ) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).call("SOCK_DESTROY", "a socket to a gone backend")?,
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, ip_protocol: u8, states: u32, id: &[u8; 48]) -> Body {
    let mut bytes = [0; 56];
    bytes[0] = family;
    bytes[1] = ip_protocol;
    bytes[4..8].copy_from_slice(&states.to_ne_bytes());
    bytes[8..].copy_from_slice(id);
    Body::new(&bytes)
}
