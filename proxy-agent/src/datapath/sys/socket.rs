//! Options of sockets that no crate covers, and waiting for two of them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The cookie of the network namespace that a socket belongs to (kernel 5.14).
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    const SO_NETNS_COOKIE: i32 = 71;
    socket_option(socket, SO_NETNS_COOKIE)
}

/// A socket's cookie, the one that BPF programs see.
#[cfg(test)]
pub(crate) fn socket_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    socket_option(socket, libc::SO_COOKIE)
}

fn socket_option(socket: BorrowedFd<'_>, option: i32) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: value and length are live, and the length is that of the value.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_mut(&mut value).cast(),
            &mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value)
}

/// Whether an interface takes the tags of VLANs out of the frames that it receives (`rx-vlan-offload`), where XDP does not
/// see them.
pub(crate) fn hides_vlan_tags(interface: &str) -> io::Result<bool> {
    const ETHTOOL_GFLAGS: u32 = 0x25;
    const ETH_FLAG_RXVLAN: u32 = 1 << 8;
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // struct ethtool_value: the command, and what it gives.
    let mut value = [ETHTOOL_GFLAGS, 0];
    // SAFETY: a struct of integers and arrays, for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(interface.bytes())
    {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the request and what it points to live through the call, and are what the command reads and writes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value[1] & ETH_FLAG_RXVLAN != 0)
}

/// Waits until one of the descriptors can be read or is at its end, or the time is over. A signal ends it early.
pub(crate) fn wait_readable(
    fds: [BorrowedFd<'_>; 2],
    timeout: Option<std::time::Duration>,
) -> io::Result<[bool; 2]> {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let milliseconds = timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
    });
    // SAFETY: the array is live and has the length given.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        return Ok([false; 2]);
    }
    Ok(polled.map(|polled| polled.revents != 0))
}

/// Borrows the descriptor of a netlink socket, whose crate gives only its number.
pub(crate) fn borrow_netlink(socket: &netlink_sys::Socket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns an open descriptor, and the borrow keeps the socket alive.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}
