//! `shunt explain`: what becomes of a call, and why.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::Output;
use crate::explain::{Answer, Place, Question, World, explain};
use crate::model::ExternalIps;

/// Which call, at which node.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// A folder of manifests (Services, EndpointSlices, Nodes): no cluster, agent or rights are needed.
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
    /// Who calls.
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// Whom: 10.96.0.10:53/UDP, [fd00::1]:80/TCP; TCP where no protocol is given.
    #[arg(long, value_name = "ADDRESS:PORT/PROTOCOL")]
    to: String,
    /// Text for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Answers on `writer`; as text, with warnings on `errors`.
pub fn run_explain(
    writer: &mut impl Write,
    errors: &mut impl Write,
    arguments: &ExplainArguments,
) -> anyhow::Result<()> {
    let question = Question::parse(&arguments.from, &arguments.to)?;
    let place = Place {
        node: arguments.node.clone(),
        addresses: arguments.node_addresses.clone(),
        external_ips: arguments.external_ips.clone(),
    };
    let world = World::read(&arguments.manifests, &place).context("reading the manifests")?;
    let answer = explain(&world, &question)?;
    print(writer, errors, arguments.output, &question, &answer)?;
    Ok(())
}

fn print(
    writer: &mut impl Write,
    errors: &mut impl Write,
    output: Output,
    question: &Question,
    answer: &Answer,
) -> io::Result<()> {
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut *writer, answer)?;
        return writeln!(writer);
    }
    for warning in &answer.warnings {
        writeln!(errors, "warning: {warning}")?;
    }
    writeln!(writer, "{question}")?;
    let width = answer
        .steps
        .iter()
        .map(|step| step.topic.len())
        .max()
        .unwrap_or_default();
    for (number, step) in (1..).zip(&answer.steps) {
        writeln!(writer, "{number:>3}. {:width$}  {}", step.topic, step.text)?;
    }
    Ok(())
}
