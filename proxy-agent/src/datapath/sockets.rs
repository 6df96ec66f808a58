//! The node's sockets, by sock_diag: who holds ports of our range, and what socket LB left behind.
//!
//! Destroys UDP sockets of the host that socket LB connected to a backend that is gone: their program gets an error
//! and asks again, instead of talking to nobody.

use std::collections::BTreeSet;
use std::io;

use proxy_common::layout::{Backend, BackendId, Direction, MappedAddress, Port, SocketKey, V4, V6, protocol};

use super::error::{Context, DatapathError};
use super::netlink::{Body, Netlink, integer};
use super::tables::Tables;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// TCP_ESTABLISHED; a UDP socket that is connected is in it.
const CONNECTED: u32 = 1 << 1;

/// A connected UDP socket.
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
        let request = request(family as u8, protocol::UDP, CONNECTED, &[0; 48]);
        let sockets = netlink
            .dump(SOCK_DIAG_BY_FAMILY, &request)
            .call("SOCK_DIAG_BY_FAMILY", "UDP sockets")?;
        for socket in sockets.iter().filter_map(|message| Socket::read(&message.body)) {
            if is_of(tables, &socket, gone)? {
                destroyed += usize::from(destroy_one(&mut netlink, &socket)?);
            }
        }
    }
    Ok(destroyed)
}

/// Whether socket LB made this socket's destination out of one of these uses of backends.
fn is_of(tables: &Tables, socket: &Socket, gone: &[(BackendId, Backend)]) -> Result<bool, DatapathError> {
    let Some(((address, port), cookie)) = socket.destination().zip(socket.cookie()) else {
        return Ok(false);
    };
    if !gone
        .iter()
        .any(|(_, backend)| (backend.address, backend.port) == (address, port))
    {
        return Ok(false);
    }
    let key = SocketKey {
        cookie,
        address,
        port,
        protocol: protocol::UDP,
        direction: Direction::Reverse as u8,
        pad: 0,
    };
    let Some(value) = tables.sockets.get(&key)? else {
        return Ok(false);
    };
    // The same endpoint may serve another Service on: only the use that ended counts.
    let ended =
        |(id, backend): &(BackendId, Backend)| (*id, backend.life) == (value.backend, value.generation);
    Ok(value.tag == cookie as u32 && gone.iter().any(ended))
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
            let request = request(family as u8, ip_protocol, UNCONNECTED, &[0; 48]);
            let sockets = netlink
                .dump(SOCK_DIAG_BY_FAMILY, &request)
                .call("SOCK_DIAG_BY_FAMILY", "sockets")?;
            let found = sockets
                .iter()
                .filter_map(|message| Socket::read(&message.body)?.port());
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

fn destroy_one(netlink: &mut Netlink, socket: &Socket) -> Result<bool, DatapathError> {
    match netlink.change(
        SOCK_DESTROY,
        0,
        &request(socket.family, protocol::UDP, CONNECTED, &socket.id),
    ) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).call("SOCK_DESTROY", "a UDP socket to a gone backend")?,
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
