//! A client on the node that calls a new Service until it is served.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use lab::Place;

use super::api::{SERVER, added_ip};

/// How long one call may take. The kernel tells a host of one unreachable address a second, after the first few: most calls
/// are told nothing and last as long as they may, so that this is what a time may be too long by.
const CALL: Duration = Duration::from_millis(2);
/// Between two calls: those that are refused are refused at once.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a Service may take to be served.
const PATIENCE: Duration = Duration::from_secs(120);

/// The client's process.
pub(super) struct Probe {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: usize,
}

impl Probe {
    pub(super) fn start(host: &Place) -> Result<Self> {
        let mut command = host.command(std::env::current_exe().context("where this program is")?);
        command
            .arg("scale-probe")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = host.spawn(&mut command)?;
        Ok(Self {
            input: child.stdin.take().context("the client has no input")?,
            output: BufReader::new(child.stdout.take().context("the client has no output")?),
            child,
            next: 0,
        })
    }

    /// Seconds from when a Service was added until it is served.
    pub(super) fn time(&mut self, add: impl FnOnce() -> Result<SystemTime>) -> Result<f64> {
        let target = SocketAddr::from((added_ip(self.next), 80));
        self.next += 1;
        writeln!(self.input, "{target}").context("telling the client")?;
        let added = add()?;
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .context("hearing from the client")?;
        let served: f64 = line
            .trim()
            .parse()
            .with_context(|| format!("the client said {line:?}"))?;
        ensure!(served > 0.0, "{target} was not served in {PATIENCE:?}");
        // What is served before the API's answer arrived took no time.
        Ok((served - seconds(added)?).max(0.0))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The client's own main function: for each address that it reads it prints when a call was answered.
pub(crate) fn serve_probe() -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", SERVER)).context("listening")?;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for line in std::io::stdin().lines() {
        let line = line.context("reading")?;
        let target: SocketAddr = line.parse().with_context(|| format!("{line:?} is no address"))?;
        let begin = Instant::now();
        let mut served = -1.0;
        while begin.elapsed() < PATIENCE {
            if TcpStream::connect_timeout(&target, CALL).is_ok() {
                served = seconds(SystemTime::now())?;
                break;
            }
            std::thread::sleep(PAUSE);
        }
        println!("{served:.6}");
    }
    Ok(())
}

fn seconds(time: SystemTime) -> Result<f64> {
    Ok(time
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs_f64())
}
