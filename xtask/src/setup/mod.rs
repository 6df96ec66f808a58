//! `cargo xtask setup`: everything that builds, tests and the lab need.

mod go;
mod kernel;
mod packages;
pub(crate) mod toolchain;

use anyhow::{Result, bail};

use crate::command;
use crate::setup::toolchain::Toolchain;

/// Sets the machine up, or says what is missing and the way out. Does nothing that is done already.
pub(crate) fn run() -> Result<Toolchain> {
    if !is_root() {
        bail!(
            "setup must run as root: it installs packages, mounts bpffs and makes network namespaces.\n\
             Run `sudo --preserve-env=HOME,PATH cargo xtask setup`, or work as root."
        );
    }
    packages::ensure_lab_tools()?;
    host_components()?;
    let toolchain = toolchain::ensure()?;
    kernel::ensure()?;
    say("ready");
    Ok(toolchain)
}

/// Installs what the real Kubernetes needs besides, and says where Go is.
pub(crate) fn cluster() -> Result<()> {
    packages::ensure_cluster_tools()?;
    go::ensure()
}

/// Installs what a virtual machine needs besides.
pub(crate) fn vm() -> Result<()> {
    packages::ensure_vm_tools()
}

/// Installs the keys that Debian's packages are signed with.
pub(crate) fn archive_keys() -> Result<()> {
    packages::ensure_archive_keys()
}

/// One plain line about what was found or done.
pub(crate) fn say(line: &str) {
    println!("setup: {line}");
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn host_components() -> Result<()> {
    let missing: Vec<_> = ["fmt", "clippy"]
        .into_iter()
        .filter(|component| !command::succeeds(command::host_cargo().args([component, "--version"])))
        .collect();
    if missing.is_empty() {
        say("rustfmt and clippy are there");
        return Ok(());
    }
    bail!(
        "cargo {} does not run with the toolchain in use.\n\
         Install it: `rustup component add rustfmt clippy`, or your distribution's package.",
        missing.join(" and cargo ")
    )
}
