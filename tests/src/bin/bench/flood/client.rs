//! A real client: calls a frontend again and again, each time anew, and measures how long it waits.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::Place;
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};

/// Between two calls: a client that never rests would be a flood itself.
const PAUSE: Duration = Duration::from_millis(2);
/// Longer than some retransmissions of a SYN.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a datagram is waited for; it is not sent again.
const ANSWER: Duration = Duration::from_secs(1);

/// Calls until so many were made, or its input ends.
#[derive(Args)]
pub(crate) struct Client {
    /// Where to
    to: SocketAddr,
    /// By one datagram each
    #[arg(long)]
    udp: bool,
    /// How often
    #[arg(long)]
    calls: Option<usize>,
}

/// What a client met: times in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Served {
    /// Calls that were answered.
    pub(super) answered: usize,
    /// Calls that were not.
    pub(super) lost: usize,
    /// connect() of a connection; the whole exchange of a datagram.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) longest: f64,
}

impl Served {
    fn of(mut times: Vec<f64>, lost: usize) -> Self {
        times.sort_by(f64::total_cmp);
        let last = times.len().saturating_sub(1) as f64;
        let at = |share: f64| times.get((last * share) as usize).copied().unwrap_or_default();
        Self {
            answered: times.len(),
            lost,
            p50: at(0.5),
            p99: at(0.99),
            longest: at(1.0),
        }
    }
}

impl Client {
    /// Calls and prints.
    pub(crate) fn run(&self) -> Result<()> {
        let (open, ended) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            // What comes does not matter: the end of the input drops the channel.
            drop(std::io::stdin().lock().read_to_end(&mut Vec::new()));
            drop(open);
        });
        let (mut times, mut lost) = (Vec::new(), 0);
        loop {
            let called = if self.udp {
                self.exchange()
            } else {
                self.connection()
            };
            match called {
                Ok(time) => times.push(time.as_secs_f64() * 1e6),
                Err(error) => {
                    lost += 1;
                    eprintln!("a call to {}: {error}", self.to);
                }
            }
            if self.calls.is_some_and(|calls| times.len() + lost >= calls)
                || self.calls.is_none() && ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected)
            {
                break;
            }
        }
        println!("{}", serde_json::to_string(&Served::of(times, lost))?);
        Ok(())
    }

    /// The time that connect() takes. A connection whose server does not speak is lost.
    fn connection(&self) -> std::io::Result<Duration> {
        let begin = Instant::now();
        let stream = TcpStream::connect_timeout(&self.to, PATIENCE)?;
        let time = begin.elapsed();
        // A reset at the end, so that ports are free again at once.
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&stream, sockopt::Linger, &linger)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        if line.starts_with("name=") {
            Ok(time)
        } else {
            Err(std::io::Error::other(format!("the server said {line:?}")))
        }
    }

    fn exchange(&self) -> std::io::Result<Duration> {
        let socket = match self.to {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
        }?;
        socket.set_read_timeout(Some(ANSWER))?;
        let begin = Instant::now();
        socket.connect(self.to)?;
        socket.send(b"a real client")?;
        socket.recv(&mut [0; 512])?;
        Ok(begin.elapsed())
    }
}

/// A client that calls in a place until it is told to end.
pub(super) struct Calling {
    child: Child,
    input: Option<ChildStdin>,
}

impl Calling {
    /// Starts one; with a number of calls it ends by itself.
    pub(super) fn start(place: &Place, to: SocketAddr, is_udp: bool, calls: Option<usize>) -> Result<Self> {
        let mut command = place.command(std::env::current_exe()?);
        command.args(["flood-client", &to.to_string()]);
        if is_udp {
            command.arg("--udp");
        }
        if let Some(calls) = calls {
            command.args(["--calls", &calls.to_string()]);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = place.spawn(&mut command)?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    /// Waits for the end of one with a number of calls.
    pub(super) fn finish(mut self) -> Result<Served> {
        let mut text = String::new();
        let mut output = self.child.stdout.take().context("a client says nothing")?;
        output
            .read_to_string(&mut text)
            .context("reading what a client met")?;
        let status = self.child.wait().context("waiting for a client")?;
        ensure!(status.success(), "a client ended with {status}");
        serde_json::from_str(&text).context("reading what a client met")
    }

    /// Tells it to end.
    pub(super) fn stop(mut self) -> Result<Served> {
        self.input.take();
        self.finish()
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_hundredth_part_are_of_what_was_answered() {
        let served = Served::of((1..=101).rev().map(f64::from).collect(), 3);
        assert_eq!((served.answered, served.lost), (101, 3));
        assert_eq!((served.p50, served.p99, served.longest), (51.0, 100.0, 101.0));
        let nobody = Served::of(Vec::new(), 1);
        assert_eq!((nobody.answered, nobody.lost, nobody.p50), (0, 1, 0.0));
    }
}
