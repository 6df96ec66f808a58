//! The proxy that is measured.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use lab::cluster::ControlPlane;
use lab::{Place, programs};
use serde_json::Value;

use super::Proxy;
use super::api::NODE;
use super::latency::Latencies;
use crate::usage::{self, Usage};

/// Set by both once everything was programmed for the first time.
const SYNCED: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";
/// How often that is asked for. What is told is when it was, so that it costs no more to ask seldom.
const PERIOD: Duration = Duration::from_millis(200);
/// Longer than kube-proxy leaves between two syncs if there is something to do.
const QUIET: Duration = Duration::from_millis(1500);
/// The part of one core's time below which nothing is done.
const IDLE: f64 = 0.03;

/// A proxy at work.
pub(super) struct Subject {
    proxy: Proxy,
    child: Child,
    started: SystemTime,
    folder: PathBuf,
    log: PathBuf,
    /// On the host, with a cgroup that only the proxy and what it starts is in.
    place: Place,
}

/// How long it took until all was programmed, in seconds.
pub(super) struct Cold {
    /// From its start.
    pub(super) start: f64,
    /// From the lists' arrival, where the log tells of it.
    pub(super) lists: Option<f64>,
}

impl Subject {
    pub(super) fn start(proxy: Proxy, plane: &ControlPlane, host: &Place) -> Result<Self> {
        let folder = plane.folder().to_owned();
        let log = folder.join(format!("{proxy:?}.log"));
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let place = plane.apart(host, "proxy")?;
        let mut command = match proxy.kube_proxy() {
            None => shunt(plane, &place, host.cgroup())?,
            Some((mode, iptables)) => plane.kube_proxy(&place, NODE, mode, iptables)?,
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let started = SystemTime::now();
        Ok(Self {
            proxy,
            child: place.spawn(&mut command)?,
            started,
            folder,
            log,
            place,
        })
    }

    /// Waits until all was programmed; none if that takes longer than it may.
    pub(super) fn wait_synced(&mut self, patience: Duration) -> Result<Option<Cold>> {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            self.check()?;
            if let Some(synced) = self.metric(SYNCED).filter(|time| *time > 0.0) {
                let started = self.started.duration_since(UNIX_EPOCH).context("the clock")?;
                return Ok(Some(Cold {
                    start: synced - started.as_secs_f64(),
                    lists: self.since_lists()?,
                }));
            }
            std::thread::sleep(PERIOD);
        }
        Ok(None)
    }

    /// Waits until it has done all that there was to do: no process of it has had work for longer than it would put work off.
    /// False if that takes longer than it may.
    pub(super) fn wait_quiet(&mut self, patience: Duration) -> Result<bool> {
        let begin = Instant::now();
        let (mut since, mut last) = (begin, self.cpu()?);
        while since.elapsed() < QUIET {
            self.check()?;
            if begin.elapsed() > patience {
                return Ok(false);
            }
            let looked = Instant::now();
            std::thread::sleep(PERIOD);
            let now = self.cpu()?;
            if now - last > IDLE * looked.elapsed().as_secs_f64() {
                since = Instant::now();
            }
            last = now;
        }
        Ok(true)
    }

    /// That it has ended is an error.
    fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("asking for its end")? {
            Some(status) => bail!("it ended with {status}:\n{}", self.tail()),
            None => Ok(()),
        }
    }

    fn cpu(&self) -> Result<f64> {
        usage::cpu(self.place.cgroup())
    }

    /// What it has used.
    pub(super) fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id(), self.place.cgroup())
    }

    /// How long its changes of endpoints took, from hearing of them to their being in the maps, if it counts that itself.
    pub(super) fn latencies(&self) -> Result<Option<Latencies>> {
        if self.proxy != Proxy::Shunt {
            return Ok(None);
        }
        let text = self.place.namespace().run(scrape)?;
        Ok(Some(Latencies::read(&text)))
    }

    /// Ends it. What Shunt has pinned does not go with its host.
    pub(super) fn stop(mut self) -> Result<()> {
        self.child.kill().context("ending it")?;
        self.child.wait().context("waiting for its end")?;
        if self.proxy != Proxy::Shunt {
            return Ok(());
        }
        let mut command = self.place.command(programs::shipped_shunt()?);
        command
            .arg("cleanup")
            .arg("--instance")
            .arg(instance(&self.folder));
        let output = self
            .place
            .namespace()
            .run(|| command.output().context("starting the cleanup"))?;
        ensure!(
            output.status.success(),
            "the cleanup failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// A metric of IPv4, or of no family.
    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.place.namespace().run(scrape).ok()?;
        let mut lines = text.lines().filter(|line| line.starts_with(name));
        let line = lines.find(|line| !line.contains("IPv6"))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    fn since_lists(&self) -> Result<Option<f64>> {
        if self.proxy != Proxy::Shunt {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&self.log).context("reading the log")?;
        let time = |message: &str| -> Option<Timestamp> {
            let mut events = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let event = events.find(|event| event["message"] == message)?;
            event["timestamp"].as_str()?.parse().ok()
        };
        let (received, ready) = (time("received"), time("ready"));
        let (received, ready) = received
            .zip(ready)
            .context("the log does not tell of the lists")?;
        Ok(Some(ready.duration_since(received).as_secs_f64()))
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have been ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn instance(folder: &Path) -> PathBuf {
    let id = folder.file_name().unwrap_or_default().to_string_lossy();
    Path::new("/sys/fs/bpf").join(format!("{id}-beside"))
}

/// The agent, serving the sockets of a cgroup.
fn shunt(plane: &ControlPlane, place: &Place, cgroup: &Path) -> Result<Command> {
    let mut command = place.command(programs::shipped_shunt()?);
    command
        .args(["agent", "--node-name", NODE, "--log-format", "json"])
        .arg("--kubeconfig")
        .arg(plane.kubeconfig())
        .arg("--instance")
        .arg(instance(plane.folder()))
        .arg("--cgroup")
        .arg(cgroup);
    Ok(command)
}

fn scrape() -> Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:10249").context("asking for metrics")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
