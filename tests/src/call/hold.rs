//! A long-lived connection that sends numbered lines and wants each back.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Request, client};
use crate::{Place, programs};

/// Longer than any pause that a healthy path has.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that is held by a process of its own.
#[derive(Debug)]
pub struct Held {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a held connection has seen so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survived {
    /// The pod at the other end.
    pub name: String,
    /// Lines that came back, in order, none missing.
    pub lines: u64,
    /// The longest time one took.
    pub longest: Duration,
}

/// Opens a connection from a place and keeps it busy.
pub fn hold(place: &Place, to: SocketAddr, pause: Duration) -> Result<Held> {
    let text = serde_json::to_string(&Request::Hold { to, pause }).context("writing a request")?;
    let mut command = place.command(programs::lab()?);
    command
        .args(["client", &text])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = place.spawn(&mut command)?;
    let orders = child.stdin.take().context("the client takes no orders")?;
    let answers = BufReader::new(child.stdout.take().context("the client says nothing")?);
    let mut held = Held {
        child,
        orders,
        answers,
    };
    held.check()
        .with_context(|| format!("holding a connection from {} to {to}", place.name()))?;
    Ok(held)
}

impl Held {
    /// Waits until more lines have gone there and back, and tells of all so far; an error if the connection broke.
    pub fn check(&mut self) -> Result<Survived> {
        // A client that has ended left the reason behind.
        let asked = self.orders.write_all(b"check\n");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .context("reading from the client")?;
        ensure!(
            !line.is_empty(),
            "the held connection broke, and its client ended without a word ({asked:?})"
        );
        let answer: std::result::Result<Survived, String> =
            serde_json::from_str(&line).with_context(|| format!("the client said {line:?}"))?;
        answer.map_err(|why| anyhow::anyhow!("the held connection broke: {why}"))
    }

    /// Waits until the connection breaks; why it did.
    pub fn wait_broken(&mut self) -> Result<String> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if let Err(error) = self.check() {
                return Ok(format!("{error:#}"));
            }
        }
        anyhow::bail!("the held connection lives")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The client's side.
pub(super) fn run(to: SocketAddr, pause: Duration) -> Result<()> {
    let (orders, asked) = mpsc::channel();
    thread::spawn(move || {
        for _ in std::io::stdin().lock().lines() {
            if orders.send(()).is_err() {
                return;
            }
        }
    });
    let mut survived = Survived {
        name: String::new(),
        lines: 0,
        longest: Duration::ZERO,
    };
    let result = lines(to, pause, &asked, &mut survived);
    let count = survived.lines;
    report(
        &result
            .map(|()| survived)
            .map_err(|error| format!("{error:#} after {count} lines")),
    )
}

/// Sends line after line until the orders end. A check is answered after ten more lines.
fn lines(to: SocketAddr, pause: Duration, asked: &mpsc::Receiver<()>, survived: &mut Survived) -> Result<()> {
    const MORE: u64 = 10;
    let mut stream = client::open(to, (client::wildcard(to), 0).into(), TIMEOUT).context("connecting")?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line).context("receiving the line")?;
    let name = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("name="));
    survived.name = name.with_context(|| format!("{line:?} names no pod"))?.to_owned();
    let mut due = None;
    loop {
        let start = Instant::now();
        let sent = format!("line {}\n", survived.lines);
        stream.write_all(sent.as_bytes()).context("sending")?;
        let mut back = String::new();
        reader.read_line(&mut back).context("receiving")?;
        ensure!(back == sent, "{back:?} came back for {sent:?}");
        survived.lines += 1;
        survived.longest = survived.longest.max(start.elapsed());
        if due == Some(survived.lines) {
            report(&Ok(survived.clone()))?;
            due = None;
        }
        match asked.recv_timeout(pause) {
            Ok(()) => due = Some(survived.lines + MORE),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn report(what: &std::result::Result<Survived, String>) -> Result<()> {
    println!("{}", serde_json::to_string(what).context("writing a report")?);
    std::io::stdout().flush().context("writing a report")
}
