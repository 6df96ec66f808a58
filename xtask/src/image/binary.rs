//! The one static binary: glibc linked in, as a position-independent executable.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use object::Endianness;
use object::elf::{DT_NEEDED, ET_DYN, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use crate::{command, workspace};

const PROFILE: &str = "image";

/// Builds it; where it is.
pub(super) fn build() -> Result<PathBuf> {
    let target = host_target()?;
    println!("image: building the static binary for {target}");
    let mut cargo = command::host_cargo();
    cargo
        .args(["build", "--locked", "--profile", PROFILE, "--target", &target])
        .args(["--package", "proxy-agent", "--bin", "shunt"])
        // A target that is named keeps these flags from build scripts and procedural macros, which can't be static.
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\x1f"));
    command::run(&mut cargo)?;
    Ok(workspace::root()
        .join("target")
        .join(target)
        .join(PROFILE)
        .join("shunt"))
}

/// Static, and without this checkout's paths: they would make each machine's bytes its own.
fn flags() -> Result<Vec<String>> {
    let cargo_home = workspace::cargo_home()?;
    Ok(vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/shunt", workspace::root().display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home.display()),
    ])
}

fn host_target() -> Result<String> {
    let mut rustc = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let way_out = "Put the Rust toolchain's rustc into PATH.";
    let version = command::run_quietly(rustc.current_dir(workspace::root()).arg("-vV"), way_out)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Refuses a binary that needs a loader or a library: the image has neither.
pub(super) fn check_static(binary: &[u8]) -> Result<()> {
    let header = FileHeader64::<Endianness>::parse(binary).context("it is no 64-bit ELF file")?;
    let endian = header.endian()?;
    ensure!(
        header.e_type(endian) == ET_DYN,
        "it is not position-independent: its addresses would be the same on every node"
    );
    for segment in header.program_headers(endian, binary)? {
        if segment.p_type(endian) == PT_INTERP {
            bail!("it needs the dynamic loader: was it built with -Ctarget-feature=+crt-static?");
        }
        let entries = segment.dynamic(endian, binary)?.unwrap_or_default();
        if entries.iter().any(|entry| entry.tag(endian) == DT_NEEDED) {
            bail!("it needs shared libraries: a dependency links one");
        }
    }
    Ok(())
}
