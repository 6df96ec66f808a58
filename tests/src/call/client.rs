//! The client's side: carries out one request and prints what came of it as JSON.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use super::{Answer, Calls, Outcome, Request, Transport, hold, pattern, server, transfer};

/// Does what a request in JSON asks for.
pub fn serve_request(text: &str) -> Result<()> {
    let text = match serde_json::from_str(text).context("reading the request")? {
        Request::Calls(calls) => serde_json::to_string(&all(&calls)?),
        Request::Transfer { to, bytes } => serde_json::to_string(&transfer::run(to, bytes)),
        Request::Hold { to, pause } => return hold::run(to, pause),
    };
    println!("{}", text.context("writing the answer")?);
    Ok(())
}

/// All calls, unless so many came to nothing that the rest would only take time.
fn all(calls: &Calls) -> Result<Vec<Outcome>> {
    let shared = (calls.transport == Transport::OneUdpSocket)
        .then(|| udp(calls, 0))
        .transpose()?;
    let mut outcomes = Vec::new();
    while outcomes.len() < calls.times {
        let answer = shared
            .as_ref()
            .map_or_else(|| one(calls, outcomes.len()), |socket| datagram(socket, calls));
        outcomes.push(outcome(answer));
        if outcomes
            .iter()
            .filter(|outcome| **outcome == Outcome::Timeout)
            .count()
            == calls.timeouts
        {
            break;
        }
    }
    Ok(outcomes)
}

fn one(calls: &Calls, number: usize) -> std::io::Result<Answer> {
    match calls.transport {
        Transport::Tcp => {
            let own = SocketAddr::new(own_address(calls), source_port(calls, number));
            let stream = open(calls.to, own, calls.timeout)?;
            connection(stream, calls)
        }
        Transport::Sctp => connection(associate(calls)?, calls),
        Transport::Udp | Transport::OneUdpSocket => datagram(&udp(calls, number)?, calls),
        Transport::ConnectedUdp => {
            let socket = udp(calls, number)?;
            socket.connect(calls.to)?;
            connected_datagram(&socket, calls)
        }
    }
}

/// The port of the socket with this number.
fn source_port(calls: &Calls, number: usize) -> u16 {
    match calls.source_port {
        0 => 0,
        first => u16::try_from(number).map_or(0, |number| first + number),
    }
}

fn outcome(result: std::io::Result<Answer>) -> Outcome {
    match result {
        Ok(answer) => Outcome::Answer(answer),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::ConnectionReset => Outcome::Reset,
            ErrorKind::HostUnreachable => Outcome::Unreachable,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Timeout,
            _ => Outcome::Failed(error.to_string()),
        },
    }
}

/// Connects, from this address and port as far as they are given.
pub(super) fn open(to: SocketAddr, own: SocketAddr, timeout: Duration) -> std::io::Result<TcpStream> {
    let stream = if own.ip().is_unspecified() && own.port() == 0 {
        TcpStream::connect_timeout(&to, timeout)?
    } else {
        let family = if to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        let raw = std::os::fd::AsRawFd::as_raw_fd(&socket);
        bind(raw, &SockaddrStorage::from(own))?;
        // The send timeout bounds connect(2) too.
        let stream = TcpStream::from(socket);
        stream.set_write_timeout(Some(timeout))?;
        connect(raw, &SockaddrStorage::from(to)).map_err(|error| match error {
            Errno::EINPROGRESS => ErrorKind::TimedOut.into(),
            other => std::io::Error::from(other),
        })?;
        stream
    };
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An association that is read and written like a connection. Of IPv6 alone, or its INIT would name IPv4 addresses, too.
fn associate(calls: &Calls) -> std::io::Result<TcpStream> {
    let socket = server::sctp_socket(calls.to.is_ipv6())?;
    socket.connect_timeout(&calls.to.into(), calls.timeout)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(calls.timeout))?;
    stream.set_write_timeout(Some(calls.timeout))?;
    Ok(stream)
}

fn connection(mut stream: TcpStream, calls: &Calls) -> std::io::Result<Answer> {
    let (from, own) = (stream.peer_addr()?, stream.local_addr()?);
    let payload = payload(calls.payload);
    stream.write_all(&payload)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut back = vec![0; payload.len()];
    reader.read_exact(&mut back)?;
    answer(&line, &payload, &back, from, own)
}

fn udp(calls: &Calls, number: usize) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((own_address(calls), source_port(calls, number)))?;
    socket.set_read_timeout(Some(calls.timeout))?;
    if calls.hop_limit > 0 {
        limit_hops(&socket, calls)?;
    }
    Ok(socket)
}

/// Sends with a small hop limit, and hears of it where that ends: sockets are told of such errors only if they ask.
fn limit_hops(socket: &UdpSocket, calls: &Calls) -> std::io::Result<()> {
    if calls.to.is_ipv4() {
        socket.set_ttl(calls.hop_limit.into())?;
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6Ttl, &calls.hop_limit.into())?;
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
    }
    Ok(())
}

fn datagram(socket: &UdpSocket, calls: &Calls) -> std::io::Result<Answer> {
    let payload = payload(calls.payload);
    socket.send_to(&payload, calls.to)?;
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer)?;
    parts(&buffer[..length], &payload, from, socket.local_addr()?)
}

fn connected_datagram(socket: &UdpSocket, calls: &Calls) -> std::io::Result<Answer> {
    let payload = payload(calls.payload);
    socket.send(&payload)?;
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer)?;
    parts(
        &buffer[..length],
        &payload,
        socket.peer_addr()?,
        socket.local_addr()?,
    )
}

fn parts(datagram: &[u8], sent: &[u8], from: SocketAddr, own: SocketAddr) -> std::io::Result<Answer> {
    let end = datagram
        .iter()
        .position(|&byte| byte == b'\n')
        .ok_or_else(|| damaged("no line"))?;
    let line = String::from_utf8_lossy(&datagram[..end]);
    answer(&line, sent, &datagram[end + 1..], from, own)
}

fn answer(
    line: &str,
    sent: &[u8],
    back: &[u8],
    from: SocketAddr,
    own: SocketAddr,
) -> std::io::Result<Answer> {
    if sent != back {
        return Err(damaged("the bytes that came back are not those that were sent"));
    }
    let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
    let address = |name: &str| {
        field(name)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| damaged(line))
    };
    let name = field("name=").ok_or_else(|| damaged(line))?.to_owned();
    Ok(Answer {
        name,
        peer: address("peer=")?,
        local: address("local=")?,
        from,
        own,
    })
}

fn damaged(what: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, format!("a damaged answer: {what}"))
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(pattern).collect()
}

fn own_address(calls: &Calls) -> IpAddr {
    calls.source.unwrap_or_else(|| wildcard(calls.to))
}

/// The address of a socket that has none of its own yet.
pub(super) fn wildcard(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
