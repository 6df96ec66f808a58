//! The rules of iptables as it was before nftables, which only socket options give.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// As linux/netfilter_ipv4/ip_tables.h and its sister of IPv6 have them.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
/// Bytes of a table's name.
const NAME: usize = 32;
/// Bytes of struct ipt_getinfo, whose last four are the size of the entries.
const INFO: usize = 84;
/// Bytes of struct ipt_get_entries before the entries: the name, their size, and nothing up to a multiple of eight.
const HEADER: usize = NAME + 8;
/// How often a table that changes while it is read is read again.
const TRIES: usize = 16;

/// The entries of a table, in the calling thread's network namespace.
pub(crate) fn legacy_rules(is_six: bool, table: &str) -> io::Result<Vec<u8>> {
    let (address, level) = match is_six {
        true => ("[::]:0", libc::IPPROTO_IPV6),
        false => ("0.0.0.0:0", libc::IPPROTO_IP),
    };
    let socket = UdpSocket::bind(address)?;
    if table.len() >= NAME {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for _ in 0..TRIES {
        let mut info = [0; INFO];
        info[..table.len()].copy_from_slice(table.as_bytes());
        get(&socket, level, GET_INFO, &mut info)?;
        let size: [u8; 4] = info[INFO - 4..].try_into().unwrap_or_default();
        let mut entries = vec![0; HEADER + u32::from_ne_bytes(size) as usize];
        entries[..table.len()].copy_from_slice(table.as_bytes());
        entries[NAME..NAME + 4].copy_from_slice(&size);
        match get(&socket, level, GET_ENTRIES, &mut entries) {
            Ok(()) => return Ok(entries.split_off(HEADER)),
            // It has grown or shrunk meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

fn get(socket: &UdpSocket, level: i32, option: i32, value: &mut [u8]) -> io::Result<()> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: value and length are live, and the length is that of the value: the kernel writes no more.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            value.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
