//! `cargo xtask vm run KERNEL -- COMMAND`: a command on another kernel, in a virtual machine without a disk.
//!
//! The kernel is a Debian package, unpacked into the cache and never installed. What the command needs is packed into an
//! initramfs: the program and the files that it names, the workspace's programs, a few tools, and the libraries of all.
//! The machine has no network. qemu emulates the processor, which works everywhere and takes its time.

mod archive;
mod content;
mod kernel;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{lab, setup, workspace};

/// MiB.
const MEMORY: u32 = 2048;
/// What the machine's first process says last, before the command's exit code.
const ENDED: &str = "vm: the command ended with ";

/// Sets up, builds the lab's programs, and runs the command.
pub(crate) fn run(version: &str, command: &[String]) -> Result<()> {
    lab::prepare()?;
    let code = start(version, command, &mut |line| {
        writeln!(std::io::stdout(), "{line}").context("writing to the terminal")
    })?;
    ensure!(code == 0, "the command ended with {code} on {version}");
    Ok(())
}

/// Runs the command, hands on each line that the machine says, and gives the command's exit code.
pub(crate) fn start(
    version: &str,
    command: &[String],
    heard: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<i32> {
    setup::vm()?;
    let kernel = kernel::ensure(version)?;
    let directory = tempfile()?;
    let initramfs = directory.join("initramfs.cpio");
    content::write(&kernel, command, &initramfs)?;
    let result = boot(&kernel, &initramfs, heard);
    std::fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
    result?.with_context(|| {
        format!(
            "the machine with {} ended before the command did: its last lines tell why",
            kernel.release
        )
    })
}

fn boot(
    kernel: &kernel::Kernel,
    initramfs: &std::path::Path,
    heard: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Option<i32>> {
    let mut child = Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-smp",
            "1",
            "-m",
            &MEMORY.to_string(),
        ])
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting qemu-system-x86_64")?;
    let mut said = BufReader::new(child.stdout.take().context("qemu has no output")?);
    let (mut code, mut bytes) = (None, Vec::new());
    while said
        .read_until(b'\n', &mut bytes)
        .context("reading from the machine")?
        > 0
    {
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end();
        match line.strip_prefix(ENDED) {
            Some(number) => code = number.parse().ok(),
            None => heard(line)?,
        }
        bytes.clear();
    }
    let status = child.wait().context("waiting for qemu")?;
    if !status.success() {
        bail!("qemu ended with {status}");
    }
    Ok(code)
}

fn tempfile() -> Result<PathBuf> {
    let directory = workspace::root().join(format!("target/vm-{}", std::process::id()));
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    Ok(directory)
}
