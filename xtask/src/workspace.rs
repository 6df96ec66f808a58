//! Where things lie.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout's top level.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// The BPF object that the agent embeds.
pub(crate) fn object() -> PathBuf {
    objects().join("shunt.o")
}

/// Where the BPF objects are.
pub(crate) fn objects() -> PathBuf {
    root().join("target/bpf")
}

/// What is kept between checkouts; it may be deleted at any time.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("SHUNT_CACHE") {
        return Ok(directory.into());
    }
    Ok(home()?.join(".cache/shunt"))
}

/// Cargo's home, where the sources of dependencies lie.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(directory) => Ok(directory.into()),
        None => Ok(home()?.join(".cargo")),
    }
}

/// The program's file, if one of PATH's directories has it.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administration = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(administration)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn home() -> Result<PathBuf> {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .context("HOME is not set: set it, or SHUNT_CACHE and CARGO_HOME")
}
