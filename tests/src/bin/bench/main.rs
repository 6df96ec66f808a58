//! `cargo xtask bench`: figures of the data path beside its peers', all in one run, in turn.
//!
//! Prints a table and writes one record a measure. Nothing is judged here.

mod agent;
mod connect;
mod flood;
mod live;
mod packet;
mod packet_page;
mod page;
mod peer;
mod probe;
mod record;
mod scale;
mod usage;
mod xdp;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use record::Records;

#[derive(Parser)]
#[command(
    name = "bench",
    bin_name = "cargo xtask bench",
    about = "Connection rates and times, and the time a packet takes"
)]
struct Arguments {
    /// How often each variant is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections a round
    #[arg(long, default_value_t = 2000)]
    connections: u32,
    /// How many Services there are
    #[arg(long, value_delimiter = ',', default_value = "1,1000,10000,30000")]
    services: Vec<usize>,
    /// Where the records go
    #[arg(long, default_value = "target/bench/latest.json")]
    output: PathBuf,
    /// Only the packets' part
    #[arg(long)]
    packets_only: bool,
    /// Also write the tables into docs/performance.md
    #[arg(long)]
    page: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Be the server: accept and close
    #[command(hide = true)]
    Serve { port: u16 },
    /// Be the client: connect and reset
    #[command(hide = true)]
    Probe(probe::Probe),
    /// The agent alone: from objects in memory to the kernel's maps, and one endpoint's change
    Agent(agent::Agent),
    /// Be an agent that is measured
    #[command(hide = true)]
    AgentSubject(agent::Subject),
    /// Connections a second and the time of one: directly, by socket LB, by TC and by kube-proxy
    Connect(connect::Connect),
    /// Floods of clients that do not exist: what becomes of conversations that stand, of new clients and of memory
    Flood(flood::Flooding),
    /// Be a client beside a flood
    #[command(hide = true)]
    FloodClient(flood::Client),
    /// Hold conversations beside a flood
    #[command(hide = true)]
    FloodHolder(flood::Holder),
    /// Packets a second from a NodePort to a backend on another node: XDP, TC and kube-proxy
    Live(live::Live),
    /// A proxy at scale, against a real API server: Shunt and kube-proxy
    Scale(scale::Scale),
    /// Be the client of the bench at scale
    #[command(hide = true)]
    ScaleProbe,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.part {
        Some(Part::Serve { port }) => return probe::serve(*port),
        Some(Part::Probe(probe)) => return probe.run(),
        Some(Part::Agent(agent)) => return agent::run(agent),
        Some(Part::AgentSubject(subject)) => return subject.run(),
        Some(Part::Connect(connect)) => return connect::run(connect),
        Some(Part::Flood(flooding)) => return flood::run(flooding),
        Some(Part::FloodClient(client)) => return client.run(),
        Some(Part::FloodHolder(holder)) => return holder.run(),
        Some(Part::Live(live)) => return live::run(live),
        Some(Part::Scale(scale)) => return scale::run(scale),
        Some(Part::ScaleProbe) => return scale::serve_probe(),
        None => {}
    }
    let mut records = Records::default();
    packet::run(arguments.rounds, &mut records)?;
    xdp::run(arguments.rounds, &mut records)?;
    if !arguments.packets_only {
        live::measure(&live::all(arguments.rounds)?, &mut records)?;
        let connect = connect::all(arguments.rounds, arguments.connections, &arguments.services)?;
        connect::measure_all(&connect, &mut records)?;
    }
    println!("{}", records.table());
    record::write(&arguments.output, &records)?;
    if arguments.page {
        page::write("packets", &packet_page::section(&records)?)?;
        if !arguments.packets_only {
            page::write("live", &live::section(&records)?)?;
            page::write("connect", &connect::section(&records, &arguments.services)?)?;
        }
    }
    Ok(())
}
