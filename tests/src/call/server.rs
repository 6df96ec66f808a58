//! The echo server: says which pod it is and whom it sees, over TCP and UDP, and over SCTP where the kernel has it, IPv4 and
//! IPv6, at one port.
//!
//! Over TCP and SCTP it first sends a line, then sends back every byte that comes. A datagram is answered by the line and the
//! datagram's own bytes.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

/// The largest datagram.
const DATAGRAM: usize = 65_536;

/// Serves for ever.
pub fn echo(name: &str, port: u16) -> Result<()> {
    let name: Arc<str> = name.into();
    let wildcards: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let udp4 = UdpSocket::bind((wildcards[0], port)).context("binding UDP over IPv4")?;
    let tcp4 = TcpListener::bind((wildcards[0], port)).context("binding TCP over IPv4")?;
    // An IPv6 socket would take IPv4 as well: a process a family could not bind both.
    let (tcp6, udp6) = only_ipv6(port)?;
    let associations = if has_sctp() {
        [sctp(wildcards[0], port)?, sctp(wildcards[1], port)?].into()
    } else {
        Vec::new()
    };
    println!("listening");
    std::io::stdout()
        .flush()
        .context("telling that the server listens")?;
    for udp in [udp4, udp6] {
        let name = name.clone();
        thread::spawn(move || answer_datagrams(&udp, &name));
    }
    for listener in associations.into_iter().chain([tcp6]) {
        let name = name.clone();
        thread::spawn(move || accept(&listener, &name));
    }
    accept(&tcp4, &name);
    Ok(())
}

/// Whether the kernel has SCTP sockets, or a module for them.
pub fn has_sctp() -> bool {
    sctp_socket(false).is_ok()
}

/// One that speaks one family, so that its association has one address.
pub(super) fn sctp_socket(is_ipv6: bool) -> std::io::Result<Socket> {
    let domain = if is_ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::SCTP))?;
    if is_ipv6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn sctp(wildcard: IpAddr, port: u16) -> Result<TcpListener> {
    let socket = sctp_socket(wildcard.is_ipv6()).context("an SCTP socket")?;
    socket
        .bind(&SocketAddr::new(wildcard, port).into())
        .and_then(|()| socket.listen(128))
        .with_context(|| format!("listening with SCTP at {wildcard}"))?;
    Ok(socket.into())
}

fn only_ipv6(port: u16) -> Result<(TcpListener, UdpSocket)> {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, listen, setsockopt,
        socket, sockopt,
    };
    let address = SockaddrIn6::from(std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
    let open = |kind, protocol| -> Result<std::os::fd::OwnedFd> {
        let socket = socket(AddressFamily::Inet6, kind, SockFlag::SOCK_CLOEXEC, Some(protocol))?;
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address)?;
        Ok(socket)
    };
    let tcp = open(SockType::Stream, SockProtocol::Tcp).context("binding TCP over IPv6")?;
    listen(&tcp, Backlog::new(1024)?).context("listening over IPv6")?;
    let udp = open(SockType::Datagram, SockProtocol::Udp).context("binding UDP over IPv6")?;
    Ok((tcp.into(), udp.into()))
}

fn accept(listener: &TcpListener, name: &Arc<str>) {
    for stream in listener.incoming().flatten() {
        let name = name.clone();
        // A client that goes away early is its own matter.
        thread::spawn(move || drop(answer_connection(stream, &name)));
    }
}

fn answer_connection(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    // SCTP has no such option under TCP's name.
    drop(stream.set_nodelay(true));
    let line = line(name, stream.peer_addr()?, stream.local_addr()?);
    stream.write_all(line.as_bytes())?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let Ok(local) = socket.local_addr() else { return };
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let mut answer = line(name, peer, local).into_bytes();
        answer.extend_from_slice(&buffer[..length]);
        // A peer that cannot be reached is its own matter.
        drop(socket.send_to(&answer, peer));
    }
}

fn line(name: &str, peer: SocketAddr, local: SocketAddr) -> String {
    format!("name={name} peer={peer} local={local}\n")
}

/// The bytes that clients send: the same for the same position, and no short period.
pub fn pattern(position: usize) -> u8 {
    let word = (position / 8) as u64;
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[position % 8]
}
