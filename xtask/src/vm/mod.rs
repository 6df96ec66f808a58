//! `cargo xtask vm run KERNEL -- COMMAND`: a command on another kernel, in a virtual machine without a disk.
//!
//! The kernel is a Debian package, unpacked into the cache and never installed. What the command needs is packed into an
//! initramfs: the program and the files that it names, the workspace's programs, a few tools, and the libraries of all.
//! The machine has no network. qemu emulates the processor, which works everywhere and takes its time.

mod archive;
mod content;
mod debian;
mod kernel;
mod programs;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

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
    let programs = programs::ensure()?;
    let initramfs = nameless()?;
    content::write(&kernel, &programs, command, &initramfs)?;
    boot(&kernel, &initramfs, heard)?.with_context(|| {
        format!(
            "the machine with {} ended before the command did: its last lines tell why",
            kernel.release
        )
    })
}

fn boot(
    kernel: &kernel::Kernel,
    initramfs: &File,
    heard: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Option<i32>> {
    // The machine does not outlive this program, whatever ends it.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
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
        .arg(format!("/proc/self/fd/{}", initramfs.as_raw_fd()))
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

/// A file without a name, for programs started from here too: it is gone when the last of them is, however that ends.
fn nameless() -> Result<File> {
    let directory = workspace::root().join("target");
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_TMPFILE.bits())
        .open(&directory)
        .with_context(|| format!("making a temporary file in {}", directory.display()))?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).context("handing a file to programs")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_initramfs_has_no_name_and_another_program_can_read_it() {
        let mut file = nameless().unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let target = std::fs::read_link(&path).unwrap();
        assert!(!target.exists(), "{}", target.display());
        file.write_all(b"an archive").unwrap();
        let mut cat = Command::new("cat")
            .arg(path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        cat.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(cat.wait().unwrap().success());
        assert_eq!(said, "an archive");
    }
}
