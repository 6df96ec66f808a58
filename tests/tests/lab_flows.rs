//! Flows that stand, by real sockets: segments outside of every window, a resolver's two queries at once, the agent's restart.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Transport};
use lab::manifest::Service;
use lab::options::SocketLb;
use lab::packet::Frame;
use lab::{ECHO_PORT, Lab, Namespace, Options};
use proxy_common::rules::headers::tcp;
use socket2::{Domain, Protocol, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(10);
const LOCAL_PORT: u16 = 30_081;
const REMOTE_PORT: u16 = 30_082;
/// Where the listeners of this test are; nobody listens at the next one.
const TARGET: u16 = 9_000;

/// Pods go by packets.
fn options(strict: bool) -> Options {
    Options {
        strict,
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    }
}

/// `a` and `b` on the first node, `c` on the second; Services over `b` and over `c`.
fn scene(options: Options, target: u16) -> Result<Lab> {
    let mut lab = Lab::start(options)?;
    for (name, node) in [("a", 1), ("b", 1), ("c", 2)] {
        lab.add_pod(name, node)?;
    }
    for (name, number, node_port, pod) in [("near", 1, LOCAL_PORT, "b"), ("far", 2, REMOTE_PORT, "c")] {
        let service = Service::new(name, number, 80, target).node_port(node_port);
        lab.apply(&service.over([lab.pod(pod)]))?;
    }
    Ok(lab)
}

/// Client, backend and frontend.
fn ways(family: Family) -> [(&'static str, &'static str, SocketAddr); 4] {
    let node_port = |port| address::node(1).at(family, port);
    [
        ("client", "b", node_port(LOCAL_PORT)),
        ("client", "c", node_port(REMOTE_PORT)),
        ("a", "b", address::cluster(1).at(family, 80)),
        ("a", "c", address::cluster(2).at(family, 80)),
    ]
}

/// Netfilter calls such segments invalid and leaves them untranslated; the client then sees a stranger and resets
/// (kubernetes/kubernetes#74839).
#[test]
fn segments_outside_of_every_window_reset_nobody() -> Result<()> {
    for strict in [false, true] {
        let lab = scene(options(strict), TARGET)?;
        for family in Family::BOTH {
            for (from, backend, to) in ways(family) {
                disturbed(&lab, from, backend, to)
                    .with_context(|| format!("{}, {from} to {to}", lab.options()))?;
            }
        }
    }
    Ok(())
}

fn disturbed(lab: &Lab, from: &str, backend: &str, to: SocketAddr) -> Result<()> {
    let client = lab.place(from)?.namespace();
    let server = lab.place(backend)?.namespace();
    let own = SocketAddr::new(lab.pod(backend).address.of(family_of(to)), TARGET);
    let listener = server.run(|| Ok(TcpListener::bind(own)?))?;
    let mut near = client.run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)?))?;
    let (mut far, peer) = listener.accept()?;
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    exchange(&mut near, &mut far)?;
    let names = ["TcpOutRsts", "TcpInSegs"];
    let count = |namespace: &Namespace| -> Result<[u64; 2]> {
        let [resets, segments] = names.map(|name| namespace.statistic(name));
        Ok([resets?, segments?])
    };
    let before = [count(client)?, count(server)?];
    let mut sent = 0;
    for high in 1..16_u32 {
        for flags in [tcp::ACK, tcp::SYN | tcp::ACK] {
            let numbers = (flags, high << 28, !high << 27);
            inject(server, own, peer, numbers)?;
            inject(client, near.local_addr()?, to, numbers)?;
            sent += 1;
        }
    }
    if !lab.options().strict {
        // On strict nodes some end in the firewall.
        for (namespace, before) in [client, server].into_iter().zip(before) {
            let deadline = Instant::now() + PATIENCE;
            while count(namespace)?[1] < before[1] + sent {
                ensure!(
                    Instant::now() < deadline,
                    "segments did not reach {}",
                    namespace.name()
                );
            }
        }
    }
    exchange(&mut near, &mut far)?;
    for (namespace, before) in [client, server].into_iter().zip(before) {
        let resets = count(namespace)?[0] - before[0];
        ensure!(resets == 0, "{} sent {resets} resets", namespace.name());
    }
    // What an untranslated segment comes to: the client does not know its sender.
    if backend == "b" && !lab.options().strict {
        let before = count(client)?[0];
        let stranger = SocketAddr::new(own.ip(), TARGET + 1);
        let known = SocketAddr::new(client_address(lab, from, own), near.local_addr()?.port());
        inject(server, stranger, known, (tcp::ACK, 1, 1))?;
        let deadline = Instant::now() + PATIENCE;
        while count(client)?[0] == before {
            ensure!(Instant::now() < deadline, "a stranger's segment is not reset");
        }
    }
    Ok(())
}

fn family_of(address: SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn client_address(lab: &Lab, from: &str, like: SocketAddr) -> std::net::IpAddr {
    let pair = if from == "client" {
        address::CLIENT
    } else {
        lab.pod(from).address
    };
    pair.of(family_of(like))
}

/// There and back.
fn exchange(near: &mut TcpStream, far: &mut TcpStream) -> Result<()> {
    let mut word = [0; 4];
    near.write_all(b"ping").context("sending")?;
    far.read_exact(&mut word).context("receiving at the server")?;
    ensure!(word == *b"ping", "{word:?}");
    far.write_all(b"pong").context("answering")?;
    near.read_exact(&mut word).context("receiving at the client")?;
    ensure!(word == *b"pong", "{word:?}");
    Ok(())
}

/// Sends a whole packet that no socket knows of.
fn inject(namespace: &Namespace, from: SocketAddr, to: SocketAddr, numbers: (u8, u32, u32)) -> Result<()> {
    let (flags, sequence, acknowledgement) = numbers;
    let frame = Frame {
        payload: b"out of the window".to_vec(),
        ..Frame::tcp((from.ip(), from.port()), (to.ip(), to.port()), flags).numbered(
            flags,
            sequence,
            acknowledgement,
        )
    };
    namespace.run(|| {
        let raw = Protocol::from(libc::IPPROTO_RAW);
        let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(raw)).context("a raw socket")?;
        let packet = frame.bare();
        let sent = socket.send_to(&packet, &SocketAddr::new(to.ip(), 0).into())?;
        ensure!(sent == packet.len(), "{sent} of {} bytes were sent", packet.len());
        Ok(())
    })
}

/// A resolver asks for both families' addresses at once from one socket; with netfilter one of the two may be lost while
/// both make an entry (kubernetes/kubernetes#56903).
#[test]
fn two_queries_of_one_socket_at_once_are_answered() -> Result<()> {
    const SOCKETS: usize = 100;
    let lab = scene(options(true), ECHO_PORT)?;
    for family in Family::BOTH {
        for (from, _, to) in ways(family) {
            let own = SocketAddr::new(client_address(&lab, from, to), 0);
            for _ in 0..SOCKETS {
                let socket = lab.place(from)?.namespace().run(|| Ok(UdpSocket::bind(own)?))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                thread::scope(|scope| {
                    for query in [b"A", b"B"] {
                        let socket = &socket;
                        scope.spawn(move || socket.send_to(query, to));
                    }
                });
                let mut ends = Vec::new();
                for _ in 0..2 {
                    let mut buffer = [0; 512];
                    let (length, sender) = socket
                        .recv_from(&mut buffer)
                        .with_context(|| format!("{from} to {to}: a query was not answered"))?;
                    ensure!(sender == to, "{from}: the answer came from {sender}");
                    ends.extend(buffer[..length].last().copied());
                }
                ends.sort_unstable();
                ensure!(ends == *b"AB", "{from} to {to}: {ends:?}");
            }
        }
    }
    Ok(())
}

/// kubernetes/kubernetes#122740: UDP flows keep their backends; projectcalico/calico#12192: no call is refused meanwhile.
#[test]
fn a_restart_moves_no_udp_flow_and_refuses_no_call() -> Result<()> {
    const FLOWS: u16 = 10;
    let mut lab = scene(options(false), ECHO_PORT)?;
    let both = Service::new("both", 3, 80, ECHO_PORT).node_port(30_083);
    lab.apply(&both.over([lab.pod("b"), lab.pod("c")]))?;
    let client = lab.client.clone();
    let flows = || -> Result<BTreeMap<(Family, u16), String>> {
        let mut all = BTreeMap::new();
        for family in Family::BOTH {
            for source_port in 20_000..20_000 + FLOWS {
                let to = address::node(1).at(family, 30_083);
                let outcomes = client.calls(Calls {
                    source_port,
                    ..Calls::new(Transport::OneUdpSocket, to, 2)
                })?;
                let names = outcomes.by_name();
                ensure!(outcomes.all_answered() && names.len() == 1, "{outcomes}");
                all.extend(
                    names
                        .into_keys()
                        .map(|name| ((family, source_port), name.to_owned())),
                );
            }
        }
        Ok(all)
    };
    let before = flows()?;
    let is_over = AtomicBool::new(false);
    let caller = lab.client.clone();
    thread::scope(|scope| {
        let calling = scope.spawn(|| -> Result<usize> {
            let mut times = 0;
            while !is_over.load(Ordering::Relaxed) {
                for family in Family::BOTH {
                    let to = address::node(1).at(family, 30_083);
                    let outcomes = caller.calls(Calls::new(Transport::Tcp, to, 20))?;
                    ensure!(
                        outcomes.all_answered(),
                        "after {times} calls, {family}: {outcomes}"
                    );
                    times += 20;
                }
            }
            Ok(times)
        });
        let changed = (|| -> Result<()> {
            lab.agent_mut(1).kill()?;
            ensure!(flows()? == before, "a flow moved without an agent");
            lab.agent_mut(1).start()?;
            ensure!(flows()? == before, "a flow moved with the new agent");
            Ok(())
        })();
        is_over.store(true, Ordering::Relaxed);
        let times = calling.join().expect("the caller does not panic")?;
        changed?;
        ensure!(times > 40, "only {times} calls were made meanwhile");
        Ok(())
    })
}
