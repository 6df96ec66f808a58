//! A small lab on every kernel that is served, by `cargo xtask test kernels`: real sockets of all three protocols, and devices that
//! a developer's own kernel may lack. Its steps share one lab: in an emulated machine the start of two agents takes a minute.

mod dsr;
mod overlay;
mod services;
mod vlan;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::address;
use lab::call::{Calls, Outcomes, Transport, has_sctp};
use lab::manifest::{Port, Service};
use lab::options::{Attach, Xdp};
use lab::{ECHO_PORT, Lab, Options, Place};

const PORT: u16 = 80;
/// So many that of two backends which are chosen by chance both get one, but once in millions of runs.
const CALLS: usize = 24;
const TRANSPORTS: [Transport; 4] = [
    Transport::Tcp,
    Transport::Udp,
    Transport::ConnectedUdp,
    Transport::Sctp,
];
/// Of the pods of both nodes, and of one each: their numbers.
const BOTH: u8 = 1;
const NEAR: u8 = 2;
const FAR: u8 = 3;
/// Of none.
const NOBODY: u8 = 4;
/// From this kernel on a veth says whether its other end takes what XDP sends.
const TELLS_XDP_FEATURES: (u32, u32) = (6, 3);

/// What is tried in the lab.
type Step = fn(&Lab) -> Result<()>;

/// In this order: the later ones change the network.
const STEPS: [(&str, Step); 6] = [
    (
        "Services are reached from pods, hosts and outside",
        services::are_reached,
    ),
    (
        "clients of a Service without endpoints are told",
        services::refuse,
    ),
    (
        "a backend of another node answers by DSR",
        dsr::the_backends_node_answers,
    ),
    (
        "a VLAN's device serves, and XDP below it leaves tagged frames alone",
        vlan::serves,
    ),
    ("pods of both nodes serve over Geneve", overlay::geneve_serves),
    ("pods of both nodes serve over IP in IP", overlay::ip_in_ip_serves),
];

#[test]
fn a_small_lab_serves() -> Result<()> {
    ensure!(
        has_sctp(),
        "this kernel has no SCTP: `cargo xtask test kernels` runs this where there is"
    );
    let begin = Instant::now();
    let lab = scene()?;
    println!("lab: it stands after {} s", begin.elapsed().as_secs());
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        let begin = Instant::now();
        let result = step(&lab);
        let how = if result.is_ok() { "ok" } else { "FAILED" };
        println!("lab: {name}: {how}, {} s", begin.elapsed().as_secs());
        failed.extend(result.err().map(|error| format!("{name}: {error:?}")));
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// A pod on each node, and Services. Programs are attached by what the kernel has.
fn scene() -> Result<Lab> {
    let mut lab = Lab::start(Options {
        attach: Attach::Auto,
        xdp: Xdp::Native,
        offloads: false,
        ..Options::default()
    })?;
    lab.add_pod("near", 1)?;
    lab.add_pod("far", 2)?;
    for (name, number, pods) in [
        ("both", BOTH, &["near", "far"][..]),
        ("near", NEAR, &["near"]),
        ("far", FAR, &["far"]),
        ("nobody", NOBODY, &[]),
    ] {
        lab.apply(&service(&lab, name, number, pods))?;
    }
    Ok(lab)
}

/// A Service of all three protocols over these pods.
fn service(lab: &Lab, name: &str, number: u8, pods: &[&str]) -> Service {
    let mut service = Service::new(name, number, PORT, ECHO_PORT);
    service.ports.push(Port {
        name: "sctp".to_owned(),
        protocol: "SCTP",
        port: PORT,
        target: ECHO_PORT,
        node_port: 0,
    });
    service
        .node_port(node_port(number))
        .over(pods.iter().map(|name| lab.pod(name)))
}

/// A Service's NodePort.
const fn node_port(number: u8) -> u16 {
    30_080 + number as u16
}

/// Calls of which each may take long: the machine is emulated.
fn patient(transport: Transport, to: SocketAddr, times: usize) -> Calls {
    Calls {
        timeout: Duration::from_secs(10),
        ..Calls::new(transport, to, times)
    }
}

/// Calls, all of which are answered, by so many pods.
fn call(place: &Place, transport: Transport, to: SocketAddr, pods: usize) -> Result<Outcomes> {
    let outcomes = place.calls(patient(transport, to, CALLS))?;
    ensure!(
        outcomes.all_answered() && outcomes.by_name().len() == pods,
        "{transport} from {} to {to}: {outcomes}",
        place.name()
    );
    Ok(outcomes)
}

/// What a node has received by a device: its packets and bytes.
fn received(lab: &Lab, device: &str) -> Result<(u64, u64)> {
    let output = lab
        .host(1)
        .output("ip", &["-s", "-j", "link", "show", "dev", device])?;
    ensure!(output.status.success(), "{output:?}");
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).context("reading what ip says")?;
    let number = |what: &str| {
        let number = links[0]["stats64"]["rx"][what].as_u64();
        number.with_context(|| format!("no {what} in {links}"))
    };
    Ok((number("packets")?, number("bytes")?))
}

/// Whether this kernel tells XDP's features of a device.
fn tells_xdp_features() -> Result<bool> {
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's release")?;
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    let version = numbers.next().zip(numbers.next());
    Ok(version.context("a release without numbers")? >= TELLS_XDP_FEATURES)
}

/// A Service's cluster address and port.
fn cluster(number: u8, family: address::Family) -> SocketAddr {
    address::cluster(number).at(family, PORT)
}
