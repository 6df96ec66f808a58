//! The frames: made by a program of XDP that the kernel runs as if they had come by a wire, counted by another.

use std::time::Instant;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::tc::TcAttachOptions;
use aya::programs::xdp::XdpMode;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use std::net::SocketAddrV4;

/// Frames of one turn, as many as the kernel takes at once: each turn is done before the next begins.
const BATCH: u32 = 64;
/// Bytes of a frame: the shortest that Ethernet has.
const LENGTH: usize = 60;
/// Bytes of the programs' SHAPE.
const SHAPE: usize = LENGTH + 24;

/// What frames look like, where they are sent, and by what they are known when they arrive.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// The link-layer addresses, destination first.
    pub(super) link: [[u8; 6]; 2],
    /// The client: its first port, and how many it has.
    pub(super) client: (SocketAddrV4, u16),
    pub(super) destination: SocketAddrV4,
    /// The index of the interface that they are sent out of.
    pub(super) interface: u32,
    /// Source address and destination after the translation.
    pub(super) arrives: (std::net::Ipv4Addr, SocketAddrV4),
}

/// The programs.
pub(super) struct Frames {
    object: Ebpf,
}

impl Frames {
    pub(super) fn load() -> Result<Self> {
        Ok(Self {
            object: crate::packet::load("testing.o")?,
        })
    }

    /// Counts and drops what leaves by an interface of this thread's namespace, behind all other programs there.
    pub(super) fn take_leaving(&mut self, interface: &str) -> Result<()> {
        let program: &mut SchedClassifier = self.object.program_mut("sink").context("no sink")?.try_into()?;
        let last = TcAttachOptions::TcxOrder(LinkOrder::last());
        program
            .attach_with_options(interface, TcAttachType::Egress, last)
            .map(drop)
            .context("attaching the sink")
    }

    /// Counts and drops what comes in by an interface of this thread's namespace, before the kernel makes a packet of it.
    pub(super) fn take_coming(&mut self, interface: &str) -> Result<()> {
        let program: &mut Xdp = self
            .object
            .program_mut("xdp_sink")
            .context("no xdp_sink")?
            .try_into()?;
        program
            .attach(interface, XdpMode::Driver)
            .map(drop)
            .context("attaching the sink")
    }

    /// Sends frames in this thread's namespace. How many arrived, and how many seconds it took.
    pub(super) fn send(&mut self, shape: &Shape, number: u32) -> Result<(u64, f64)> {
        let mut cpus = CpuSet::new();
        cpus.set(0)?;
        sched_setaffinity(Pid::from_raw(0), &cpus).context("staying on one CPU")?;
        let mut shapes: Array<&mut MapData, [u8; SHAPE]> =
            Array::try_from(self.object.map_mut("SHAPE").context("no SHAPE")?)?;
        shapes.set(0, shape.bytes(), 0)?;
        // What a frame holds before it is made does not matter.
        let frame = [0; LENGTH];
        let before = self.arrived()?;
        let program: &mut Xdp = self
            .object
            .program_mut("xdp_make")
            .context("no xdp_make")?
            .try_into()?;
        let begin = Instant::now();
        program.test_run(TestRunOptions {
            data_in: Some(&frame),
            repeat: number,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        })?;
        let seconds = begin.elapsed().as_secs_f64();
        Ok((self.arrived()? - before, seconds))
    }

    fn arrived(&self) -> Result<u64> {
        let counters: PerCpuArray<&MapData, u64> =
            PerCpuArray::try_from(self.object.map("ARRIVED").context("no ARRIVED")?)?;
        Ok(counters.get(&0, 0)?.iter().sum())
    }
}

impl Shape {
    /// As the programs read it.
    fn bytes(&self) -> [u8; SHAPE] {
        let (client, ports) = &self.client;
        let mut bytes = [0; SHAPE];
        let mut parts = Vec::new();
        parts.extend(self.link.concat());
        // IPv4 without fragments, 46 bytes of which 26 are UDP's: what is left of the shortest frame.
        parts.extend([8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        parts.extend(client.ip().octets());
        parts.extend(self.destination.ip().octets());
        let sum = checksum(&parts[14..34]);
        parts[24..26].copy_from_slice(&sum.to_be_bytes());
        // The source port is the program's to write, and its part of the checksum too.
        parts.extend([0, 0]);
        parts.extend(self.destination.port().to_be_bytes());
        parts.extend([0, 26, 0, 0]);
        parts.resize(LENGTH, 7);
        let pseudo = [&parts[26..34], &[0, 17, 0, 26]].concat();
        let sum = checksum(&[pseudo.as_slice(), &parts[34..]].concat());
        parts[40..42].copy_from_slice(&sum.to_be_bytes());
        let (source, target) = &self.arrives;
        parts.extend(self.interface.to_ne_bytes());
        parts.extend(u32::from(client.port()).to_ne_bytes());
        parts.extend(u32::from(*ports).to_ne_bytes());
        parts.extend(source.octets());
        parts.extend(target.ip().octets());
        parts.extend(u32::from(target.port().to_be()).to_ne_bytes());
        bytes.copy_from_slice(&parts);
        bytes
    }
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_frame_is_one_that_any_parser_takes_for_udp_with_right_checksums() {
        let at = |d, port| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, d), port);
        let shape = Shape {
            link: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
            client: (at(1, 4000), 10),
            destination: at(2, 30_080),
            interface: 3,
            arrives: (Ipv4Addr::new(10, 0, 0, 9), at(3, 8080)),
        };
        let bytes = shape.bytes();
        let packet = etherparse::SlicedPacket::from_ethernet(&bytes[..LENGTH]).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else {
            panic!("no IPv4");
        };
        let Some(etherparse::TransportSlice::Udp(udp)) = packet.transport else {
            panic!("no UDP");
        };
        let header = ip.header().to_header();
        assert_eq!(header.calc_header_checksum(), header.header_checksum);
        let header = udp.to_header();
        assert_eq!((header.source_port, header.destination_port), (0, 30_080));
        let sum = header.calc_checksum_ipv4_raw([10, 0, 0, 1], [10, 0, 0, 2], udp.payload());
        assert_eq!(sum.unwrap(), header.checksum);
        // What follows is the programs' alone.
        assert_eq!(bytes[LENGTH..LENGTH + 4], 3_u32.to_ne_bytes());
    }
}
