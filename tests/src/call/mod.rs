//! Calls: real sockets of a process of its own, in a place of the lab.

mod client;
mod hold;
mod server;
mod transfer;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{Place, programs};

pub use client::serve_request;
pub use hold::{Held, Survived, hold};
pub use server::{echo, has_sctp, pattern};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// A connection a call.
    Tcp,
    /// A socket a call, not connected.
    Udp,
    /// A socket a call, connected.
    ConnectedUdp,
    /// One socket for all calls, not connected.
    OneUdpSocket,
    /// An SCTP association a call.
    Sctp,
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::ConnectedUdp => "connected-udp",
            Self::OneUdpSocket => "one-udp-socket",
            Self::Sctp => "sctp",
        })
    }
}

/// What a client is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Call an echo server a number of times, one after another.
    Calls(Calls),
    /// Send this many bytes to an echo server and take as many back, comparing each.
    Transfer {
        /// The server.
        to: SocketAddr,
        /// How many bytes.
        bytes: usize,
    },
    /// Hold a connection: see [`hold`].
    Hold {
        /// The server.
        to: SocketAddr,
        /// Between two lines.
        pause: Duration,
    },
}

/// Calls to one frontend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Calls {
    /// How.
    pub transport: Transport,
    /// The frontend.
    pub to: SocketAddr,
    /// How often.
    pub times: usize,
    /// How long each may take.
    pub timeout: Duration,
    /// After how many timeouts the rest of the calls is given up.
    pub timeouts: usize,
    /// Bytes that every call sends and takes back beside the server's line.
    pub payload: usize,
    /// The first socket's port, the next port for the next socket, and so on; 0: any.
    pub source_port: u16,
    /// TTL or hop limit of datagrams; 0: the usual one.
    pub hop_limit: u8,
    /// The sockets' own address; none: what the kernel takes.
    pub source: Option<IpAddr>,
}

impl Calls {
    /// That many calls with a short payload.
    pub fn new(transport: Transport, to: SocketAddr, times: usize) -> Self {
        Self {
            transport,
            to,
            times,
            timeout: Duration::from_secs(1),
            timeouts: 3,
            payload: 16,
            source_port: 0,
            hop_limit: 0,
            source: None,
        }
    }
}

/// How one call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A server answered.
    Answer(Answer),
    /// ECONNREFUSED: at connect, or by an ICMP error.
    Refused,
    /// The connection was reset after it stood.
    Reset,
    /// EHOSTUNREACH: an ICMP error says that the way ends before the server.
    Unreachable,
    /// Nothing came in time.
    Timeout,
    /// Something else: the network is unreachable, or an answer was damaged.
    Failed(String),
}

/// What a server said, and where its answer came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The pod's name.
    pub name: String,
    /// The client's address as the server saw it.
    pub peer: SocketAddr,
    /// The server's own address as it saw it.
    pub local: SocketAddr,
    /// The server's address as the client saw it: getpeername, or where the datagram came from.
    pub from: SocketAddr,
    /// The client's own address as it saw it.
    pub own: SocketAddr,
}

/// The outcomes of a row of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcomes(pub Vec<Outcome>);

impl Outcomes {
    /// How often each pod answered.
    pub fn by_name(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for answer in self.answers() {
            *counts.entry(answer.name.as_str()).or_default() += 1;
        }
        counts
    }

    /// The answers.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.0.iter().filter_map(|outcome| match outcome {
            Outcome::Answer(answer) => Some(answer),
            _ => None,
        })
    }

    /// How many calls ended like this.
    pub fn count(&self, outcome: &Outcome) -> usize {
        self.0.iter().filter(|other| *other == outcome).count()
    }

    /// Whether every call was answered.
    pub fn all_answered(&self) -> bool {
        self.answers().count() == self.0.len()
    }

    /// Whether every call was refused.
    pub fn all_refused(&self) -> bool {
        self.count(&Outcome::Refused) == self.0.len()
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for outcome in &self.0 {
            let kind = match outcome {
                Outcome::Answer(answer) => format!("answered by {}", answer.name),
                Outcome::Refused => "refused".to_owned(),
                Outcome::Reset => "reset".to_owned(),
                Outcome::Unreachable => "unreachable".to_owned(),
                Outcome::Timeout => "timed out".to_owned(),
                Outcome::Failed(why) => format!("failed ({why})"),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let texts: Vec<_> = kinds
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        write!(
            formatter,
            "{}",
            if texts.is_empty() {
                "no call".to_owned()
            } else {
                texts.join(", ")
            }
        )
    }
}

impl Place {
    /// Calls from a process in this place.
    pub fn calls(&self, calls: Calls) -> Result<Outcomes> {
        self.request(&Request::Calls(calls)).map(Outcomes)
    }

    /// Sends bytes there and back, and compares each.
    pub fn transfer(&self, to: SocketAddr, bytes: usize) -> Result<()> {
        let outcome: std::result::Result<(), String> = self.request(&Request::Transfer { to, bytes })?;
        outcome.map_err(|why| anyhow::anyhow!("transfer of {bytes} bytes from {} to {to}: {why}", self.name))
    }

    fn request<T: for<'a> Deserialize<'a>>(&self, request: &Request) -> Result<T> {
        let text = serde_json::to_string(request).context("writing a request")?;
        let mut command = self.command(programs::lab()?);
        command.args(["client", &text]).stdin(Stdio::null());
        let output = self
            .namespace
            .run(|| command.output().context("starting a client"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "the client in {} ended with {}: {said}",
            self.name,
            output.status
        );
        serde_json::from_slice(&output.stdout).context("reading what a client says")
    }
}
