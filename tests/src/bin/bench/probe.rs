//! The two ends of a measured connection.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Child;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::Place;
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};

/// Connects some times, one after the other.
#[derive(Args)]
pub(crate) struct Probe {
    /// Where to
    to: SocketAddr,
    /// How often
    times: u32,
    /// connect() of a UDP socket: the system call alone, no packet
    #[arg(long)]
    udp: bool,
}

/// What a probe measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    /// Connections a second, with socket and close.
    pub(crate) rate: f64,
    /// Median of connect(), in microseconds.
    pub(crate) p50: f64,
    /// 99th percentile of connect(), in microseconds.
    pub(crate) p99: f64,
}

impl Probe {
    /// Measures and prints.
    pub(crate) fn run(&self) -> Result<()> {
        let mut times = Vec::with_capacity(self.times as usize);
        let start = Instant::now();
        for _ in 0..self.times {
            times.push(if self.udp {
                self.datagram()?
            } else {
                self.connection()?
            });
        }
        let rate = f64::from(self.times) / start.elapsed().as_secs_f64();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let measured = Times {
            rate,
            p50: at(0.5),
            p99: at(0.99),
        };
        println!("{}", serde_json::to_string(&measured)?);
        Ok(())
    }

    fn connection(&self) -> Result<f64> {
        let start = Instant::now();
        let stream = TcpStream::connect(self.to).with_context(|| format!("connecting to {}", self.to))?;
        let time = start.elapsed();
        // A reset, so that ports are free again at once.
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&stream, sockopt::Linger, &linger)?;
        Ok(time.as_secs_f64() * 1e6)
    }

    /// The mean of 100 calls on one socket: one alone is too short to measure.
    fn datagram(&self) -> Result<f64> {
        const CALLS: u32 = 100;
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
            .or_else(|_| UdpSocket::bind(("0.0.0.0", 0)))
            .context("a UDP socket")?;
        let to = match self.to {
            SocketAddr::V4(four) => SocketAddr::from((four.ip().to_ipv6_mapped(), four.port())),
            six => six,
        };
        let start = Instant::now();
        for _ in 0..CALLS {
            socket.connect(to)?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS))
    }
}

/// Accepts and closes until it is ended.
pub(crate) fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context("listening")?;
    println!("listening");
    loop {
        // A connection that was reset before it was accepted is no error here.
        drop(listener.accept());
    }
}

/// A server in a place, ended with the value.
pub(crate) struct Server(Child);

impl Server {
    /// Starts it and waits until it listens.
    pub(crate) fn start(place: &Place, port: u16) -> Result<Self> {
        use std::io::BufRead;
        let mut command = place.command(std::env::current_exe()?);
        command
            .args(["serve", &port.to_string()])
            .stdout(std::process::Stdio::piped());
        let mut child = place.spawn(&mut command)?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        std::io::BufReader::new(stdout).read_line(&mut line)?;
        let server = Self(child);
        ensure!(line == "listening\n", "the server did not start");
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The lab's guardian ends it if this does not.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs a probe in a place.
pub(crate) fn measure(place: &Place, to: SocketAddr, times: u32, udp: bool) -> Result<Times> {
    let program = std::env::current_exe()?;
    let mut arguments = vec!["probe".to_owned(), to.to_string(), times.to_string()];
    if udp {
        arguments.push("--udp".to_owned());
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let output = place.output(&program.to_string_lossy(), &arguments)?;
    ensure!(
        output.status.success(),
        "a probe from {} to {to} failed: {}",
        place.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("reading what the probe measured")
}
