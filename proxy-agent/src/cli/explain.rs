//! `shunt explain`: what becomes of a call, and why.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use jiff::{Timestamp, civil};

use super::arguments::INSTANCE;
use super::{ForwardingArguments, Output, ServingArguments};
use crate::explain::{Answer, Place, Question, Running, World, difference, explain, explain_running};
use crate::model::ExternalIps;

/// Which call, at which node.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// A folder of manifests (Services, EndpointSlices, Nodes): no cluster, agent or rights are needed. Not given: the
    /// maps of this node's agent.
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// The node that is asked about, as endpoints' nodeName has it; with --manifests.
    #[arg(long, value_name = "NAME", env = "NODE_NAME", visible_alias = "node-name")]
    node: Option<String>,
    /// An address of that node, beyond those of its Node object; may be given more than once.
    #[arg(long = "node-address", value_name = "ADDRESS", requires = "manifests")]
    node_addresses: Vec<IpAddr>,
    /// As the agent has it.
    #[arg(long, value_name = "all|none|CIDR,...", requires = "manifests")]
    external_ips: Option<ExternalIps>,
    /// As the agent has it; with --manifests.
    #[command(flatten)]
    forwarding: ForwardingArguments,
    /// As the agent has it; with --manifests.
    #[command(flatten)]
    serving: ServingArguments,
    /// The instance whose maps are asked [default: the environment's SHUNT_INSTANCE, or /sys/fs/bpf/shunt]; together
    /// with --manifests, both are asked and the difference is shown.
    #[arg(long, value_name = "DIR")]
    instance: Option<PathBuf>,
    /// When the call is made: a time of day in UTC such as 14:30, the next one; a time such as 2026-01-31T12:00:00Z; or
    /// seconds from now such as +600. Decides which records of session affinity hold still; needs the maps of an agent.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| later(text, Timestamp::now()))]
    at: Option<i64>,
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

/// Seconds from now.
fn later(text: &str, now: Timestamp) -> Result<i64, String> {
    let seconds = match text.strip_prefix('+') {
        Some(seconds) => seconds.parse().ok(),
        None => {
            let time: Option<Timestamp> = text.parse().ok();
            let time = time.map(|time| time.as_second() - now.as_second());
            time.or_else(|| until_time_of_day(text, now))
        }
    };
    // Records are told by a clock of 32 bits.
    const LONGEST: i64 = 7 * 86_400;
    match seconds {
        Some(seconds) if (0..=LONGEST).contains(&seconds) => Ok(seconds),
        Some(_) => Err("it lies in the past, or more than a week ahead".to_owned()),
        None => Err("it is no time: write it as 14:30, as 2026-01-31T12:00:00Z, or as +600".to_owned()),
    }
}

/// Seconds to the next time of day, in UTC as the agent's log has it.
fn until_time_of_day(text: &str, now: Timestamp) -> Option<i64> {
    const DAY: i64 = 86_400;
    // A date without its zone is no time of day.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    let time: civil::Time = text.parse().ok().filter(|_| is_plain)?;
    let seconds = |number: i8, each: i64| i64::from(number) * each;
    let of_day = seconds(time.hour(), 3600) + seconds(time.minute(), 60) + seconds(time.second(), 1);
    Some((of_day - now.as_second()).rem_euclid(DAY))
}

/// Answers on `writer`; as text, with warnings on `errors`.
pub fn run_explain(
    writer: &mut impl Write,
    errors: &mut impl Write,
    arguments: &ExplainArguments,
) -> anyhow::Result<()> {
    let question = Question::parse(&arguments.from, &arguments.to)?;
    let answer = answer(arguments, &question)?;
    print(writer, errors, arguments.output, &question, &answer)?;
    Ok(())
}

fn answer(arguments: &ExplainArguments, question: &Question) -> anyhow::Result<Answer> {
    let Some(folder) = &arguments.manifests else {
        if let Some(given) = arguments.serving.given().or(arguments.forwarding.given()) {
            bail!("--{given} needs --manifests: an agent's maps hold what it was told");
        }
        let instance = arguments.instance.clone();
        let instance = instance.or_else(|| std::env::var_os("SHUNT_INSTANCE").map(PathBuf::from));
        return running(arguments, question, &instance.unwrap_or_else(|| INSTANCE.into()));
    };
    let Some(node) = &arguments.node else {
        bail!(
            "--manifests needs --node: the name of the node that is asked about, as endpoints' nodeName has it"
        );
    };
    if arguments.at.is_some() && arguments.instance.is_none() {
        bail!(
            "--at decides about records of session affinity, which manifests do not hold: give --instance as well"
        );
    }
    let settings = arguments.serving.read()?;
    let place = Place {
        node: node.clone(),
        addresses: arguments.node_addresses.clone(),
        external_ips: settings.external_ips(arguments.external_ips.as_ref()),
        forwarding: arguments.forwarding.forwarding,
        exempt: arguments.forwarding.exempt(),
        node_ports: settings.node_ports,
        local_mode: settings.local_mode,
    };
    let world = World::read(folder, &place).context("reading the manifests")?;
    let mut answer = explain(&world, question)?;
    if let Some(instance) = &arguments.instance {
        let running = running(arguments, question, instance)?;
        answer.difference = Some(difference(&answer, &running));
    }
    Ok(answer)
}

fn running(
    arguments: &ExplainArguments,
    question: &Question,
    instance: &std::path::Path,
) -> anyhow::Result<Answer> {
    let running = Running::read(instance, question, arguments.at.unwrap_or_default());
    let running =
        running.context("reading the maps of the agent; to ask a folder of manifests, give --manifests")?;
    Ok(explain_running(&running, question))
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
    match answer.difference.as_deref() {
        None => Ok(()),
        Some([]) => writeln!(writer, "the running maps say the same"),
        Some(differences) => differences
            .iter()
            .try_for_each(|difference| writeln!(writer, "differs: {difference}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_from_now() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for (text, seconds) in [
            ("+600", 600),
            ("2026-01-31T13:00:00Z", 3600),
            ("2026-01-31T13:00:00+00:30", 1800),
            ("12:00", 0),
            ("12:00:05", 5),
            ("14:30", 9000),
            // It is over for today.
            ("11:59", 86_340),
        ] {
            assert_eq!(later(text, now), Ok(seconds), "{text}");
        }
        for (wrong, part) in [
            ("soon", "is no time"),
            ("+", "is no time"),
            ("25:00", "is no time"),
            ("2026-01-31T14:00:00", "is no time"),
            ("2020-01-31T12:00:00Z", "past"),
            ("+9999999", "week"),
        ] {
            assert!(later(wrong, now).unwrap_err().contains(part), "{wrong}");
        }
    }
}
