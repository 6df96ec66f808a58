//! Datagrams in pieces, in order and out of order, with options and extension headers, and without a checksum: made by hand,
//! answered by real sockets, through backends on this node and on another, from outside and from a pod.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use lab::address::{self, Family};
use lab::manifest::Service;
use lab::options::SocketLb;
use lab::packet::pieces::split;
use lab::packet::{Frame, Transport};
use lab::{ECHO_PORT, Lab, Namespace, Options};
use socket2::{Domain, Protocol, Socket, Type};

const LOCAL_PORT: u16 = 30_081;
const REMOTE_PORT: u16 = 30_082;
/// A datagram made by hand is sent this often until it is answered, where its pieces can come too far apart.
const TIMES: u16 = 100;
/// Such datagrams are sent until one has shown it, and no more than this.
const MOST: u64 = 1000;

fn scene() -> Result<Lab> {
    let mut lab = Lab::start(Options {
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    })?;
    for (name, node) in [("a", 1), ("b", 1), ("c", 2)] {
        lab.add_pod(name, node)?;
    }
    for (name, number, node_port, pod) in [("near", 1, LOCAL_PORT, "b"), ("far", 2, REMOTE_PORT, "c")] {
        let service = Service::new(name, number, 80, ECHO_PORT).node_port(node_port);
        lab.apply(&service.over([lab.pod(pod)]))?;
    }
    Ok(lab)
}

/// A socket of a caller, and one by which packets are sent that are made by hand as that socket's.
struct Caller {
    socket: UdpSocket,
    raw: Socket,
    own: SocketAddr,
    to: SocketAddr,
    backend: &'static str,
}

impl Caller {
    fn new(namespace: &Namespace, own: SocketAddr, to: SocketAddr, backend: &'static str) -> Result<Self> {
        namespace.run(|| {
            let raw = Protocol::from(libc::IPPROTO_RAW);
            let raw = Socket::new(Domain::for_address(to), Type::RAW, Some(raw)).context("a raw socket")?;
            let socket = UdpSocket::bind(own)?;
            Ok(Self {
                own: socket.local_addr()?,
                socket,
                raw,
                to,
                backend,
            })
        })
    }

    fn datagram(&self, text: &str, length: usize) -> Frame {
        let mut payload = text.as_bytes().to_vec();
        payload.resize(length, b'.');
        Frame {
            payload,
            ..Frame::udp((self.own.ip(), self.own.port()), (self.to.ip(), self.to.port()))
        }
    }

    /// Sends what follows a link header.
    fn send(&self, frame: &[u8]) -> Result<()> {
        let to = SocketAddr::new(self.to.ip(), 0);
        let sent = self.raw.send_to(&frame[14..], &to.into())?;
        ensure!(sent == frame.len() - 14, "{sent} bytes were sent");
        Ok(())
    }

    /// Sends both at once, the second a little later.
    fn send_nearly_together(&self, one: &[u8], other: &[u8]) -> Result<()> {
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            let second = scope.spawn(|| {
                barrier.wait();
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(20) {
                    std::hint::spin_loop();
                }
                self.send(other)
            });
            barrier.wait();
            self.send(one)?;
            second.join().map_err(|_| anyhow!("a sender panicked"))?
        })
    }

    /// Whether the answer to a datagram comes: the whole of it, by the backend, from where it was asked.
    fn is_answered(&self, datagram: &Frame, patience: Duration) -> Result<bool> {
        self.socket.set_read_timeout(Some(patience))?;
        let mut buffer = vec![0; 4096];
        // An answer to an earlier one may be late.
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            let answer = &buffer[..length];
            if !answer.ends_with(&datagram.payload) {
                continue;
            }
            let named = answer.starts_with(format!("name={} ", self.backend).as_bytes());
            ensure!(
                named && from == self.to,
                "{} answered: {}",
                from,
                String::from_utf8_lossy(answer)
            );
            return Ok(true);
        }
        Ok(false)
    }
}

/// Every way of a call, each from a port of its own.
fn callers(lab: &Lab) -> Result<Vec<(String, Caller)>> {
    let mut callers = Vec::new();
    let (client, pod) = (lab.client.namespace(), lab.place("a")?.namespace());
    for family in Family::BOTH {
        let node = |port| address::node(1).at(family, port);
        let cluster = |number| address::cluster(number).at(family, 80);
        let [outside, inside] = [address::CLIENT, lab.pod("a").address].map(|own| own.at(family, 0));
        for (name, namespace, own, to, backend) in [
            ("client", client, outside, node(LOCAL_PORT), "b"),
            ("client", client, outside, node(REMOTE_PORT), "c"),
            ("pod a", pod, inside, cluster(1), "b"),
            ("pod a", pod, inside, cluster(2), "c"),
        ] {
            let what = format!("{family} {name} to {backend}");
            callers.push((what, Caller::new(namespace, own, to, backend)?));
        }
    }
    Ok(callers)
}

fn counted(lab: &Lab, name: &str) -> Result<u64> {
    let counters = lab.agent(1).ask("drops")?;
    let mut counters = counters.as_array().context("drops prints a list")?.iter();
    let found = counters.find(|counter| counter["name"] == name);
    found
        .and_then(|counter| counter["value"].as_u64())
        .with_context(|| format!("{name} is not among the counters"))
}

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn pieces_in_order_are_one_datagram_to_the_backend() -> Result<()> {
    let lab = scene()?;
    for (what, caller) in callers(&lab)? {
        for id in 1..=5 {
            let datagram = caller.datagram(&format!("in order {id}"), 600);
            for piece in split(&datagram, 256, id) {
                caller.send(&piece)?;
            }
            ensure!(caller.is_answered(&datagram, PATIENCE)?, "{what}: piece by piece");
        }
    }
    Ok(())
}

/// How far apart two pieces come is the machine's, and each is sent by a thread of its own: the kernel carries what one sends to
/// the other node before it takes the next. Of many that overtook their first one at least must have found it.
#[test]
fn pieces_ahead_of_the_first_wait_for_it() -> Result<()> {
    let lab = scene()?;
    // A number names one datagram between two addresses.
    let mut id = 100;
    for (what, caller) in callers(&lab)? {
        let count = || -> Result<[u64; 2]> {
            Ok([
                counted(&lab, "fragment_ahead")?,
                counted(&lab, "fragment_without_first")?,
            ])
        };
        let before = count()?;
        let (mut answered, mut sent) = (0, 0);
        loop {
            for _ in 0..TIMES {
                id += 1;
                let datagram = caller.datagram(&format!("out of order {id}"), 600);
                let [first, later] = split(&datagram, 256, id);
                caller.send_nearly_together(&later, &first)?;
                answered += u64::from(caller.is_answered(&datagram, Duration::from_millis(50))?);
            }
            sent += u64::from(TIMES);
            let after = count()?;
            let [ahead, lost] = [after[0] - before[0], after[1] - before[1]];
            println!(
                "{what}: {answered} of {sent} answered, {ahead} came before their first, {lost} of them were dropped"
            );
            // Without a wait those alone are answered that came in order.
            if answered + ahead > sent {
                break;
            }
            // On a busy machine the two senders run one after the other.
            ensure!(
                sent < MOST,
                "{what}: {answered} of {sent} answered, {ahead} came before their first"
            );
        }
    }
    // One that is alone is dropped in the end, and counted.
    let before = counted(&lab, "fragment_without_first")?;
    let (_, caller) = callers(&lab)?.remove(2);
    let [_, later] = split(&caller.datagram("alone", 600), 256, id + 1);
    caller.send(&later)?;
    // What is sent behind it is answered behind it.
    let datagram = caller.datagram("behind it", 600);
    caller.send(&datagram.bytes())?;
    ensure!(caller.is_answered(&datagram, PATIENCE)?);
    let deadline = Instant::now() + PATIENCE;
    while counted(&lab, "fragment_without_first")? == before {
        ensure!(Instant::now() < deadline, "it was not dropped");
    }
    Ok(())
}

#[test]
fn options_and_extension_headers_go_along() -> Result<()> {
    let lab = scene()?;
    for (what, caller) in callers(&lab)? {
        // Of IPv6's padding a host takes no more than one such word (RFC 8504 §5.3).
        let most = if caller.to.is_ipv4() { 10 } else { 1 };
        for options in 0..=most {
            let datagram = Frame {
                options,
                ..caller.datagram(&format!("with options {options}"), 100)
            };
            caller.send(&datagram.bytes())?;
            ensure!(
                caller.is_answered(&datagram, PATIENCE)?,
                "{what}: {options} words of options"
            );
        }
    }
    Ok(())
}

/// IPv6 has none without (RFC 8200 §8.1).
#[test]
fn datagrams_without_a_checksum_go_along() -> Result<()> {
    let lab = scene()?;
    for (what, caller) in callers(&lab)? {
        if caller.to.is_ipv6() {
            continue;
        }
        let datagram = Frame {
            transport: Transport::Udp(false),
            ..caller.datagram("without a checksum", 100)
        };
        caller.send(&datagram.bytes())?;
        ensure!(caller.is_answered(&datagram, PATIENCE)?, "{what}");
    }
    Ok(())
}
