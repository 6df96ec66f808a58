//! `cargo xtask bench agent`: what the agent itself takes, without an API server in the way.
//!
//! Each round of each size is a process of its own with maps of its own in the kernel, in turn: objects in memory, then the
//! maps complete, then one endpoint's change after the other.

mod objects;
mod subject;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::{Lab, Options};

use crate::record::Records;
use objects::Size;
use subject::Measured;
pub(crate) use subject::Subject;

/// Endpoints of the one Service that has them all.
const ENDPOINTS_OF_ONE: u32 = 100_000;

/// How much.
#[derive(Args)]
pub(crate) struct Agent {
    /// How often each size is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many Services there are
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,50000")]
    services: Vec<u32>,
    /// How many endpoints each of them has
    #[arg(long, value_delimiter = ',', default_value = "2,5")]
    endpoints: Vec<u32>,
    /// How many changes of one endpoint follow, a round
    #[arg(long, default_value_t = 1000)]
    changes: u32,
    /// Where the records go
    #[arg(long, default_value = "target/bench/agent.json")]
    output: PathBuf,
}

/// Measures all sizes.
pub(crate) fn run(agent: &Agent) -> Result<()> {
    let sizes: Vec<Size> = sizes(agent);
    let lab = Lab::build(Options::default())?;
    let mut measured: Vec<Vec<Measured>> = sizes.iter().map(|_| Vec::new()).collect();
    for round in 0..agent.rounds {
        for (size, measured) in sizes.iter().zip(&mut measured) {
            let load = load_average()?;
            println!("bench: round {}, {size}, load average {load}", round + 1);
            measured.push(measure(&lab, *size, agent.changes)?);
        }
    }
    let mut records = Records::default();
    for (size, measured) in sizes.iter().zip(&measured) {
        record(&mut records, *size, measured);
    }
    println!("{}", records.table());
    crate::record::write(&agent.output, &records)
}

fn sizes(agent: &Agent) -> Vec<Size> {
    let each = agent.services.iter().flat_map(|services| {
        agent.endpoints.iter().map(|endpoints| Size {
            services: *services,
            endpoints: *endpoints,
        })
    });
    let one = Size {
        services: 1,
        endpoints: ENDPOINTS_OF_ONE,
    };
    each.chain([one]).collect()
}

/// In the network namespace and the cgroup of a node.
fn measure(lab: &Lab, size: Size, changes: u32) -> Result<Measured> {
    let program = std::env::current_exe().context("where the running program is")?;
    let mut command: Command = lab.host(1).command(program);
    command
        .arg("agent-subject")
        .args(["--services", &size.services.to_string()])
        .args(["--endpoints", &size.endpoints.to_string()])
        .args(["--changes", &changes.to_string()])
        .arg("--instance")
        .arg(format!("/sys/fs/bpf/{}-bench", lab.id()))
        .arg("--cgroup")
        .arg(lab.host(1).cgroup())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let output = lab.host(1).spawn(&mut command)?.wait_with_output();
    let output = output.context("waiting for the agent")?;
    ensure!(output.status.success(), "the agent ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("reading what it measured")
}

fn record(records: &mut Records, size: Size, measured: &[Measured]) {
    let variant = format!("x {} endpoints", size.endpoints);
    let mut add = |name: &'static str, unit: &'static str, of: fn(&Measured) -> f64| {
        let values: Vec<f64> = measured.iter().map(of).collect();
        records.add(name, &variant, size.services as usize, unit, &values);
    };
    add("objects to maps complete", "ms", |measured| {
        measured.complete.wall
    });
    add("of it CPU time", "ms", |measured| measured.complete.cpu);
    add("of that all but map writes", "ms", |measured| {
        measured.planned.cpu
    });
    add("its writes by calls", "", |measured| measured.calls as f64);
    add("its writes by stores", "", |measured| measured.stores as f64);
    add("one change, p50", "ms", |measured| measured.change_p50);
    add("one change, p99", "ms", |measured| measured.change_p99);
    add("one change, longest", "ms", |measured| measured.change_longest);
    add("most writes of a change", "", |measured| {
        measured.change_writes as f64
    });
    add("of them by calls", "", |measured| measured.change_calls as f64);
    add("Services compiled, most", "", |measured| {
        measured.change_services as f64
    });
    add("RSS, objects alone", "MiB", |measured| measured.objects);
    add("peak RSS", "MiB", |measured| measured.peak);
    add("of it mapped BPF maps", "MiB", |measured| measured.mapped);
    add("all BPF maps", "MiB", |measured| measured.maps);
}

fn load_average() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}
