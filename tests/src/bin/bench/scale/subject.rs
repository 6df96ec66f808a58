//! The proxy that is measured.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use lab::cluster::{ControlPlane, binary};
use lab::{Namespace, Place, programs};
use serde_json::Value;

use super::Proxy;
use super::api::NODE;
use super::latency::Latencies;
use crate::usage::Usage;

/// How long the first sync may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Set by both once everything was programmed for the first time.
const SYNCED: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";

/// A proxy at work.
pub(super) struct Subject {
    proxy: Proxy,
    child: Child,
    started: SystemTime,
    namespace: Namespace,
    folder: PathBuf,
    log: PathBuf,
    host: Place,
}

impl Subject {
    pub(super) fn start(proxy: Proxy, plane: &ControlPlane, host: &Place) -> Result<Self> {
        let folder = plane.folder().to_owned();
        let log = folder.join(format!("{}.log", proxy.name()));
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut command = match proxy {
            Proxy::Shunt => shunt(plane, host)?,
            Proxy::KubeProxyNftables => kube_proxy(plane, host, "nftables")?,
            Proxy::KubeProxyIptables => kube_proxy(plane, host, "iptables")?,
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let started = SystemTime::now();
        Ok(Self {
            proxy,
            child: host.spawn(&mut command)?,
            started,
            namespace: host.namespace().clone(),
            folder,
            log,
            host: host.clone(),
        })
    }

    /// Seconds from the start, and from the lists' arrival where the log tells of it, until all was programmed.
    pub(super) fn wait_synced(&mut self) -> Result<(f64, Option<f64>)> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().context("asking for its end")? {
                bail!("it ended with {status}:\n{}", self.tail());
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "no sync in {PATIENCE:?}:\n{}",
                self.tail()
            );
            if let Some(synced) = self.metric(SYNCED).filter(|time| *time > 0.0) {
                let started = self.started.duration_since(UNIX_EPOCH).context("the clock")?;
                return Ok((synced - started.as_secs_f64(), self.since_lists()?));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has used.
    pub(super) fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }

    /// How long its changes of endpoints took, from hearing of them to their being in the maps, as it counts itself.
    pub(super) fn latencies(&self) -> Option<Latencies> {
        let text = self.namespace.run(scrape).ok()?;
        (self.proxy == Proxy::Shunt).then(|| Latencies::read(&text))
    }

    /// Ends it and takes away what it made.
    pub(super) fn stop(mut self) -> Result<()> {
        self.child.kill().context("ending it")?;
        self.child.wait().context("waiting for its end")?;
        let mut command = match self.proxy {
            Proxy::Shunt => {
                let mut command = self.host.command(programs::shunt()?);
                command
                    .arg("cleanup")
                    .arg("--instance")
                    .arg(instance(&self.folder));
                command
            }
            Proxy::KubeProxyNftables | Proxy::KubeProxyIptables => {
                let mut command = self.host.command(binary("kube-proxy")?);
                command
                    .arg("--cleanup")
                    .arg("--config")
                    .arg(self.folder.join("kube-proxy.yaml"));
                command
            }
        };
        let output = self
            .namespace
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
        let text = self.namespace.run(scrape).ok()?;
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
        let times = time("received").zip(time("ready"));
        Ok(times.map(|(received, ready)| ready.duration_since(received).as_secs_f64()))
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

fn shunt(plane: &ControlPlane, host: &Place) -> Result<Command> {
    let mut command = host.command(programs::shunt()?);
    command
        .args(["agent", "--node-name", NODE, "--log-format", "json"])
        .arg("--kubeconfig")
        .arg(plane.kubeconfig())
        .arg("--instance")
        .arg(instance(plane.folder()))
        .arg("--cgroup")
        .arg(host.cgroup());
    Ok(command)
}

fn kube_proxy(plane: &ControlPlane, host: &Place, mode: &str) -> Result<Command> {
    let config = plane.folder().join("kube-proxy.yaml");
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
         clientConnection: {{kubeconfig: {}}}\nhostnameOverride: {NODE}\nmode: {mode}\nclusterCIDR: 10.128.0.0/9\n\
         conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}\n",
        plane.kubeconfig().display()
    );
    std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    let mut command = host.command(binary("kube-proxy")?);
    command.arg("--config").arg(config);
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
