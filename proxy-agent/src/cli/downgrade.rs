//! `shunt downgrade` and `shunt object`: the way back to an older version whose maps have another layout.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use proxy_common::layout::LAYOUT_VERSION;

use super::{HookArguments, InstanceArguments};
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
    /// Where programs are; as the agent has it.
    #[command(flatten)]
    pub hooks: HookArguments,
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
    let object =
        fs::read(&arguments.object).with_context(|| format!("reading {}", arguments.object.display()))?;
    let options = arguments.hooks.datapath(&arguments.instance);
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
