//! The programs of the lab and of Shunt, built beside the program that runs now.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The lab's own program, with servers, clients and the guardian as its sub-commands.
pub fn lab() -> Result<PathBuf> {
    sibling("lab")
}

/// The cluster's program: its holder, and the first process of each node.
pub fn cluster() -> Result<PathBuf> {
    sibling("cluster")
}

/// Shunt.
pub fn shunt() -> Result<PathBuf> {
    sibling("shunt")
}

/// Shunt as an image holds it, if the environment names that binary, as `cargo xtask bench scale` does: what is shipped is made smaller than what is
/// built for tests, which is part of what it takes.
pub fn shipped_shunt() -> Result<PathBuf> {
    match std::env::var_os(SHIPPED) {
        Some(path) => Ok(path.into()),
        None => shunt(),
    }
}

/// The environment's name for it.
const SHIPPED: &str = "SHUNT_SHIPPED";

/// Shunt with maps of the layout that only tests have.
pub fn shunt_next() -> Result<PathBuf> {
    sibling("shunt-next").context("`cargo xtask build-ebpf --next-layout` builds it")
}

fn sibling(name: &str) -> Result<PathBuf> {
    let current = std::env::current_exe().context("where the running program is")?;
    let directory = current.parent().context("the running program has no directory")?;
    // Test programs lie one level deeper.
    let directory = if directory.ends_with("deps") {
        directory.parent().unwrap_or(directory)
    } else {
        directory
    };
    let program = directory.join(name);
    ensure!(
        program.is_file(),
        "{} is missing: run `cargo xtask test` (or `cargo build -p proxy-agent -p shunt-tests --bins`)",
        program.display()
    );
    Ok(program)
}
