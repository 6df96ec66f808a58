//! `shunt plan`: what applying or deleting manifests would change on a node.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::arguments::INSTANCE;
use super::{ForwardingArguments, Output};
use crate::explain::{Place, World};
use crate::model::ExternalIps;
use crate::preview::{self, InstalledServices, Intent, PortRange, Preview, PreviewError};

/// What would be applied or deleted, and where.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// What would be applied, or with --delete deleted: a manifest, a folder of them, or - for the standard input; may be
    /// given more than once.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// What deleting the objects of -f would change, as with `kubectl delete -f`. Without --manifests the endpoints that
    /// an EndpointSlice of -f names are taken as those that go.
    #[arg(long)]
    delete: bool,
    /// The state now: a folder of manifests (Services, EndpointSlices, Nodes). Not given: the maps of this node's agent.
    #[arg(long, value_name = "DIR", conflicts_with = "instance")]
    manifests: Option<PathBuf>,
    /// The instance whose maps are the state now [default: the environment's SHUNT_INSTANCE, or /sys/fs/bpf/shunt].
    #[arg(long, value_name = "DIR")]
    instance: Option<PathBuf>,
    /// The node that is asked about, as endpoints' nodeName has it. Not given, and without --manifests: the host's name.
    #[arg(long, value_name = "NAME", env = "NODE_NAME", visible_alias = "node-name")]
    node: Option<String>,
    /// An address of that node, beyond those of its Node object; may be given more than once.
    #[arg(long = "node-address", value_name = "ADDRESS", requires = "manifests")]
    node_addresses: Vec<IpAddr>,
    /// As the agent has it.
    #[arg(long, value_name = "all|none|CIDR,...", default_value = "all")]
    external_ips: ExternalIps,
    /// As the agent has it.
    #[command(flatten)]
    forwarding: ForwardingArguments,
    /// The ports that the node's kernel gives to outgoing connections (net.ipv4.ip_local_port_range) [default: this
    /// node's; with --manifests 32768-60999].
    #[arg(long, value_name = "FIRST-LAST")]
    ephemeral_ports: Option<PortRange>,
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
    let preview = match &arguments.manifests {
        Some(folder) => by_manifests(errors, arguments, folder)?,
        None => by_maps(arguments)?,
    };
    match arguments.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *writer, &preview)?;
            writeln!(writer)?;
        }
        Output::Table => write!(writer, "{preview}")?,
    }
    Ok(())
}

/// All that the files of -f hold.
fn all<T>(
    arguments: &PlanArguments,
    read: impl Fn(&Path) -> Result<Vec<T>, PreviewError>,
) -> Result<Vec<T>, PreviewError> {
    let mut all = Vec::new();
    for file in &arguments.files {
        all.extend(read(file)?);
    }
    Ok(all)
}

fn by_manifests(
    errors: &mut impl Write,
    arguments: &PlanArguments,
    folder: &Path,
) -> anyhow::Result<Preview> {
    let intent = match arguments.delete {
        true => Intent::Delete(all(arguments, preview::read_names)?),
        false => Intent::Apply(all(arguments, preview::read)?),
    };
    let Some(node) = &arguments.node else {
        bail!(
            "--manifests needs --node: the name of the node that is asked about, as endpoints' nodeName has it"
        );
    };
    let place = place(arguments, node);
    let now = World::read(folder, &place).context("reading the manifests")?;
    for refusal in now.refusals() {
        writeln!(
            errors,
            "warning: refused, and not part of the state now: {refusal}"
        )?;
    }
    let ephemeral = arguments.ephemeral_ports.unwrap_or_default();
    Ok(preview::preview(now, &place, intent, ephemeral)?)
}

fn by_maps(arguments: &PlanArguments) -> anyhow::Result<Preview> {
    let objects = all(arguments, preview::read);
    let intent = match arguments.delete {
        true => Intent::Delete(objects.context(
            "the maps know no EndpointSlice by its name: give it whole, or the folder that has it with --manifests",
        )?),
        false => Intent::Apply(objects?),
    };
    let node = match &arguments.node {
        Some(node) => node.clone(),
        None => super::host_name()?,
    };
    let instance = arguments.instance.clone();
    let instance = instance.or_else(|| std::env::var_os("SHUNT_INSTANCE").map(PathBuf::from));
    let now = InstalledServices::read(&instance.unwrap_or_else(|| INSTANCE.into()))
        .context("reading the maps of the agent; to ask a folder of manifests, give --manifests")?;
    let ephemeral = match arguments.ephemeral_ports {
        Some(ports) => ports,
        None => PortRange::of_kernel()
            .context("reading net.ipv4.ip_local_port_range; give it with --ephemeral-ports")?,
    };
    let place = place(arguments, &node);
    Ok(preview::preview_installed(now, &place, intent, ephemeral))
}

fn place(arguments: &PlanArguments, node: &str) -> Place {
    Place {
        node: node.to_owned(),
        addresses: arguments.node_addresses.clone(),
        external_ips: arguments.external_ips.clone(),
        forwarding: arguments.forwarding.forwarding,
        exempt: arguments.forwarding.exempt(),
        ..Place::default()
    }
}
