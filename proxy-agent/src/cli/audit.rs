//! `shunt audit`: the source against the maps of an instance.

use std::time::Duration;
use std::{io::Write, path::Path};

use anyhow::bail;
use clap::Args;
use tokio::sync::mpsc;

use super::feed::Source;
use super::{ForwardingArguments, Output, ServingArguments, SourceArguments, SourceChoice, ViewArguments};
use crate::config::Settings;
use crate::datapath::dump;
use crate::model::{ExternalIps, Model};
use crate::plan::{Audit, Difference};

/// How long a source may take to say all that it knows.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between the two looks: a change that is on its way is no difference.
const PAUSE: Duration = Duration::from_secs(1);

/// What to compare.
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// This node's name, as the agent has it. Not given: the host's.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: Option<String>,
    /// Where Services come from.
    #[command(flatten)]
    source: SourceArguments,
    /// As the agent has it.
    #[arg(long, value_name = "all|none|CIDR,...")]
    external_ips: Option<ExternalIps>,
    /// As the agent has it.
    #[command(flatten)]
    forwarding: ForwardingArguments,
    /// As the agent has it.
    #[command(flatten)]
    serving: ServingArguments,
    /// Which instance, and how to show what differs.
    #[command(flatten)]
    view: ViewArguments,
}

/// Prints what differs; whether nothing does.
pub fn run_audit(writer: &mut impl Write, arguments: &AuditArguments) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let differences = runtime.block_on(lasting(arguments))?;
    match arguments.view.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *writer, &differences)?;
            writeln!(writer)?;
        }
        Output::Table if differences.is_empty() => {
            writeln!(writer, "the maps hold what they should: no difference")?;
        }
        Output::Table => {
            for difference in &differences {
                writeln!(writer, "{difference}")?;
            }
        }
    }
    Ok(differences.is_empty())
}

/// Those that two looks one after the other find.
async fn lasting(arguments: &AuditArguments) -> anyhow::Result<Vec<Difference>> {
    let settings = arguments.serving.read()?;
    let given = arguments.node_name.as_ref().or(settings.node_name.as_ref());
    let node_name = match given {
        Some(name) => name.clone(),
        None => super::host_name()?,
    };
    let mut first = look(arguments, &settings, &node_name).await?;
    if !first.is_empty() {
        tokio::time::sleep(PAUSE).await;
        let second = look(arguments, &settings, &node_name).await?;
        first.retain(|difference| second.contains(difference));
    }
    Ok(first)
}

async fn look(
    arguments: &AuditArguments,
    settings: &Settings,
    node_name: &str,
) -> anyhow::Result<Vec<Difference>> {
    let model = Model::new(node_name)
        .with_external_ips(settings.external_ips(arguments.external_ips.as_ref()))
        .with_forwarding(arguments.forwarding.forwarding)
        .with_detect_local(settings.local_mode.detect());
    let configured = settings.kubeconfig.as_deref();
    let model = desired(arguments.source.choice(), configured, node_name, model).await?;
    differences(&arguments.view.instance.instance, &model)
}

/// All that the source says now.
async fn desired(
    choice: SourceChoice,
    configured: Option<&Path>,
    node_name: &str,
    mut model: Model,
) -> anyhow::Result<Model> {
    let (sender, mut batches) = mpsc::channel(1);
    let source = Source::prepare(choice, configured, node_name).await?;
    let source = tokio::spawn(source.run(sender));
    let first = tokio::time::timeout(PATIENCE, batches.recv()).await;
    source.abort();
    let Ok(Some(batch)) = first else {
        bail!(
            "the source did not say within {} s what there is",
            PATIENCE.as_secs()
        );
    };
    for refusal in &batch.refusals {
        eprintln!("shunt: refused, the agent may hold an older state of it: {refusal}");
    }
    model.apply(batch.changes);
    Ok(model)
}

fn differences(instance: &Path, model: &Model) -> anyhow::Result<Vec<Difference>> {
    let snapshot = dump::snapshot(instance)?;
    let mut audit = Audit::of(&snapshot);
    let ports = model.services().flat_map(|name| model.compile(name));
    ports.for_each(|port| audit.check(&port));
    audit.check_vips();
    let (networks, _) = model.ranges().networks();
    audit.check_networks(&networks);
    Ok(audit.finish())
}
