//! An uplink without a link-layer header: a tun device, at whose other end the test itself is the client.
//!
//! ```text
//! test ──tun0── n1 ──Ethernet── network ── n2 ── pod c        TCP and UDP, IPv4 and IPv6, to n1's NodePort
//!              └─ pod a
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use lab::events::Mark;
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Namespace, Options};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const NODE_PORT: u16 = 30_080;
const CLIENT_PORT: u16 = 40_000;
/// The node's end of the tun device, and the client at the other.
const ENDS: [(&str, &str); 2] = [("172.31.0.1", "172.31.9.7"), ("fd00:31::1", "fd00:31:9::7")];

#[test]
fn a_tun_uplink_serves_local_and_remote_backends() -> Result<()> {
    let mut lab = Lab::start(Options::default())?;
    lab.add_pod("a", 1)?;
    lab.add_pod("c", 2)?;
    let mut tun = Tun::add(&lab, "tun0")?;
    for (name, number) in [("c", 1), ("a", 2)] {
        let node_port = NODE_PORT + u16::from(number);
        let service = Service::new(name, number, 80, ECHO_PORT)
            .node_port(node_port)
            .over([lab.pod(name)]);
        lab.apply(&service)?;
        for (node, client) in ENDS {
            let client = SocketAddr::new(client.parse()?, CLIENT_PORT + u16::from(number));
            let frontend = SocketAddr::new(node.parse()?, node_port);
            let what = format!("{client} -> {frontend}, backend {name}");
            let answer = tun
                .datagram(client, frontend)
                .with_context(|| format!("UDP {what}"))?;
            ensure!(
                answer.starts_with(&format!("name={name} ")),
                "UDP {what}: {answer:?}"
            );
            tun.connection(client, frontend)
                .with_context(|| format!("TCP {what}"))?;
        }
    }
    Ok(())
}

/// The client's end.
struct Tun(File);

impl Tun {
    /// Makes the device in n1 and waits until the agent has attached to it.
    fn add(lab: &Lab, name: &str) -> Result<Self> {
        let namespace = lab.host(1).namespace();
        namespace.ip(&[format!("tuntap add dev {name} mode tun")])?;
        let tun = open(namespace, name)?;
        let mut commands = vec![format!("link set {name} up")];
        for ((node, _), prefix) in ENDS.into_iter().zip([24, 64]) {
            commands.push(format!("address add {node}/{prefix} dev {name} nodad"));
        }
        commands.push(format!("route add 172.31.9.0/24 dev {name}"));
        commands.push(format!("route add fd00:31:9::/64 dev {name}"));
        // What makes it an uplink.
        commands.push(format!("route add default dev {name} metric 5000"));
        namespace.ip(&commands)?;
        lab.agent(1)
            .events()?
            .wait(Mark::START, "tun0 to be attached to", |event| {
                event.message() == "attached" && event.text("interface") == name
            })?;
        Ok(Self(tun))
    }

    /// Sends a datagram and returns the text that comes back; it must come from where the datagram went.
    fn datagram(&mut self, client: SocketAddr, frontend: SocketAddr) -> Result<String> {
        let builder = ip(client, frontend)?.udp(client.port(), frontend.port());
        let mut packet = Vec::new();
        builder.write(&mut packet, b"over layer 3")?;
        self.0.write_all(&packet)?;
        let answer = self.receive(frontend, client)?;
        match &SlicedPacket::from_ip(&answer)?.transport {
            Some(TransportSlice::Udp(udp)) => {
                ensure!(
                    udp.payload().ends_with(b"over layer 3"),
                    "the payload did not come back"
                );
                Ok(String::from_utf8_lossy(udp.payload()).into_owned())
            }
            other => bail!("{other:?} came back"),
        }
    }

    /// Opens a connection as far as the SYN-ACK, and resets it.
    fn connection(&mut self, client: SocketAddr, frontend: SocketAddr) -> Result<()> {
        const SEQUENCE: u32 = 7000;
        let mut packet = Vec::new();
        ip(client, frontend)?
            .tcp(client.port(), frontend.port(), SEQUENCE, 1000)
            .syn()
            .write(&mut packet, &[])?;
        self.0.write_all(&packet)?;
        let answer = self.receive(frontend, client)?;
        match &SlicedPacket::from_ip(&answer)?.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                ensure!(tcp.syn() && tcp.ack() && !tcp.rst(), "no SYN-ACK: {tcp:?}");
                ensure!(
                    tcp.acknowledgment_number() == SEQUENCE + 1,
                    "another acknowledgement: {tcp:?}"
                );
            }
            other => bail!("{other:?} came back"),
        }
        packet.clear();
        ip(client, frontend)?
            .tcp(client.port(), frontend.port(), SEQUENCE + 1, 0)
            .rst()
            .write(&mut packet, &[])?;
        self.0.write_all(&packet).context("resetting")
    }

    /// The next TCP or UDP packet to the client, with right checksums; anything else (neighbour discovery) is passed over.
    fn receive(&mut self, from: SocketAddr, to: SocketAddr) -> Result<Vec<u8>> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut buffer = vec![0; 2048];
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            ensure!(
                poll(&mut ready, PollTimeout::try_from(rest)?)? > 0,
                "no answer from {from} to {to}"
            );
            let length = self.0.read(&mut buffer)?;
            let packet = &buffer[..length];
            let sliced = SlicedPacket::from_ip(packet).context("reading a packet")?;
            let Some((source, destination)) = ends(&sliced) else {
                continue;
            };
            if destination.ip() != to.ip() {
                continue;
            }
            ensure!(
                (source, destination) == (from, to),
                "{source} -> {destination} came in place of {from} -> {to}"
            );
            checksums(&sliced)?;
            return Ok(packet.to_vec());
        }
    }
}

fn open(namespace: &Namespace, name: &str) -> Result<File> {
    namespace.run(|| {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .context("opening /dev/net/tun")?;
        // SAFETY: all zeroes is a valid request, which the next lines fill in.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI)?;
        // SAFETY: TUNSETIFF reads and writes one ifreq.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        ensure!(result == 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
        Ok(file)
    })
}

fn ip(from: SocketAddr, to: SocketAddr) -> Result<etherparse::PacketBuilderStep<etherparse::IpHeaders>> {
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok(PacketBuilder::ipv4(from.octets(), to.octets(), 64)),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ok(PacketBuilder::ipv6(from.octets(), to.octets(), 64)),
        _ => bail!("{from} and {to} are of different families"),
    }
}

fn ends(packet: &SlicedPacket<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let (from, to): (IpAddr, IpAddr) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Ipv6(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Arp(_) => return None,
    };
    let (source, destination) = match packet.transport.as_ref()? {
        TransportSlice::Tcp(tcp) => (tcp.source_port(), tcp.destination_port()),
        TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port()),
        _ => return None,
    };
    Some((SocketAddr::new(from, source), SocketAddr::new(to, destination)))
}

/// Checks the sums from scratch, as a peer does.
fn checksums(packet: &SlicedPacket<'_>) -> Result<()> {
    let net = packet.net.as_ref().context("no IP header")?;
    if let NetSlice::Ipv4(ip) = net {
        let header = ip.header().to_header();
        ensure!(
            header.header_checksum == header.calc_header_checksum(),
            "a wrong IPv4 checksum"
        );
    }
    let (found, right) = match (net, packet.transport.as_ref().context("no transport header")?) {
        (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            let header = tcp.to_header();
            (
                header.checksum,
                header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload())?,
            )
        }
        (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            let header = tcp.to_header();
            (
                header.checksum,
                header.calc_checksum_ipv6(&ip.header().to_header(), tcp.payload())?,
            )
        }
        (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            (
                header.checksum,
                header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload())?,
            )
        }
        (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            (
                header.checksum,
                header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload())?,
            )
        }
        other => bail!("no checksum is known for {other:?}"),
    };
    ensure!(
        found == right,
        "a wrong transport checksum: {found:#06x}, not {right:#06x}"
    );
    Ok(())
}
