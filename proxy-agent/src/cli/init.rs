//! `shunt init`: what an init container does once with more rights than the agent has.

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;

use super::InstanceArguments;
use crate::datapath::{SnatPorts, prepare};

/// For which agent the node is prepared.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArguments,
    /// Source ports for traffic to endpoints of other nodes, as the agent will be given them.
    #[arg(long, value_name = "FIRST-LAST", default_value = "45000-60999")]
    pub snat_ports: SnatPorts,
}

/// Prepares the node, and says what was done.
pub fn run_init(writer: &mut impl Write, arguments: &InitArguments) -> anyhow::Result<()> {
    let done = prepare::run(&arguments.instance.instance, arguments.snat_ports).context(
        "preparing the node (needs root with CAP_SYS_ADMIN and /proc/sys writable: a privileged container)",
    )?;
    Ok(print(writer, &done, arguments.snat_ports)?)
}

fn print(writer: &mut impl Write, done: &prepare::Prepared, ports: SnatPorts) -> io::Result<()> {
    if let Some(directory) = &done.mounted {
        writeln!(writer, "mounted a BPF file system at {}", directory.display())?;
    }
    let (first, last) = (ports.first(), ports.last());
    let verb = if done.ports_changed {
        "reserved"
    } else {
        "found reserved:"
    };
    writeln!(
        writer,
        "{verb} ports {first}-{last} (net.ipv4.ip_local_reserved_ports)"
    )
}
