//! Echo servers in pods of both nodes, each behind a Service of its own, and who calls them.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::address;
use super::whole::Cluster;
use crate::address::Family;
use crate::call::{Answer, Calls, Transport};
use crate::{ECHO_PORT, Place, programs};

/// How long the cluster gets for what takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Calls of each kind.
const CALLS: usize = 20;
/// Both ways, each compared.
const BYTES: usize = 10_000_000;
/// The Services' port.
const PORT: u16 = 80;

/// The pods and their servers.
#[derive(Debug)]
pub struct Echo {
    servers: Vec<Child>,
    /// A pod of the first node, which calls.
    pub client: Place,
    /// The pods that serve: one of each node.
    pub pods: [Place; 2],
    /// Outside the cluster.
    pub outside: Place,
}

impl Drop for Echo {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // They may have ended with their pods.
            drop(server.kill());
            drop(server.wait());
        }
    }
}

/// One of the Services: its pod is on the node with its number.
#[derive(Clone, Copy, Debug)]
pub struct Service(pub u8);

impl Service {
    /// Of both nodes' pods.
    pub const BOTH: [Self; 2] = [Self(1), Self(2)];

    /// Its name, and its pod's.
    pub fn name(self) -> &'static str {
        if self.0 == 1 { "one" } else { "two" }
    }

    /// At a node's own address.
    pub fn at_node(self, node: u8, family: Family) -> SocketAddr {
        address::node(node).at(family, 30_080 + u16::from(self.0))
    }

    /// At its cluster address.
    pub fn at_cluster(self, cluster: &Cluster, family: Family) -> Result<SocketAddr> {
        let addresses = [
            "get",
            "service",
            self.name(),
            "--output=jsonpath={.spec.clusterIPs[*]}",
        ];
        let said = cluster.control_plane().kubectl(&addresses)?;
        let mut addresses = said
            .split(' ')
            .filter_map(|address| address.parse::<IpAddr>().ok());
        let address = addresses.find(|address| address.is_ipv4() == (family == Family::V4));
        let address = address.with_context(|| format!("{} has no {family} address: {said}", self.name()))?;
        Ok(SocketAddr::new(address, PORT))
    }
}

impl Echo {
    /// Makes them and waits until they serve.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let control_plane = cluster.control_plane();
        control_plane.apply(include_str!("../../cluster/manifests/echo.yaml"))?;
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        let ready = [
            "wait",
            "--for=condition=Ready",
            &patience,
            "pod/one",
            "pod/two",
            "pod/client",
        ];
        control_plane.kubectl(&ready)?;
        let pods = [cluster.pod("one")?, cluster.pod("two")?];
        Ok(Self {
            servers: pods.iter().map(serve).collect::<Result<_>>()?,
            client: cluster.pod("client")?,
            pods,
            outside: control_plane.client_outside()?,
        })
    }
}

/// Starts an echo server in a pod, and waits until it listens.
pub fn serve(pod: &Place) -> Result<Child> {
    let mut command = pod.command(programs::lab()?);
    command
        .args(["echo", pod.name(), &ECHO_PORT.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = pod.spawn(&mut command)?;
    let stdout = child.stdout.take().context("the echo server has no output")?;
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .context("reading from the echo server")?;
    ensure!(line == "listening\n", "the echo server said {line:?}");
    Ok(child)
}

/// Calls a Service over TCP and UDP: its pod answers every call. The answers are returned.
pub fn call(from: &Place, to: SocketAddr, service: Service) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp] {
        let calls = |times| {
            let calls = Calls {
                timeout: Duration::from_secs(5),
                ..Calls::new(transport, to, times)
            };
            from.calls(calls)
        };
        let deadline = Instant::now() + PATIENCE;
        while !calls(1)?.all_answered() && Instant::now() < deadline {}
        let outcomes = calls(CALLS)?;
        ensure!(
            outcomes.by_name().into_iter().eq([(service.name(), CALLS)]),
            "{} to {to} over {transport}: {outcomes}",
            from.name()
        );
        answers.extend(outcomes.answers().cloned());
    }
    Ok(answers)
}

/// Ten megabytes there and back, each byte compared.
pub fn transfer(from: &Place, to: SocketAddr) -> Result<()> {
    from.transfer(to, BYTES)
}
