//! `shunt downgrade` and `shunt object`: the way back to an older version whose maps have another layout.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use proxy_common::layout::LAYOUT_VERSION;

use super::{ConfigArguments, HookArguments, InstanceArguments};
use crate::datapath::{OBJECT, convert};

/// Where to go back to, and what is there.
#[derive(Debug, Args)]
pub struct DowngradeArguments {
    /// Version of the layout to go back to: the number in /sys/fs/bpf/shunt/v1.
    #[arg(long, value_name = "LAYOUT")]
    pub to: u32,
    /// The BPF object of the version to go back to, as its `shunt object` wrote it.
    #[arg(long, value_name = "FILE")]
    pub object: PathBuf,
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArguments,
    /// Succeed where there is nothing to convert: on a node that has had no agent yet.
    #[arg(long)]
    pub if_present: bool,
    /// Where programs are; as the agent has it.
    #[command(flatten)]
    pub hooks: HookArguments,
    /// kube-proxy's configuration, as the agent has it: it may tell which interfaces lead to pods.
    #[command(flatten)]
    pub config: ConfigArguments,
}

/// Where to write the object.
#[derive(Debug, Args)]
pub struct ObjectArguments {
    /// The file.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Goes back, and says so.
pub fn run_downgrade(writer: &mut impl Write, arguments: &DowngradeArguments) -> anyhow::Result<()> {
    let instance = &arguments.instance.instance;
    if arguments.if_present && !convert::is_present(instance)? {
        writeln!(writer, "{} holds nothing to convert", instance.display())?;
        return Ok(());
    }
    let settings = arguments.config.read()?.settings;
    let object =
        fs::read(&arguments.object).with_context(|| format!("reading {}", arguments.object.display()))?;
    let options = arguments
        .hooks
        .datapath(&arguments.instance, &settings.local_mode);
    convert::downgrade(&options, arguments.to, &object).context("going back to an older layout")?;
    writeln!(
        writer,
        "the maps have layout version {}: start the agent of that version; until then changes of Services are not followed",
        arguments.to
    )?;
    Ok(())
}

/// Writes the object.
pub fn run_object(writer: &mut impl Write, arguments: &ObjectArguments) -> anyhow::Result<()> {
    let path = &arguments.output;
    fs::write(path, OBJECT).with_context(|| format!("writing {}", path.display()))?;
    writeln!(
        writer,
        "{}: the BPF object of version {}, for layout version {LAYOUT_VERSION}",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Arguments, Command};
    use super::*;
    use crate::datapath::PodInterfaces;

    fn downgrade(more: &[&str]) -> DowngradeArguments {
        let base = ["shunt", "downgrade", "--to", "1", "--object", "/no/object"];
        match Arguments::parse_from(base.iter().chain(more)).command {
            Command::Downgrade(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_no_agent_has_been_there_is_nothing_to_do_if_that_may_be_so() {
        let mut said = Vec::new();
        let nowhere = ["--instance", "/sys/fs/bpf/shunt-nowhere"];
        run_downgrade(&mut said, &downgrade(&[&nowhere[..], &["--if-present"]].concat())).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("/sys/fs/bpf/shunt-nowhere holds nothing"), "{said}");
        let error = run_downgrade(&mut Vec::new(), &downgrade(&nowhere)).unwrap_err();
        assert!(format!("{error:#}").contains("/no/object"), "{error:#}");
    }

    #[test]
    fn pods_are_told_by_interfaces_as_the_agent_tells_them() {
        let arguments = downgrade(&[
            "--detect-local-mode=BridgeInterface",
            "--pod-bridge-interface=cbr0",
        ]);
        let settings = arguments.config.read().unwrap().settings;
        let options = arguments
            .hooks
            .datapath(&arguments.instance, &settings.local_mode);
        assert_eq!(options.pod_interfaces, PodInterfaces::Bridge("cbr0".into()));
    }
}
