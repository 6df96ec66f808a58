//! Maps that change their layout while the programs of real nodes run on them: upgrade, roll back, an agent that is killed
//! in the middle, an older one that meets the newer layout. What was made before lives on: connections, exchanges of
//! datagrams, the affinity of clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Held, Transport, hold};
use lab::manifest::Service;
use lab::options::{Attach, SocketLb};
use lab::{Agent, ECHO_PORT, Lab, Options, programs};

const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(120);
const NODES: [u8; 2] = [1, 2];
/// Service ports with affinity, and datagram sockets: that all keep their pod of two by chance has the odds 2^-n.
const STICKY: u8 = 8;
const SOCKETS: usize = 12;
const NODE_PORT: u16 = 30_080;

#[test]
fn connections_live_on_while_tcx_links_move_to_another_layout_and_back() -> Result<()> {
    let mut life = Life::begin(Options {
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    })?;
    life.upgrade()?;
    life.called()?;
    life.hold("since the upgrade")?;
    life.refused()?;
    life.downgrade()?;
    life.called()?;
    life.hold("since the roll back")?;
    life.upgrade()?;
    life.clean_up()
}

#[test]
fn connections_live_on_while_filters_move_to_another_layout_and_back() -> Result<()> {
    let mut life = Life::begin(Options {
        attach: Attach::Clsact,
        ..Options::default()
    })?;
    life.upgrade()?;
    life.downgrade()?;
    life.called()?;
    life.clean_up()
}

#[test]
fn a_change_of_layout_that_is_killed_is_gone_on_with_or_turned_round() -> Result<()> {
    let mut life = Life::begin(Options {
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    })?;
    life.killed(Way::Up, "incomplete")?;
    life.killed(Way::Up, "links/cgroup/connect4")?;
    life.upgrade()?;
    life.killed(Way::Down, "incomplete")?;
    life.killed(Way::Down, "links/cgroup/connect4")?;
    // Turned round, begun anew, and turned round again.
    life.upgrade()?;
    life.called()?;
    life.killed(Way::Down, "links/cgroup/connect4")?;
    life.downgrade()?;
    life.called()?;
    life.killed(Way::Up, "links/cgroup/connect4")?;
    life.downgrade()?;
    life.called()
}

/// The lab, and what was begun in it before anything changed.
struct Life {
    held: Vec<(String, Held)>,
    datagrams: Vec<(UdpSocket, String)>,
    clients: Vec<(SocketAddr, String)>,
    lab: Lab,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Up,
    Down,
}

/// Two pods, one on each node.
fn service(lab: &Lab, number: u8, affinity: u32) -> Service {
    let mut service = Service::new(&format!("s{number}"), number, 80, ECHO_PORT)
        .node_port(NODE_PORT + u16::from(number))
        .over([lab.pod("a"), lab.pod("c")]);
    service.affinity = affinity;
    service
}

fn node_port(number: u8, family: Family) -> SocketAddr {
    address::node(1).at(family, NODE_PORT + u16::from(number))
}

impl Life {
    fn begin(options: Options) -> Result<Self> {
        let mut lab = Lab::start(options)?;
        for (name, node) in [("a", 1), ("b", 1), ("c", 2)] {
            lab.add_pod(name, node)?;
        }
        lab.apply(&service(&lab, 1, 0))?;
        for number in 2..2 + STICKY {
            lab.apply(&service(&lab, number, 3600))?;
        }
        let mut life = Self {
            held: Vec::new(),
            datagrams: Vec::new(),
            clients: Vec::new(),
            lab,
        };
        life.hold("from the beginning")?;
        for number in 0..SOCKETS {
            let family = Family::BOTH[number % 2];
            let any: IpAddr = match family {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = life
                .lab
                .client
                .namespace()
                .run(|| UdpSocket::bind((any, 0)).context("binding a socket"))?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            socket.connect(node_port(1, family))?;
            let name = exchanged(&socket)?;
            // The second datagram proves the client.
            ensure!(
                exchanged(&socket)? == name,
                "datagrams of one socket go to several pods"
            );
            life.datagrams.push((socket, name));
        }
        for (number, family) in (2..2 + STICKY).flat_map(|number| Family::BOTH.map(|family| (number, family)))
        {
            let to = node_port(number, family);
            let name = life.answerer(to)?;
            life.clients.push((to, name));
        }
        for pods in [
            &life.datagrams.iter().map(|(_, name)| name).collect::<Vec<_>>(),
            &life.clients.iter().map(|(_, name)| name).collect(),
        ] {
            ensure!(
                ["a", "c"].iter().all(|pod| pods.iter().any(|name| name == pod)),
                "not both pods answer: {pods:?}"
            );
        }
        Ok(life)
    }

    /// Through a NodePort to this node's pod and, with another source address, to the other's; from a pod; from a host.
    fn hold(&mut self, when: &str) -> Result<()> {
        for family in Family::BOTH {
            let cluster = address::cluster(1).at(family, 80);
            let ways = [("client", node_port(1, family)), ("b", cluster), ("n1", cluster)];
            // Often enough for both pods.
            for (from, to) in ways.into_iter().flat_map(|way| [way; 4]) {
                let name = format!("{from}->{to} {when}");
                self.held.push((name, hold(self.lab.place(from)?, to, PAUSE)?));
            }
        }
        Ok(())
    }

    fn answerer(&self, to: SocketAddr) -> Result<String> {
        let outcomes = self.lab.client.calls(Calls::new(Transport::Tcp, to, 1))?;
        let name = outcomes.by_name().into_keys().next();
        Ok(name.with_context(|| format!("{to}: {outcomes}"))?.to_owned())
    }

    /// All that was begun goes on.
    fn check(&mut self) -> Result<()> {
        for (name, held) in &mut self.held {
            held.check().with_context(|| name.clone())?;
        }
        for (socket, name) in &self.datagrams {
            let now = exchanged(socket)?;
            ensure!(
                now == *name,
                "datagrams of {socket:?} went to {name}, and go to {now}"
            );
        }
        for (to, name) in &self.clients {
            let now = self.answerer(*to)?;
            ensure!(now == *name, "the client of {to} was {name}'s, and is {now}'s");
        }
        Ok(())
    }

    /// New calls are answered, by both pods.
    fn called(&self) -> Result<()> {
        for (family, transport) in Family::BOTH
            .into_iter()
            .flat_map(|family| [Transport::Tcp, Transport::Udp].map(|transport| (family, transport)))
        {
            let cluster = address::cluster(1).at(family, 80);
            for (from, to) in [("client", node_port(1, family)), ("b", cluster), ("n1", cluster)] {
                let outcomes = self.lab.place(from)?.calls(Calls::new(transport, to, 20))?;
                ensure!(
                    outcomes.all_answered() && outcomes.by_name().len() == 2,
                    "{transport} {from}->{to}: {outcomes}"
                );
            }
        }
        Ok(())
    }

    /// The next version's agents, one after another.
    fn upgrade(&mut self) -> Result<()> {
        for node in NODES {
            let agent = self.lab.agent_mut(node);
            end(agent)?;
            agent.use_next_layout(true);
            agent.start()?;
            has(agent, 2)?;
            self.check().context("after the upgrade")?;
        }
        Ok(())
    }

    /// Back to this version's.
    fn downgrade(&mut self) -> Result<()> {
        for node in NODES {
            let agent = self.lab.agent_mut(node);
            end(agent)?;
            agent.use_next_layout(true);
            let mut command = agent.downgrade(1, &programs::shunt()?)?;
            let place = agent.place().clone();
            let output = place
                .namespace()
                .run(|| command.output().context("starting shunt"))?;
            ensure!(output.status.success(), "shunt downgrade: {output:?}");
            has(agent, 1)?;
            self.check().context("after the downgrade")?;
            let agent = self.lab.agent_mut(node);
            agent.use_next_layout(false);
            agent.start()?;
            has(agent, 1)?;
            self.check().context("after the roll back")?;
        }
        Ok(())
    }

    /// Nothing is left of the agents.
    fn clean_up(mut self) -> Result<()> {
        for node in NODES {
            self.lab.agent_mut(node).stop()?;
            let agent = self.lab.agent(node);
            agent.clean_up()?;
            ensure!(!agent.instance().exists(), "n{node} is not clean");
        }
        Ok(())
    }

    /// A change of layout ends when this is there in the new place.
    fn killed(&mut self, way: Way, path: &str) -> Result<()> {
        for node in NODES {
            let agent = self.lab.agent_mut(node);
            end(agent)?;
            agent.use_next_layout(true);
            let (from, to) = if way == Way::Up {
                ("v1", "v2")
            } else {
                ("v2", "v1")
            };
            let (from, to) = (agent.instance().join(from), agent.instance().join(to));
            if way == Way::Up {
                agent.launch()?;
                wait_for(&to.join(path), &from)?;
                agent.kill()?;
            } else {
                let mut command = agent.downgrade(1, &programs::shunt()?)?;
                let mut child = agent.place().spawn(&mut command)?;
                wait_for(&to.join(path), &from)?;
                // It may have ended by itself: the last steps take milliseconds.
                drop(child.kill());
                child.wait()?;
            }
            self.check()
                .with_context(|| format!("killed at {path} on the way {way:?}"))?;
        }
        Ok(())
    }

    /// An agent that does not know the layout names it and ends, and traffic goes on, with no agent.
    fn refused(&mut self) -> Result<()> {
        for node in NODES {
            let agent = self.lab.agent_mut(node);
            agent.stop()?;
            agent.use_next_layout(false);
            let said = match agent.start() {
                Ok(()) => "it is ready".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            ensure!(
                said.contains("newer layout version 2") && said.contains("shunt downgrade --to 1"),
                "{said}"
            );
            agent.kill()?;
            has(agent, 2)?;
            self.check().context("after the refusal")?;
        }
        self.called().context("after the refusal")
    }
}

/// One datagram there and its answer back: the pod that answers.
fn exchanged(socket: &UdpSocket) -> Result<String> {
    socket.send(b"?")?;
    let mut buffer = [0; 1500];
    let length = socket
        .recv(&mut buffer)
        .with_context(|| format!("{socket:?} gets no answer"))?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let name = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("name="));
    Ok(name.with_context(|| format!("{text:?} names no pod"))?.to_owned())
}

fn end(agent: &mut Agent) -> Result<()> {
    if agent.is_running() { agent.kill() } else { Ok(()) }
}

/// The instance has this layout alone.
fn has(agent: &Agent, layout: u32) -> Result<()> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(agent.instance())? {
        found.push(entry?.file_name().to_string_lossy().into_owned());
    }
    ensure!(
        found == [format!("v{layout}")],
        "{} holds {found:?}",
        agent.instance().display()
    );
    Ok(())
}

/// Until a path is there, or another is gone. No event tells, and the moment is short.
fn wait_for(path: &Path, gone: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() && gone.exists() {
        ensure!(Instant::now() < deadline, "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
