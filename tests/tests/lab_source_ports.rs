//! Source ports of a node, by real sockets: running short is told long before the end, and two flows that would be one to
//! their backend get ports of their own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::manifest::Service;
use lab::options::SocketLb;
use lab::{ECHO_PORT, Lab, Namespace, Options};
use socket2::{Domain, Protocol, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(10);
/// The agent's default range.
const RANGE: u64 = 16_000;
/// A quarter of it.
const MANY: u16 = 4_000;

/// Asks a UDP Service so often that its flow is established, from a port of its own.
fn exchange(own: SocketAddr, to: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(own)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    for _ in 0..2 {
        socket.send_to(b"x", to)?;
        socket
            .recv_from(&mut [0; 512])
            .with_context(|| format!("{own} to {to}"))?;
    }
    Ok(())
}

fn scrape() -> Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:10249").context("connecting to the agent's /metrics")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn source_ports_that_run_short_are_named_by_their_destination() -> Result<()> {
    let mut lab = Lab::start(Options::default())?;
    lab.add_pod("c", 2)?;
    let far = Service::new("far", 1, 80, ECHO_PORT).node_port(30_082);
    lab.apply(&far.over([lab.pod("c")]))?;
    let backend = lab.pod("c").address;
    for family in Family::BOTH {
        let mark = lab.agent(1).mark();
        let own = address::CLIENT.of(family);
        let to = address::node(1).at(family, 30_082);
        lab.client.namespace().run(|| {
            let mut ports = 10_000..10_000 + MANY;
            ports.try_for_each(|port| exchange(SocketAddr::new(own, port), to))
        })?;
        let destination = backend.at(family, ECHO_PORT).to_string();
        let source = address::node(1).of(family).to_string();
        // By the tables, at once.
        let rows = lab.agent(1).ask("snat")?;
        let row = rows.as_array().context("snat prints a list")?.iter();
        let mut row = row.filter(|row| row["destination"] == *destination && row["source"] == *source);
        let row = row
            .next()
            .with_context(|| format!("{destination} is not in {rows}"))?;
        ensure!(row["used"].as_u64() == Some(u64::from(MANY)), "{row}");
        ensure!(
            row["of"].as_u64() == Some(RANGE) && row["protocol"] == "udp",
            "{row}"
        );
        ensure!(
            row["service"].as_str().is_some_and(|name| name.contains("far")),
            "{row}"
        );
        // By the agent, with its next sweep, and once.
        let is_it = |event: &lab::events::Event| {
            event.message().starts_with("source ports run short") && event.message().contains(&destination)
        };
        lab.agent(1)
            .events()?
            .wait(mark, "source ports to be told of", is_it)?;
        let metrics = lab.host(1).namespace().run(scrape)?;
        let used = metrics
            .lines()
            .find(|line| line.starts_with("shunt_snat_ports_used{") && line.contains(&destination))
            .with_context(|| format!("no shunt_snat_ports_used of {destination} in {metrics}"))?;
        ensure!(used.ends_with(&format!(" {MANY}")), "{used}");
        let told = lab.agent(1).events()?.since(mark);
        ensure!(told.iter().filter(|event| is_it(event)).count() == 1);
    }
    Ok(())
}

/// A client's socket at a port that another of its sockets has too.
fn shared(own: SocketAddr, kind: Type, protocol: Protocol) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(own), kind, Some(protocol))?;
    socket.set_reuse_address(true)?;
    socket.bind(&own.into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The client as the server sees it: the echo server's line says so.
fn peer(line: &str) -> Result<SocketAddr> {
    let peer = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("peer="));
    Ok(peer.with_context(|| format!("no peer in {line:?}"))?.parse()?)
}

/// Connects and says whom the server sees.
fn connect(own: SocketAddr, to: SocketAddr) -> Result<(BufReader<TcpStream>, SocketAddr)> {
    let socket = shared(own, Type::STREAM, Protocol::TCP)?;
    socket
        .connect_timeout(&to.into(), PATIENCE)
        .with_context(|| format!("{own} to {to}"))?;
    let mut stream = BufReader::new(TcpStream::from(socket));
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok((stream, peer(&line)?))
}

/// Two connections from one port through two Services to one backend, at once.
fn connections(own: SocketAddr, frontends: [SocketAddr; 2]) -> Result<()> {
    let mut both = Vec::new();
    for to in frontends {
        both.push(connect(own, to)?);
    }
    ensure!(
        both[0].1 != both[1].1,
        "{own}: the backend sees both as {}",
        both[0].1
    );
    for round in 0..3_u8 {
        for (stream, seen) in &mut both {
            stream.get_mut().write_all(&[round])?;
            let mut byte = [0xff];
            stream
                .read_exact(&mut byte)
                .with_context(|| format!("round {round} of {seen}"))?;
            ensure!(byte == [round], "round {round} of {seen}: {byte:?}");
        }
    }
    Ok(())
}

/// The same by datagrams of one socket.
fn datagrams(own: SocketAddr, frontends: [SocketAddr; 2]) -> Result<()> {
    let socket = UdpSocket::from(shared(own, Type::DGRAM, Protocol::UDP)?);
    for _ in 0..3 {
        let mut seen = Vec::new();
        for to in frontends {
            socket.send_to(b"x", to)?;
        }
        for _ in frontends {
            let mut buffer = [0; 512];
            let (length, from) = socket
                .recv_from(&mut buffer)
                .with_context(|| format!("{own} to {frontends:?}"))?;
            seen.push((from, peer(&String::from_utf8_lossy(&buffer[..length]))?));
        }
        seen.sort_unstable();
        let mut from = frontends;
        from.sort_unstable();
        ensure!(
            [seen[0].0, seen[1].0] == from && seen[0].1 != seen[1].1,
            "{own}: {seen:?}"
        );
    }
    Ok(())
}

#[test]
fn one_port_towards_two_services_of_one_backend_becomes_two() -> Result<()> {
    let mut lab = Lab::start(Options {
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    })?;
    for (name, node) in [("a", 1), ("b", 1), ("c", 2)] {
        lab.add_pod(name, node)?;
    }
    for (number, pod) in [(1, "b"), (2, "b"), (3, "c"), (4, "c")] {
        let name = format!("over-{pod}-{number}");
        let service = Service::new(&name, number, 80, ECHO_PORT).node_port(30_080 + u16::from(number));
        lab.apply(&service.over([lab.pod(pod)]))?;
    }
    let node_port = |family, number: u8| address::node(1).at(family, 30_080 + u16::from(number));
    let cluster_ip = |family, number| address::cluster(number).at(family, 80);
    let (client, pod) = (lab.client.namespace(), lab.place("a")?.namespace());
    let mut port = 20_000;
    for family in Family::BOTH {
        let [outside, inside] = [address::CLIENT.of(family), lab.pod("a").address.of(family)];
        // Through the stack with the client's own address, from outside and from a pod, and around it.
        let ways: [(&Namespace, _, [SocketAddr; 2]); 4] = [
            (client, outside, [node_port(family, 1), node_port(family, 2)]),
            (client, outside, [node_port(family, 3), node_port(family, 4)]),
            (pod, inside, [cluster_ip(family, 1), cluster_ip(family, 2)]),
            (pod, inside, [cluster_ip(family, 3), cluster_ip(family, 4)]),
        ];
        for (namespace, own, frontends) in ways {
            port += 1;
            let own = SocketAddr::new(own, port);
            namespace
                .run(|| connections(own, frontends))
                .with_context(|| format!("TCP from {own} to {frontends:?}"))?;
            namespace
                .run(|| datagrams(own, frontends))
                .with_context(|| format!("UDP from {own} to {frontends:?}"))?;
        }
    }
    Ok(())
}
