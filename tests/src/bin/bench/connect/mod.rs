//! `cargo xtask bench connect`: connections directly to a pod, by socket LB, by TC, and by kube-proxy.
//!
//! A pod of one node calls a pod of the other. Each way has a lab of its own, so that what one needs (conntrack) does
//! not slow another; they take turns, round by round. What kube-proxy serves comes from a real API server.

mod page;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::cluster::iptables::Iptables;
use lab::cluster::{ControlPlane, Controllers};
use lab::options::SocketLb;
use lab::{Lab, Options, Pod};

use crate::peer::{self, Peer};
use crate::probe::{Server, Times, measure};
use crate::record::Records;
use crate::scale::api::{Api, SERVER, cluster_ip};

pub(crate) use self::page::section;

const SERVICE_PORT: u16 = 80;
/// A Service of datagrams, for calls without packets: kube-proxy has none, so that it has as many rules as there are Services.
const DATAGRAMS: Ipv4Addr = Ipv4Addr::new(10, 96, 3, 1);
/// How long kube-proxy may take until it serves as many Services as there are.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long one try to connect may take meanwhile.
const TRY: Duration = Duration::from_millis(500);

/// How much.
#[derive(Args)]
pub(crate) struct Connect {
    /// How often each way is measured, in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Connections a round
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..))]
    pub(crate) connections: u32,
    /// How many Services there are, ascending
    #[arg(long, value_delimiter = ',', default_value = "1,1000,10000,30000")]
    pub(crate) services: Vec<usize>,
    /// Where the records go
    #[arg(long, default_value = "target/bench/connect.json")]
    output: PathBuf,
    /// Also write the tables into docs/performance.md
    #[arg(long)]
    page: bool,
}

/// Who leads a call to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Shunt,
    KubeProxy(&'static str, Iptables),
}

/// A way, and the lab that it is measured in.
struct Variant {
    name: &'static str,
    lab: usize,
    way: Way,
}

const VARIANTS: [Variant; 5] = [
    Variant {
        name: "direct",
        lab: 0,
        way: Way::Direct,
    },
    Variant {
        name: "socket LB",
        lab: 0,
        way: Way::Shunt,
    },
    Variant {
        name: "TC",
        lab: 1,
        way: Way::Shunt,
    },
    Variant {
        name: "kube-proxy nftables",
        lab: 2,
        way: Way::KubeProxy("nftables", Iptables::Nft),
    },
    // Of the two sets of programs the one that is ready with 10,000 Services in minutes; what they make is the same list.
    Variant {
        name: "kube-proxy iptables (legacy)",
        lab: 3,
        way: Way::KubeProxy("iptables", Iptables::Legacy),
    },
];

/// Measures alone, with records of its own.
pub(crate) fn run(connect: &Connect) -> Result<()> {
    let mut records = Records::default();
    measure_all(connect, &mut records)?;
    println!("{}", records.table());
    crate::record::write(&connect.output, &records)?;
    let section = section(&records, &connect.services)?;
    println!("\n{section}");
    if connect.page {
        crate::page::write("connect", &section)?;
    }
    Ok(())
}

/// As much as the whole bench has.
pub(crate) fn all(rounds: usize, connections: u32, services: &[usize]) -> Result<Connect> {
    Ok(Connect {
        rounds: rounds.try_into().context("too many rounds")?,
        connections,
        services: services.to_vec(),
        output: PathBuf::new(),
        page: false,
    })
}

/// Measures all ways at each number of Services.
pub(crate) fn measure_all(connect: &Connect, records: &mut Records) -> Result<()> {
    ensure!(
        connect.services.is_sorted() && connect.services.first() != Some(&0),
        "numbers of Services are to ascend from 1 on: they are added to those that are there"
    );
    println!("bench: building a control plane and four labs");
    let host_only = Options {
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    };
    let mut labs = vec![
        Lab::start(Options::default())?,
        Lab::start(host_only)?,
        Lab::build(Options::default())?,
        Lab::build(Options::default())?,
    ];
    let mut servers = Vec::new();
    for lab in &mut labs {
        lab.add_pod("caller", 1)?;
        servers.push(Server::start(&lab.add_pod("server", 2)?.place, SERVER)?);
    }
    let plane = ControlPlane::start(Controllers::None)?;
    peer::publish_node(&plane)?;
    let api = Api::of(&plane)?;
    let mut peers = Vec::new();
    for Variant { name, lab, way } in &VARIANTS {
        if let Way::KubeProxy(mode, iptables) = way {
            let peer = Peer::start(&labs[*lab], &plane, mode, *iptables).context(*name)?;
            println!("bench: {name}: {}", peer.versions.join(", "));
            peers.push((&labs[*lab], *name, peer));
        }
    }
    // All labs are alike: a pod's address is the same in each.
    let server = labs[0].pod("server").address.v4;
    let mut there = 0;
    for &count in &connect.services {
        println!("bench: {count} Services");
        for lab in &labs[..2] {
            let applied = lab.agent(1).apply("bench.yaml", &manifest(server, count))?;
            applied.context("no agent runs")?;
        }
        api.make(there..count, |_| vec![server])?;
        there = count;
        for (lab, name, peer) in &mut peers {
            wait_served(lab, peer, count).with_context(|| format!("{name}, {count} Services"))?;
        }
        measure_at(connect, &labs, count, records)?;
    }
    drop(servers);
    Ok(())
}

/// Waits until the last Service is served, and kube-proxy is at rest.
fn wait_served(lab: &Lab, peer: &mut Peer, count: usize) -> Result<()> {
    let begin = Instant::now();
    let to = target(lab, Way::Shunt, count);
    let caller = lab.pod("caller").place.namespace();
    while caller.run(|| Ok(TcpStream::connect_timeout(&to, TRY).is_err()))? {
        peer.check()?;
        ensure!(begin.elapsed() < PATIENCE, "nobody answers at {to}");
    }
    peer.wait_quiet(PATIENCE)
}

/// Measures all ways, in turn.
fn measure_at(connect: &Connect, labs: &[Lab], count: usize, records: &mut Records) -> Result<()> {
    let mut times: Vec<Vec<Times>> = VARIANTS.iter().map(|_| Vec::new()).collect();
    for _ in 0..connect.rounds {
        for (variant, times) in VARIANTS.iter().zip(&mut times) {
            let lab = &labs[variant.lab];
            let caller: &Pod = lab.pod("caller");
            times.push(measure(
                &caller.place,
                target(lab, variant.way, count),
                connect.connections,
                false,
            )?);
        }
    }
    for (variant, times) in VARIANTS.iter().zip(&times) {
        let of = |value: fn(&Times) -> f64| times.iter().map(value).collect::<Vec<_>>();
        records.add("connections", variant.name, count, "1/s", &of(|times| times.rate));
        records.add("connect p50", variant.name, count, "us", &of(|times| times.p50));
        records.add("connect p99", variant.name, count, "us", &of(|times| times.p99));
    }
    datagrams(connect.rounds, &labs[0], count, records)
}

/// connect() of a UDP socket of the host: the hook's own cost, without the noise of packets.
fn datagrams(rounds: u16, lab: &Lab, count: usize, records: &mut Records) -> Result<()> {
    const SOCKETS: u32 = 200;
    let direct = target(lab, Way::Direct, count);
    let mut ways = [
        ("direct", direct, Vec::new()),
        ("socket LB", (DATAGRAMS, SERVICE_PORT).into(), Vec::new()),
    ];
    for _ in 0..rounds {
        for (_, to, times) in &mut ways {
            times.push(measure(lab.host(1), *to, SOCKETS, true)?.p50 * 1000.0);
        }
    }
    for (variant, _, times) in &ways {
        records.add("UDP connect() p50", variant, count, "ns", times);
    }
    Ok(())
}

fn target(lab: &Lab, way: Way, count: usize) -> SocketAddr {
    match way {
        Way::Direct => (lab.pod("server").address.v4, SERVER).into(),
        Way::Shunt | Way::KubeProxy(..) => (cluster_ip(count - 1), SERVICE_PORT).into(),
    }
}

/// Services with one endpoint each, the server, and one of datagrams.
fn manifest(server: Ipv4Addr, count: usize) -> String {
    let mut text = service(server, "datagrams", DATAGRAMS, "UDP");
    for number in 0..count {
        text += &service(server, &format!("s{number}"), cluster_ip(number), "TCP");
    }
    text
}

fn service(server: Ipv4Addr, name: &str, address: Ipv4Addr, protocol: &str) -> String {
    let mut text = String::new();
    let _infallible = write!(
        text,
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default, uid: {name}}}\n\
         spec:\n  type: ClusterIP\n  clusterIP: {address}\n  clusterIPs: [\"{address}\"]\n  ipFamilies: [IPv4]\n  \
         ports: [{{name: http, protocol: {protocol}, port: {SERVICE_PORT}, targetPort: {SERVER}}}]\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  namespace: default\n  \
         labels: {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\n\
         ports: [{{name: http, protocol: {protocol}, port: {SERVER}}}]\n\
         endpoints: [{{addresses: [\"{server}\"], nodeName: n2, conditions: {{ready: true}}}}]\n"
    );
    text
}
