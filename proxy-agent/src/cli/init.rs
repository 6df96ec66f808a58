//! `shunt init`: what an init container does once with more rights than the agent has.

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;

use super::InstanceArguments;
use crate::datapath::{NodePortRange, SnatPorts, prepare};

/// For which agent the node is prepared.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArguments,
    /// Source ports for traffic to endpoints of other nodes, as the agent will be given them.
    #[arg(long, value_name = "FIRST-LAST", default_value = "45000-60999")]
    pub snat_ports: SnatPorts,
    /// Where Kubernetes allocates NodePorts, as the agent will be given it.
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767")]
    pub node_port_range: NodePortRange,
}

/// Prepares the node, and says what was done.
pub fn run_init(writer: &mut impl Write, arguments: &InitArguments) -> anyhow::Result<()> {
    let (snat, node_ports) = (arguments.snat_ports, arguments.node_port_range);
    let done = prepare::run(&arguments.instance.instance, snat, node_ports).context(
        "preparing the node (needs root with CAP_SYS_ADMIN and /proc/sys writable: a privileged container)",
    )?;
    Ok(print(writer, &done, snat, node_ports)?)
}

fn print(
    writer: &mut impl Write,
    done: &prepare::Prepared,
    snat: SnatPorts,
    node_ports: NodePortRange,
) -> io::Result<()> {
    if let Some(directory) = &done.mounted {
        writeln!(writer, "mounted a BPF file system at {}", directory.display())?;
    }
    let verb = if done.ports_changed {
        "reserved"
    } else {
        "found reserved:"
    };
    writeln!(
        writer,
        "{verb} ports {}-{} and {}-{} (net.ipv4.ip_local_reserved_ports)",
        node_ports.first(),
        node_ports.last(),
        snat.first(),
        snat.last()
    )
}
