//! Connections and exchanges of datagrams that stand: each sends numbered lines and wants every one back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::Place;
use serde::{Deserialize, Serialize};

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// A line that takes longer is lost, and its connection broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an answer to a datagram is waited for, and how often it is sent again.
const ANSWER: Duration = Duration::from_millis(100);
const TRIES: u32 = 100;
/// Bytes of a line.
const LINE: usize = 24;

/// Holds so many of each.
#[derive(Args)]
pub(crate) struct Holder {
    to: SocketAddr,
    number: usize,
}

/// What those that are held have met so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Standing {
    pub(super) connections: usize,
    pub(super) exchanges: usize,
    /// Rounds in which each has sent a line and got it back.
    pub(super) rounds: u64,
    /// Connections that broke, exchanges that nobody answered any more.
    pub(super) broken: usize,
    /// Datagrams that were sent again.
    pub(super) sent_again: u64,
    /// The longest that a line of a connection took there and back, in milliseconds.
    pub(super) longest: f64,
    /// Why the first one broke.
    pub(super) why: String,
}

enum One {
    Connection(TcpStream),
    Exchange(UdpSocket),
    Broken,
}

impl Holder {
    /// Opens all and goes on until the input ends. A line of the input is answered after two whole rounds.
    pub(crate) fn run(&self) -> Result<()> {
        let (orders, asked) = mpsc::channel();
        std::thread::spawn(move || {
            for _ in std::io::stdin().lock().lines() {
                if orders.send(()).is_err() {
                    return;
                }
            }
        });
        let mut all = self.open()?;
        let mut standing = Standing {
            connections: self.number,
            exchanges: self.number,
            ..Standing::default()
        };
        let mut due = None;
        loop {
            for (index, one) in all.iter_mut().enumerate() {
                let sent = format!("{:011} {index:011}\n", standing.rounds);
                if let Err(error) = one.ask(sent.as_bytes(), &mut standing) {
                    if standing.broken == 0 {
                        standing.why = format!("{index} in round {}: {error:#}", standing.rounds);
                    }
                    standing.broken += 1;
                    *one = One::Broken;
                }
            }
            standing.rounds += 1;
            if due.is_some_and(|due| due <= standing.rounds) {
                println!("{}", serde_json::to_string(&standing)?);
                std::io::stdout().flush()?;
                due = None;
            }
            match asked.recv_timeout(PAUSE) {
                Ok(()) => due = Some(standing.rounds + 2),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn open(&self) -> Result<Vec<One>> {
        let mut all = Vec::new();
        for _ in 0..self.number {
            let mut stream = TcpStream::connect_timeout(&self.to, PATIENCE)
                .with_context(|| format!("connecting to {}", self.to))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            // The server's own line comes first.
            let mut byte = [0];
            while byte != *b"\n" {
                stream
                    .read_exact(&mut byte)
                    .context("reading the server's line")?;
            }
            all.push(One::Connection(stream));
            let socket = match self.to {
                SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
            }?;
            socket.connect(self.to)?;
            socket.set_read_timeout(Some(ANSWER))?;
            all.push(One::Exchange(socket));
        }
        Ok(all)
    }
}

impl One {
    fn ask(&mut self, sent: &[u8], standing: &mut Standing) -> Result<()> {
        match self {
            Self::Broken => Ok(()),
            Self::Connection(stream) => {
                let begin = Instant::now();
                stream.write_all(sent).context("sending")?;
                let mut back = [0; LINE];
                stream.read_exact(&mut back).context("receiving")?;
                ensure!(back == sent, "another line came back");
                standing.longest = standing.longest.max(begin.elapsed().as_secs_f64() * 1e3);
                Ok(())
            }
            Self::Exchange(socket) => {
                let mut buffer = [0; 512];
                for _ in 0..TRIES {
                    socket.send(sent).context("sending a datagram")?;
                    // A late answer to a line before is not this one's.
                    while let Ok(length) = socket.recv(&mut buffer) {
                        if buffer[..length].ends_with(sent) {
                            return Ok(());
                        }
                    }
                    standing.sent_again += 1;
                }
                anyhow::bail!("no datagram was answered")
            }
        }
    }
}

/// A process that holds connections and exchanges in a place.
pub(super) struct Held {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Held {
    /// Opens them.
    pub(super) fn start(place: &Place, to: SocketAddr, number: usize) -> Result<Self> {
        let mut command = place.command(std::env::current_exe()?);
        command
            .args(["flood-holder", &to.to_string(), &number.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = place.spawn(&mut command)?;
        let input = child.stdin.take().context("a holder takes no orders")?;
        let output = BufReader::new(child.stdout.take().context("a holder says nothing")?);
        Ok(Self { child, input, output })
    }

    /// Waits for two rounds more.
    pub(super) fn check(&mut self) -> Result<Standing> {
        self.input.write_all(b"check\n").context("asking a holder")?;
        let mut line = String::new();
        self.output.read_line(&mut line).context("asking a holder")?;
        ensure!(!line.is_empty(), "a holder ended without a word");
        serde_json::from_str(&line).context("reading what a holder says")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The lab's guardian ends it if this does not.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
