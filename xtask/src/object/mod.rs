//! `cargo xtask build-ebpf`: the BPF object that the agent embeds.

mod inspect;
mod strip;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::toolchain::{self, Toolchain};
use crate::{command, workspace};

const TARGET: &str = "bpfel-unknown-none";

/// The binaries of the BPF crate, and the files of target/bpf that they become: the data path, and the programs for
/// tests and benches.
const OBJECTS: [(&str, &str); 2] = [("shunt-ebpf", "shunt.o"), ("shunt-testing", "testing.o")];
/// The data path with maps of the layout that only tests have.
const NEXT: (&str, &str) = ("shunt-ebpf", "next-layout.o");

/// Builds the objects from this checkout into target/bpf. A file is left alone if its bytes are the same, so that the
/// agent is not rebuilt for nothing.
pub(crate) fn build() -> Result<PathBuf> {
    build_with(&toolchain::ensure()?)
}

/// [`build`] with a toolchain that is known already.
pub(crate) fn build_with(toolchain: &Toolchain) -> Result<PathBuf> {
    let object = workspace::object();
    let changed = build_checkout(toolchain, workspace::root(), &workspace::objects())?;
    let size = std::fs::metadata(&object)
        .with_context(|| format!("reading {}", object.display()))?
        .len();
    let state = if changed { "built" } else { "up to date" };
    println!("build-ebpf: {} is {state} ({size} bytes)", object.display());
    Ok(object)
}

/// Builds the object with the layout that only tests have, which an agent with the feature `next-layout` embeds.
pub(crate) fn build_next(toolchain: &Toolchain) -> Result<()> {
    let mut cargo = cargo(toolchain, workspace::root(), "build")?;
    command::run(cargo.args(["--features", "next-layout", "--bin", NEXT.0]))?;
    take_all(workspace::root(), &[NEXT], &workspace::objects())?;
    Ok(())
}

/// A command of the BPF toolchain's cargo for the BPF crate: `build` or `check`.
pub(crate) fn cargo(toolchain: &Toolchain, checkout: &Path, verb: &str) -> Result<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(toolchain.linker_directory.clone()).chain(std::env::split_paths(&path));
    let mut command = command::foreign(&toolchain.cargo);
    command
        .current_dir(checkout)
        // core is built from source, which the toolchains allow to nightly only.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(checkout)?)
        .env("PATH", std::env::join_paths(directories).context("PATH")?)
        .args([
            verb,
            "--locked",
            "--package",
            "proxy-ebpf",
            "--profile",
            "bpf",
            "--target",
            TARGET,
        ])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(checkout.join("target/bpf-build"));
    Ok(command)
}

/// Builds a checkout's objects into a directory; whether that changed a file.
pub(crate) fn build_checkout(toolchain: &Toolchain, checkout: &Path, directory: &Path) -> Result<bool> {
    command::run(&mut cargo(toolchain, checkout, "build")?)?;
    take_all(checkout, &OBJECTS, directory)
}

/// Takes binaries that were built over into a directory; whether that changed a file.
fn take_all(checkout: &Path, objects: &[(&str, &str)], directory: &Path) -> Result<bool> {
    std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let mut changed = false;
    for (binary, object) in objects {
        let built = checkout
            .join("target/bpf-build")
            .join(TARGET)
            .join("bpf")
            .join(binary);
        changed |= take_over(&built, &directory.join(object))?;
    }
    Ok(changed)
}

/// Strips and checks what was built and copies it to its place, at once and whole; whether that changed the file.
fn take_over(built: &Path, object: &Path) -> Result<bool> {
    let bytes = std::fs::read(built).with_context(|| format!("reading {}", built.display()))?;
    let bytes =
        strip::strip(&bytes).with_context(|| format!("the object {} cannot be stripped", built.display()))?;
    inspect::inspect(&bytes).with_context(|| format!("the object {} cannot be used", built.display()))?;
    if std::fs::read(object).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let temporary = object.with_extension("o.new");
    std::fs::write(&temporary, &bytes)
        .and_then(|()| std::fs::rename(&temporary, object))
        .with_context(|| format!("writing {}", object.display()))?;
    Ok(true)
}

/// The compiler's flags. The linker is named without its directory, and no path of this machine gets into the object:
/// the same sources give the same bytes anywhere.
fn flags(checkout: &Path) -> Result<OsString> {
    let cargo_home = workspace::cargo_home()?;
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        "-Ctarget-cpu=v3".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clinker=bpf-linker".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--remap-path-prefix={}=/cargo", cargo_home.display()),
        format!("--remap-path-prefix={}=/shunt", checkout.display()),
    ];
    Ok(flags.join("\x1f").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies what git knows of the checkout, with its uncommitted changes.
    fn copy_checkout(to: &Path) {
        let mut list = Command::new("git");
        list.args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(workspace::root());
        let files =
            command::run_quietly(&mut list, "The test copies the checkout by git's list of files.").unwrap();
        for file in files
            .lines()
            .filter(|file| workspace::root().join(file).is_file())
        {
            let target = to.join(file);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(workspace::root().join(file), target).unwrap();
        }
    }

    #[test]
    fn two_checkouts_give_the_same_bytes() {
        let toolchain = toolchain::ensure().unwrap();
        let here = build_with(&toolchain).unwrap();
        let other = std::env::temp_dir().join(format!("shunt-another-path-{}", std::process::id()));
        copy_checkout(&other);
        let there = other.join("objects");
        let built = build_checkout(&toolchain, &other, &there);
        let same =
            built.is_ok() && std::fs::read(here).unwrap() == std::fs::read(there.join("shunt.o")).unwrap();
        std::fs::remove_dir_all(&other).unwrap();
        assert!(built.unwrap(), "the copy was not built");
        assert!(same, "the object depends on the path of the checkout");
    }
}
