//! A flood: packets of clients that do not exist, each from an address and a port of its own.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::address::{self, Family};
use crate::packet::Frame;
use crate::{Lab, Namespace};

/// 198.18.0.0/15, the benchmarks' range: the network's way to the client, who drops what comes.
const CLIENTS4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const CLIENTS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x198, 0, 0, 0, 0, 0, 0);
/// The lowest source port.
const FIRST_PORT: u64 = 1024;
const PORTS: u64 = 65_536 - FIRST_PORT;
/// Odd, and so the numbers that it leads to repeat only after all others.
const STRIDE: u64 = 0x9e37_79b9;

/// What it consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wave {
    /// SYNs whose client never answers.
    Syns,
    /// First datagrams.
    Datagrams,
}

/// Packets towards one frontend, sent by the lab's client.
#[derive(Debug)]
pub struct Flood {
    namespace: Namespace,
    socket: Socket,
    packet: Vec<u8>,
    is_ipv6: bool,
    is_udp: bool,
    /// Where the transport's checksum is.
    checksum: usize,
    sent: u64,
}

impl Flood {
    /// Routes the answers to the client and makes the first packet.
    pub fn open(lab: &Lab, wave: Wave, to: SocketAddr) -> Result<Self> {
        let namespace = lab.client.namespace().clone();
        let (range, via) = match to {
            SocketAddr::V4(_) => (format!("{CLIENTS4}/15"), address::CLIENT.of(Family::V4)),
            SocketAddr::V6(_) => (format!("{CLIENTS6}/64"), address::CLIENT.of(Family::V6)),
        };
        lab.network().ip(&[format!("route replace {range} via {via}")])?;
        let is_ipv6 = to.is_ipv6();
        let port = FIRST_PORT as u16;
        let destination = (to.ip(), to.port());
        let (frame, checksum) = match (wave, is_ipv6) {
            (Wave::Syns, false) => (Frame::syn((CLIENTS4, port), destination), 16),
            (Wave::Syns, true) => (Frame::syn((CLIENTS6, port), destination), 16),
            (Wave::Datagrams, false) => (Frame::udp((CLIENTS4, port), destination), 6),
            (Wave::Datagrams, true) => (Frame::udp((CLIENTS6, port), destination), 6),
        };
        let socket = namespace.run(|| {
            let raw = Protocol::from(libc::IPPROTO_RAW);
            let socket =
                Socket::new(Domain::for_address(to), Type::RAW, Some(raw)).context("a raw socket")?;
            socket.connect(&SocketAddr::new(to.ip(), 0).into())?;
            Ok(socket)
        })?;
        Ok(Self {
            namespace,
            socket,
            packet: frame.bare(),
            is_ipv6,
            is_udp: wave == Wave::Datagrams,
            checksum: if is_ipv6 { 40 } else { 20 } + checksum,
            sent: 0,
        })
    }

    /// Sends so many packets, as fast as it can; each from another client.
    pub fn send(&mut self, packets: u64) -> Result<()> {
        for _ in 0..packets {
            let number = self.sent.wrapping_mul(STRIDE);
            self.name_client(number);
            self.sent += 1;
            match self.socket.send(&self.packet) {
                Ok(length) => ensure!(
                    length == self.packet.len(),
                    "{length} of {} bytes were sent",
                    self.packet.len()
                ),
                // The queue of the interface is full: what a flood loses is its own.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("flooding from {}", self.namespace.name()));
                }
            }
        }
        Ok(())
    }

    /// How many packets were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Writes a client's address and port, with the checksum that follows. The kernel sums an IPv4 header itself.
    fn name_client(&mut self, number: u64) {
        let port = (FIRST_PORT + number % PORTS) as u16;
        let host = (number / PORTS) as u16;
        let (address, transport) = if self.is_ipv6 { (22, 40) } else { (14, 20) };
        self.write(address, host);
        self.write(transport, port);
    }

    /// Puts a word and mends the transport's checksum by the difference (RFC 1624).
    fn write(&mut self, at: usize, word: u16) {
        let read = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let old = read(&self.packet, at);
        let sum = read(&self.packet, self.checksum);
        let mut mended = u32::from(!sum) + u32::from(!old) + u32::from(word);
        while mended > 0xffff {
            mended = (mended & 0xffff) + (mended >> 16);
        }
        let mended = match !(mended as u16) {
            // UDP's word for "no checksum" is the other nought.
            0 if self.is_udp => 0xffff,
            sum => sum,
        };
        self.packet[at..at + 2].copy_from_slice(&word.to_be_bytes());
        self.packet[self.checksum..self.checksum + 2].copy_from_slice(&mended.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Transport;

    /// Without a lab: the packets alone.
    fn flood(frame: &Frame, checksum: usize) -> Flood {
        let is_ipv6 = frame.source.is_ipv6();
        Flood {
            namespace: Namespace::existing("none"),
            socket: Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap(),
            packet: frame.bare(),
            is_ipv6,
            is_udp: matches!(frame.transport, Transport::Udp(_)),
            checksum: if is_ipv6 { 40 } else { 20 } + checksum,
            sent: 0,
        }
    }

    /// The kernel's part.
    fn sum_header(header: &mut [u8]) {
        header[10..12].fill(0);
        let words = header.chunks_exact(2);
        let mut sum: u32 = words
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        header[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
    }

    #[test]
    fn every_packet_is_whole_and_from_another_client() {
        let four = (Ipv4Addr::new(192, 168, 10, 1), 30_080);
        let six = (Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 1), 30_080);
        for (frame, checksum) in [
            (Frame::syn((CLIENTS4, 1024), four), 16),
            (Frame::syn((CLIENTS6, 1024), six), 16),
            (Frame::udp((CLIENTS4, 1024), four), 6),
            (Frame::udp((CLIENTS6, 1024), six), 6),
        ] {
            let mut flood = flood(&frame, checksum);
            let mut clients = std::collections::HashSet::new();
            for number in 0..100_000_u64 {
                flood.name_client(number.wrapping_mul(STRIDE));
                let link = frame.bytes()[..14].to_vec();
                let mut packet = flood.packet.clone();
                if !flood.is_ipv6 {
                    sum_header(&mut packet[..20]);
                }
                let read = Frame::read(&[link, packet].concat());
                assert!(clients.insert(read.source), "{} again", read.source);
                if number % 1000 == 0 {
                    let again = read.bare();
                    let transport = if flood.is_ipv6 { 40 } else { 20 };
                    assert_eq!(again[transport..], flood.packet[transport..], "{}", read.source);
                }
            }
        }
    }
}
