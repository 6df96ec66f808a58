//! Packets a second from a NodePort to a backend on another node: by XDP, by TC, and by kube-proxy.
//!
//! ```text
//! network ── frames ──▶ eth0 of n1 ── DNAT, SNAT ──▶ out by eth0 again, to n2, if nobody counted and dropped them
//! ```
//! Each way has a lab of its own, all are built alike, and they take turns, round by round. The frames are made by the kernel
//! (live frames of its test run) at the other end of the uplink of the node; the whole of it, from a frame's making to its
//! being dropped, is work of one CPU. All flows are established by real sockets before.

mod frames;
mod page;
mod rig;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::cluster::iptables::Iptables;
use lab::cluster::{ControlPlane, Controllers};
use lab::options::Xdp;

use self::frames::Frames;
use self::rig::{Rig, rehearse};
use crate::record::Records;

pub(crate) use self::page::section;

/// The name of the measure.
const NAME: &str = "NodePort to another node";
/// What the frames cost without a proxy: they are dropped where they come in.
const NOBODY: &str = "nobody: frames dropped on arrival";

/// How much.
#[derive(Args)]
pub(crate) struct Live {
    /// How often each way is measured, in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Packets a round
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..))]
    packets: u32,
    /// Flows that they belong to
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    flows: u16,
    /// Where the records go
    #[arg(long, default_value = "target/bench/live.json")]
    output: PathBuf,
    /// Also write the table into docs/performance.md
    #[arg(long)]
    page: bool,
}

/// As much as the whole bench has.
pub(crate) fn all(rounds: usize) -> Result<Live> {
    Ok(Live {
        rounds: rounds.try_into().context("too many rounds")?,
        packets: 1_000_000,
        flows: 1000,
        output: PathBuf::new(),
        page: false,
    })
}

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Shunt(Xdp),
    KubeProxy(&'static str, Iptables),
}

const WAYS: [(&str, Way); 5] = [
    ("XDP", Way::Shunt(Xdp::Native)),
    ("TC", Way::Shunt(Xdp::Off)),
    ("kube-proxy nftables", Way::KubeProxy("nftables", Iptables::Nft)),
    (
        "kube-proxy iptables (legacy)",
        Way::KubeProxy("iptables", Iptables::Legacy),
    ),
    (
        "kube-proxy iptables (nf_tables)",
        Way::KubeProxy("iptables", Iptables::Nft),
    ),
];

/// Measures alone, with records of its own.
pub(crate) fn run(live: &Live) -> Result<()> {
    let mut records = Records::default();
    measure(live, &mut records)?;
    println!("{}", records.table());
    crate::record::write(&live.output, &records)?;
    let section = section(&records)?;
    println!("\n{section}");
    if live.page {
        crate::page::write("live", &section)?;
    }
    Ok(())
}

/// Measures all ways.
pub(crate) fn measure(live: &Live, records: &mut Records) -> Result<()> {
    println!("bench: building a control plane and five labs");
    let plane = ControlPlane::start(Controllers::None)?;
    let mut frames = Frames::load()?;
    let mut rigs = Vec::new();
    for (name, way) in WAYS {
        rigs.push(Rig::build(way, live.flows, &plane).with_context(|| name.to_owned())?);
        if let [first] = rigs.as_slice() {
            first.publish(&plane)?;
        }
    }
    for (rig, (name, _)) in rigs.iter_mut().zip(&WAYS) {
        println!("bench: {}", rig.told(name));
        rig.attach(&mut frames).with_context(|| (*name).to_owned())?;
    }
    let alone = rehearse(&mut frames)?;
    let mut rates: Vec<Vec<f64>> = WAYS.iter().map(|_| Vec::new()).collect();
    let mut bare = Vec::new();
    for _ in 0..live.rounds {
        bare.push(alone.rate(&mut frames, live)?);
        for (rig, ((name, _), rates)) in rigs.iter().zip(WAYS.iter().zip(&mut rates)) {
            rates.push(rig.rate(&mut frames, live).with_context(|| (*name).to_owned())?);
        }
    }
    records.add(NAME, NOBODY, 1, "1/s", &bare);
    for ((name, _), rates) in WAYS.iter().zip(&rates) {
        records.add(NAME, name, 1, "1/s", rates);
    }
    for rig in &rigs {
        rig.check_way()?;
    }
    Ok(())
}

/// Packets a second: those that arrived, of as many as were sent.
fn rate(sent: u32, arrived: u64, seconds: f64) -> Result<f64> {
    // A frame is lost where a queue is full. Many lost ones would mean that the rate is not the node's.
    ensure!(
        arrived * 10 >= u64::from(sent) * 9,
        "of {sent} frames only {arrived} arrived"
    );
    ensure!(
        arrived <= u64::from(sent),
        "of {sent} frames {arrived} arrived: not only ours are counted"
    );
    Ok(arrived as f64 / seconds)
}
