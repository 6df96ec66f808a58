//! A lab in which a node forwards.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::cluster::ControlPlane;
use lab::manifest::Service;
use lab::options::Xdp;
use lab::packet::wire;
use lab::{ECHO_PORT, Lab, Namespace, Options};
use nix::net::if_::if_nametoindex;
use serde_json::Value;

use super::frames::{Frames, Shape};
use super::{Live, Way, rate};
use crate::peer::{self, Peer};

const NODE_PORT: u16 = 30_090;
/// The client's first port.
const FIRST_PORT: u16 = 20_000;
const UPLINK: &str = "eth0";
/// The uplink's other end, named after the node that forwards.
const FAR_END: &str = "n1";
/// How long a proxy may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// A lab, with its proxy on the first node.
pub(super) struct Rig {
    way: Way,
    lab: Lab,
    kube_proxy: Option<Peer>,
    service: Service,
    shape: Shape,
}

impl Rig {
    /// Builds it, and lets a client call until all its flows are established.
    pub(super) fn build(way: Way, flows: u16, plane: &ControlPlane) -> Result<Self> {
        let mut options = Options::default();
        if let Way::Shunt(xdp) = way {
            options.xdp = xdp;
        }
        let mut lab = match way {
            Way::Shunt(_) => Lab::start(options)?,
            Way::KubeProxy(..) => Lab::build(options)?,
        };
        lab.add_pod("backend", 2)?;
        // The first cluster address is that of the API server.
        let service = Service::new("live", 77, 80, ECHO_PORT)
            .node_port(NODE_PORT)
            .over([lab.pod("backend")]);
        // An uplink without an XDP program takes frames of XDP from its other end only if it receives by NAPI, as NICs do.
        let mut ethtool = Command::new("ethtool");
        ethtool.args(["-K", UPLINK, "gro", "on"]);
        let status = lab
            .host(1)
            .namespace()
            .run(|| ethtool.status().context("starting ethtool"))?;
        ensure!(status.success(), "ethtool failed: {status}");
        let kube_proxy = match way {
            Way::Shunt(_) => {
                lab.apply(&service)?;
                None
            }
            Way::KubeProxy(mode, iptables) => Some(Peer::start(&lab, plane, mode, iptables)?),
        };
        let shape = shape(&lab, flows)?;
        let mut rig = Self {
            way,
            lab,
            kube_proxy,
            service,
            shape,
        };
        rig.establish(flows)?;
        Ok(rig)
    }

    /// Gives its Service, which all have, to the API server, and the Node.
    pub(super) fn publish(&self, plane: &ControlPlane) -> Result<()> {
        peer::publish_node(plane)?;
        plane.apply(&self.service.manifest())
    }

    /// What it is made of.
    pub(super) fn told(&self, name: &str) -> String {
        let versions = self.kube_proxy.as_ref().map(|peer| peer.versions.join(", "));
        format!("{name}: {} {}", self.lab.options(), versions.unwrap_or_default())
    }

    /// Calls by as many sockets as there are flows, twice each: a reply and what follows it establish a flow.
    fn establish(&mut self, flows: u16) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let node = address::node(1).at(Family::V4, NODE_PORT);
        for port in FIRST_PORT..FIRST_PORT + flows {
            let client = self.lab.client.namespace();
            while !client.run(|| exchange(port, node))? {
                if let Some(kube_proxy) = &mut self.kube_proxy {
                    kube_proxy.check()?;
                }
                ensure!(Instant::now() < deadline, "nobody answers at {node}");
            }
        }
        Ok(())
    }

    /// Lets what is forwarded be counted and dropped where it leaves: a packet behind all that the kernel does with it but
    /// for its crossing the veth; a frame of XDP, which no hook of the sender sees, at the other end.
    pub(super) fn attach(&mut self, frames: &mut Frames) -> Result<()> {
        let host = self.lab.host(1).namespace();
        if self.way == Way::Shunt(Xdp::Native) {
            self.lab.network().run(|| frames.take_coming(FAR_END))?;
        }
        host.run(|| frames.take_leaving(UPLINK))
    }

    /// Packets a second in one round.
    pub(super) fn rate(&self, frames: &mut Frames, live: &Live) -> Result<f64> {
        let (arrived, seconds) = self
            .lab
            .network()
            .run(|| frames.send(&self.shape, live.packets))?;
        rate(live.packets, arrived, seconds)
    }

    /// That the packets went the way that is measured.
    pub(super) fn check_way(&self) -> Result<()> {
        let Way::Shunt(xdp) = self.way else { return Ok(()) };
        let counters = self.lab.agent(1).ask("drops")?;
        let counters = counters.as_array().context("drops prints a list")?;
        let mut found = counters.iter().filter(|one| one["name"] == "xdp_forwarded");
        let value = found.next().and_then(|one| one["value"].as_u64());
        let value = value.context("xdp_forwarded is not among the counters")?;
        ensure!(
            (value > 0) == (xdp == Xdp::Native),
            "XDP has forwarded {value} packets, with --xdp {}",
            xdp.argument()
        );
        Ok(())
    }
}

/// An exchange of two datagrams each way; false if one is not answered.
fn exchange(port: u16, node: SocketAddr) -> Result<bool> {
    let socket = UdpSocket::bind((address::CLIENT.v4, port)).context("a socket of the client")?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    socket.connect(node).context("connecting it")?;
    for _ in 0..2 {
        // A refusal of the datagram before may be told here.
        if socket.send(b"?").is_err() || socket.recv(&mut [0; 512]).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What frames of the client to the NodePort look like on the uplink, and when they leave it.
fn shape(lab: &Lab, flows: u16) -> Result<Shape> {
    let (node, network) = (lab.host(1).namespace(), lab.network());
    let target = SocketAddrV4::new(lab.pod("backend").address.v4, ECHO_PORT);
    Ok(Shape {
        link: [link_address(node, UPLINK)?, link_address(network, "nodes")?],
        client: (SocketAddrV4::new(address::CLIENT.v4, FIRST_PORT), flows),
        destination: SocketAddrV4::new(address::node(1).v4, NODE_PORT),
        interface: network.run(|| if_nametoindex(FAR_END).context("the uplink's other end"))?,
        arrives: (address::node(1).v4, target),
    })
}

fn link_address(namespace: &Namespace, interface: &str) -> Result<[u8; 6]> {
    let mut command = Command::new("ip");
    command.args(["-j", "link", "show", "dev", interface]);
    let output = namespace.run(|| command.output().context("starting ip"))?;
    let links: Value = serde_json::from_slice(&output.stdout).context("ip prints JSON")?;
    let text = links[0]["address"].as_str().context("no link-layer address")?;
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).context("no link-layer address"))
        .collect::<Result<_>>()?;
    bytes.try_into().ok().context("no link-layer address")
}

/// Frames that are dropped where they come in: what is measured beside a proxy's work.
pub(super) struct Alone {
    /// The thread ends when this is dropped, and the namespace with it.
    _stays: std::sync::mpsc::Sender<()>,
    namespace: std::fs::File,
    shape: Shape,
}

/// A pair of interfaces in a network namespace of its own, which ends with the value.
pub(super) fn rehearse(frames: &mut Frames) -> Result<Alone> {
    let (stays, ended) = std::sync::mpsc::channel::<()>();
    let (report, made) = std::sync::mpsc::channel();
    // The namespace lives as long as its thread.
    std::thread::spawn(move || {
        let inside = || -> Result<(std::fs::File, u32)> {
            let wire = wire::enter()?;
            let file = std::fs::File::open("/proc/thread-self/ns/net").context("the thread's namespace")?;
            Ok((file, wire.uplink))
        };
        // Nobody listens any more if the bench has ended.
        drop(report.send(inside()));
        while ended.recv().is_ok() {}
    });
    let (namespace, uplink) = made.recv().context("the thread ended")??;
    let client = SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 0x20), FIRST_PORT);
    let destination = SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 1), NODE_PORT);
    let alone = Alone {
        _stays: stays,
        namespace,
        shape: Shape {
            link: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
            client: (client, 1000),
            destination,
            interface: uplink,
            arrives: (*client.ip(), destination),
        },
    };
    alone.inside(|| frames.take_coming("uplink-far"))?;
    Ok(alone)
}

impl Alone {
    /// Packets a second in one round.
    pub(super) fn rate(&self, frames: &mut Frames, live: &Live) -> Result<f64> {
        let (arrived, seconds) = self.inside(|| frames.send(&self.shape, live.packets))?;
        rate(live.packets, arrived, seconds)
    }

    fn inside<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = self.namespace.try_clone().context("the thread's namespace")?;
        let inside = move || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)
                .context("entering a network namespace")?;
            action()
        };
        std::thread::scope(|scope| scope.spawn(inside).join())
            .map_err(|_| anyhow::anyhow!("a thread of the bench panicked"))?
    }
}
