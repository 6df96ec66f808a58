//! The program `ip`.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `ip` with these arguments.
pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

/// Runs a program that must succeed; an error shows what it said.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}: run `cargo xtask setup`"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Runs many commands of `ip` inside a namespace in one process.
pub(crate) fn batch(namespace: &str, commands: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-netns", namespace, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting ip: run `cargo xtask setup`")?;
    let text = commands.join("\n") + "\n";
    child
        .stdin
        .take()
        .context("ip has no input")?
        .write_all(text.as_bytes())
        .context("writing to ip")?;
    let output = child.wait_with_output().context("waiting for ip")?;
    if !output.status.success() {
        bail!(
            "ip in {namespace}: {}\n{text}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
