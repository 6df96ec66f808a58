//! `shunt plan`: what applying manifests would change on a node.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::Output;
use crate::datapath::NodePortAddresses;
use crate::explain::{Place, World};
use crate::model::ExternalIps;
use crate::preview::{self, PortRange};

/// What would be applied, and where.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// What would be applied: a manifest, a folder of them, or - for the standard input; may be given more than once.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The state now: a folder of manifests (Services, EndpointSlices, Nodes).
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
    /// The node that is asked about, as endpoints' nodeName has it.
    #[arg(long, value_name = "NAME", env = "NODE_NAME", visible_alias = "node-name")]
    node: String,
    /// An address of that node, beyond those of its Node object; may be given more than once.
    #[arg(long = "node-address", value_name = "ADDRESS")]
    node_addresses: Vec<IpAddr>,
    /// As the agent has it.
    #[arg(long, value_name = "all|none|CIDR,...", default_value = "all")]
    external_ips: ExternalIps,
    /// The ports that the node's kernel gives to outgoing connections (net.ipv4.ip_local_port_range).
    #[arg(long, value_name = "FIRST-LAST", default_value = "32768-60999")]
    ephemeral_ports: PortRange,
    /// Text for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Prints what would change, on `errors` what of the folder was refused.
pub fn run_plan(
    writer: &mut impl Write,
    errors: &mut impl Write,
    arguments: &PlanArguments,
) -> anyhow::Result<()> {
    let mut applied = Vec::new();
    for file in &arguments.files {
        applied.extend(preview::read(file)?);
    }
    let place = Place {
        node: arguments.node.clone(),
        addresses: arguments.node_addresses.clone(),
        external_ips: arguments.external_ips.clone(),
        node_ports: NodePortAddresses::default(),
    };
    let now = World::read(&arguments.manifests, &place).context("reading the manifests")?;
    for refusal in now.refusals() {
        writeln!(
            errors,
            "warning: refused, and not part of the state now: {refusal}"
        )?;
    }
    let preview = preview::preview(now, &place, applied, arguments.ephemeral_ports);
    match arguments.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *writer, &preview)?;
            writeln!(writer)?;
        }
        Output::Table => write!(writer, "{preview}")?,
    }
    Ok(())
}
