//! Pods: a namespace, a cgroup, a veth to the node, and the programs that run inside.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::address::{self, Pair};
use crate::network::{self, UPLINK};
use crate::options::{Options, Style};
use crate::{Namespace, Place, programs};

/// The port at which a pod's echo server answers.
pub const ECHO_PORT: u16 = 8080;

/// A pod that stands.
#[derive(Debug)]
pub struct Pod {
    /// Where its programs run.
    pub place: Place,
    /// The number of its node, from 1.
    pub node: u8,
    /// Its addresses.
    pub address: Pair,
    /// The node's end of its veth.
    pub interface: String,
    servers: Vec<Child>,
}

impl Pod {
    /// Connects a namespace that exists already to its node.
    pub(crate) fn connect(
        place: Place,
        node: u8,
        number: u8,
        node_namespace: &Namespace,
        options: &Options,
    ) -> Result<Self> {
        let interface = format!("pod{number}");
        let address = address::pod(node, number);
        node_namespace.ip(&[network::veth(&interface, &place.namespace)])?;
        match options.style {
            Style::Routed => routed(&place.namespace, node_namespace, &interface, address)?,
            Style::Bridge => bridged(&place.namespace, node_namespace, &interface, address, node)?,
        }
        if !options.offloads {
            network::switch_offloads_off(node_namespace, &interface)?;
            network::switch_offloads_off(&place.namespace, UPLINK)?;
        }
        Ok(Self {
            place,
            node,
            address,
            interface,
            servers: Vec::new(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Starts an echo server that answers with the pod's name, and waits until it listens.
    pub fn serve(&mut self, port: u16) -> Result<()> {
        let mut command = self.place.command(programs::lab()?);
        command
            .args(["echo", &self.place.name, &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = self.place.spawn(&mut command)?;
        let stdout = child.stdout.take().context("the echo server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("reading from the echo server")?;
        self.servers.push(child);
        ensure!(
            line == "listening\n",
            "the echo server of {} did not start: {line:?}",
            self.place.name
        );
        Ok(())
    }

    /// Starts another server, which [`Self::stop`] will end.
    pub fn run(&mut self, program: &str, arguments: &[&str]) -> Result<()> {
        let mut command = self.place.command(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = self.place.spawn(&mut command)?;
        self.servers.push(child);
        Ok(())
    }

    /// Starts another server and waits for the line in which it says that it serves; [`Self::stop`] will end it.
    pub fn run_until(&mut self, program: &str, arguments: &[&str], says: &str) -> Result<()> {
        let mut command = self.place.command(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = self.place.spawn(&mut command)?;
        let stdout = child.stdout.take().context("a server has no output")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        while !line.contains(says) {
            line.clear();
            let length = stdout.read_line(&mut line).context("reading from a server")?;
            ensure!(
                length > 0,
                "{program} of {} ended before it said {says:?}",
                self.place.name
            );
        }
        // Open for as long as the server lives: its next line must not kill it.
        child.stdout = Some(stdout.into_inner());
        self.servers.push(child);
        Ok(())
    }

    /// Waits until a program in the pod listens at a TCP port. Programs tell nobody when they do: it is tried.
    pub fn wait_listening(&self, port: u16) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let address = (Ipv4Addr::LOCALHOST, port);
        self.place.namespace.run(|| {
            while let Err(error) = TcpStream::connect(address) {
                ensure!(
                    Instant::now() < deadline,
                    "nobody listens at port {port} of {}: {error}",
                    self.place.name
                );
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        })
    }

    /// Kills its servers, also the processes that those have started.
    pub fn stop(&mut self) -> Result<()> {
        self.place.cgroup.kill()?;
        for mut server in self.servers.drain(..) {
            server.wait().context("waiting for a pod's server")?;
        }
        Ok(())
    }
}

/// As Calico does: a host route to each pod; the node answers for a gateway address that nobody has.
fn routed(pod: &Namespace, node: &Namespace, interface: &str, address: Pair) -> Result<()> {
    let Pair { v4, v6 } = address;
    node.sysctl(&format!("ipv4/conf/{interface}/proxy_arp"), "1")?;
    // Else the answer to the first request comes late, by chance up to 0.8 s.
    node.sysctl(&format!("ipv4/neigh/{interface}/proxy_delay"), "0")?;
    node.ip(&[
        format!("address add fe80::1/64 dev {interface} nodad"),
        format!("link set {interface} up"),
        format!("route add {v4}/32 dev {interface}"),
        format!("route add {v6}/128 dev {interface}"),
    ])?;
    pod.ip(&[
        format!("address add {v4}/32 dev {UPLINK}"),
        format!("address add {v6}/128 dev {UPLINK} nodad"),
        format!("link set {UPLINK} up"),
        format!("route add 169.254.1.1 dev {UPLINK} scope link"),
        format!("route add default via 169.254.1.1 dev {UPLINK}"),
        format!("route add default via fe80::1 dev {UPLINK}"),
    ])
}

fn bridged(pod: &Namespace, node: &Namespace, interface: &str, address: Pair, number: u8) -> Result<()> {
    let gateway = address::pod_gateway(number);
    node.ip(&[format!("link set {interface} master pods up")])?;
    pod.ip(&[
        format!("address add {}/24 dev {UPLINK}", address.v4),
        format!("address add {}/64 dev {UPLINK} nodad", address.v6),
        format!("link set {UPLINK} up"),
        format!("route add default via {}", gateway.v4),
        format!("route add default via {}", gateway.v6),
    ])
}

/// The bridge that pods of a bridged node are ports of. Netfilter sees what it bridges, as Kubernetes asks of nodes with
/// a bridge: else conntrack would see one direction only of what goes from pod to pod through a Service.
pub(crate) fn bridge(node: &Namespace, number: u8) -> Result<()> {
    let gateway = address::pod_gateway(number);
    node.sysctl("bridge/bridge-nf-call-iptables", "1")?;
    node.sysctl("bridge/bridge-nf-call-ip6tables", "1")?;
    node.ip(&[
        // An address of its own: else it is that of the port with the lowest, and changes under the pods' feet.
        format!("link add pods address 02:00:00:00:00:{number:02x} type bridge forward_delay 0"),
        format!("address add {}/24 dev pods", gateway.v4),
        format!("address add {}/64 dev pods nodad", gateway.v6),
        "link set pods up".to_owned(),
    ])
}
