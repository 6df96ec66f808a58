//! A call of a scenario by real sockets, and whether it came to what the scenario says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::Lab;
use lab::address;
use lab::call::{Answer, Calls, Outcomes, Transport};
use lab::scenario::Line;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::places::Places;

/// Enough for every one of three endpoints to answer, whether the scenario names it or not: the odds against are 10^-7.
const SPREAD: usize = 40;
/// Enough to see refusals.
const FEW: usize = 2;
/// How long a drop may take to be counted.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the nodes count when they drop a new flow by a rule of its Service.
const REASONS: [&str; 2] = ["no_local_endpoint", "source_not_allowed"];

/// Every socket has a port of its own: a flow that is remembered must not be in the way of the next.
static PORTS: AtomicU16 = AtomicU16::new(10_000);

/// A call with the lab's addresses.
pub(crate) struct Call<'a> {
    lab: &'a Lab,
    places: &'a Places,
    from: IpAddr,
    to: SocketAddr,
    is_tcp: bool,
    answer: &'a str,
}

/// The call of a line; none if it says nothing that the lab can show.
pub(crate) fn call<'a>(lab: &'a Lab, places: &'a Places, line: &'a Line) -> Option<Call<'a>> {
    let from = places.address(line.from)?;
    // A caller that stands in a range, and nowhere else.
    places.name(from)?;
    let to = places.socket(line.to)?;
    // Whose packets are not looked at go their way: at the node's own addresses to its stack, where else depends on the network.
    if line.answer == "not-a-service" && places.name(to.ip()) != Some("n1") {
        return None;
    }
    Some(Call {
        lab,
        places,
        from,
        to,
        is_tcp: match &*line.protocol {
            "TCP" => true,
            "UDP" => false,
            _ => return None,
        },
        answer: &line.answer,
    })
}

impl Call<'_> {
    /// Makes it, and compares.
    pub(crate) fn check(&self) -> Result<()> {
        let (verdict, rest) = self.answer.split_once(' ').unwrap_or((self.answer, ""));
        match verdict {
            "forward" => self.is_answered(rest),
            "reject" => self.is_refused(),
            // At the system call there is nothing to drop: a call of the host is refused.
            "drop" if self.is_host() => self.is_refused(),
            "drop" => self.is_dropped(),
            "not-a-service" => self.is_the_nodes_own(),
            other => bail!("`{other}` is no verdict"),
        }
    }

    fn is_host(&self) -> bool {
        self.places.name(self.from) == Some("n1")
    }

    fn make(&self, times: usize) -> Result<Outcomes> {
        let first = PORTS.fetch_add(u16::try_from(times)?, Ordering::Relaxed);
        let transport = if self.is_tcp {
            Transport::Tcp
        } else {
            Transport::ConnectedUdp
        };
        let place = self.places.place(self.lab, self.from)?;
        place.calls(Calls {
            // The host's calls are translated before their sockets have an address; one bound to loopback could not leave.
            source: (!self.is_host()).then_some(self.from),
            source_port: first,
            timeout: PATIENCE,
            timeouts: 1,
            ..Calls::new(transport, self.to, times)
        })
    }

    /// `BACKEND,... SOURCE [affinity]`: each of them answers, one alone if the client keeps it, and sees whom it should.
    fn is_answered(&self, text: &str) -> Result<()> {
        let mut words = text.split_whitespace();
        let backends = words.next().context("no backend")?.split(',');
        let source = words.next().context("no source")?;
        let affinity = words.next() == Some("affinity");
        let backends = backends
            .map(|text| {
                let backend = self.places.socket(text.parse()?);
                let backend = backend.with_context(|| format!("the lab has nothing for {text}"))?;
                Ok((self.places.name(backend.ip()).context("no pod")?, backend))
            })
            .collect::<Result<BTreeMap<&str, SocketAddr>>>()?;
        let outcomes = self.make(SPREAD)?;
        ensure!(outcomes.all_answered(), "{outcomes}");
        let found: BTreeSet<&str> = outcomes.by_name().into_keys().collect();
        let expected: BTreeSet<&str> = backends.keys().copied().collect();
        if affinity {
            ensure!(
                found.len() == 1 && found.is_subset(&expected),
                "one of {expected:?} is kept: {outcomes}"
            );
        } else {
            ensure!(found == expected, "expected answers of {expected:?}: {outcomes}");
        }
        outcomes
            .answers()
            .try_for_each(|answer| self.judge(answer, backends[&*answer.name], source))
    }

    fn judge(&self, answer: &Answer, backend: SocketAddr, source: &str) -> Result<()> {
        ensure!(
            answer.from == self.to,
            "the caller sees {}: {answer:?}",
            answer.from
        );
        ensure!(
            answer.local.port() == backend.port(),
            "the endpoint's port is {}: {answer:?}",
            answer.local.port()
        );
        let is_remote = self
            .places
            .name(backend.ip())
            .is_some_and(|name| name.starts_with("p2"));
        let is_masqueraded = match source {
            "kept" => false,
            "masqueraded" => true,
            "masqueraded-to-remote" => is_remote,
            other => bail!("`{other}` is no source"),
        };
        // Among several endpoints may be the caller itself: to that it is the node.
        if is_masqueraded || backend.ip() == self.from {
            let nodes = [address::node(1).v4.into(), IpAddr::from(address::node(1).v6)];
            ensure!(
                nodes.contains(&answer.peer.ip()),
                "the pod does not see the node: {answer:?}"
            );
        } else if !self.is_host() {
            ensure!(
                answer.peer.ip() == self.from && answer.peer.port() == answer.own.port(),
                "the pod does not see the caller: {answer:?}"
            );
        }
        Ok(())
    }

    /// ECONNREFUSED, of a reset or of an ICMP error.
    fn is_refused(&self) -> Result<()> {
        let outcomes = self.make(FEW)?;
        ensure!(outcomes.all_refused(), "{outcomes}");
        Ok(())
    }

    /// The node's stack refuses, where nobody listens: no program has counted anything.
    fn is_the_nodes_own(&self) -> Result<()> {
        let before = self.all_drops()?;
        let outcomes = self.make(FEW)?;
        ensure!(outcomes.all_refused(), "{outcomes}");
        let after = self.all_drops()?;
        ensure!(after == before, "a program refused it: {before} and {after}");
        Ok(())
    }

    /// The node counts that it was dropped, and by then nothing has come back.
    fn is_dropped(&self) -> Result<()> {
        let before = self.drops()?;
        let own = SocketAddr::new(self.from, PORTS.fetch_add(1, Ordering::Relaxed));
        let namespace = self.places.place(self.lab, self.from)?.namespace();
        namespace.run(|| {
            let (kind, protocol) = if self.is_tcp {
                (Type::STREAM, Protocol::TCP)
            } else {
                (Type::DGRAM, Protocol::UDP)
            };
            let socket = Socket::new(Domain::for_address(self.to), kind, Some(protocol))?;
            socket.set_nonblocking(true)?;
            socket.bind(&own.into())?;
            match socket.connect(&self.to.into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => bail!("{error}"),
                Err(_) => {}
                Ok(()) => drop(socket.send(b"nobody hears this")?),
            }
            let deadline = Instant::now() + PATIENCE;
            while self.drops()? == before {
                ensure!(Instant::now() < deadline, "no drop is counted");
            }
            if let Some(error) = socket.take_error()? {
                bail!("{error}");
            }
            let is_alone = match socket.peer_addr() {
                Err(error) => error.raw_os_error() == Some(libc::ENOTCONN),
                Ok(_) => !self.is_tcp,
            };
            ensure!(is_alone, "somebody answered");
            Ok(())
        })
    }

    /// How many new flows the first node has dropped by a rule.
    fn drops(&self) -> Result<u64> {
        self.counted(|row| REASONS.iter().any(|name| row["name"] == *name))
    }

    /// How many packets and calls it has dropped or refused.
    fn all_drops(&self) -> Result<u64> {
        self.counted(|row| row["drop"] == true)
    }

    fn counted(&self, is_wanted: impl Fn(&Value) -> bool) -> Result<u64> {
        let drops = self.lab.agent(1).ask("drops")?;
        let rows = drops.as_array().context("drops are no list")?;
        let wanted = rows.iter().filter(|row| is_wanted(row));
        Ok(wanted.filter_map(|row| row["value"].as_u64()).sum())
    }
}
