//! The toolchain for the BPF target: rustup's nightly where it is complete, else Debian's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{packages, say};
use crate::{command, workspace};

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_CLIPPY: &str = "/usr/bin/clippy-driver";
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
const DEBIAN_PACKAGES: [&str; 9] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "rust-web-clippy",
    "llvm-22-dev",
    "libpolly-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
    "libxml2-dev",
];
const LINKER_VERSION: &str = "0.13.0";
const LINKER_LLVM: &str = "llvm-22";

/// What compiles for the BPF target.
pub(crate) struct Toolchain {
    /// Its cargo.
    pub(crate) cargo: PathBuf,
    /// Its rustc.
    pub(crate) rustc: PathBuf,
    /// Its clippy-driver.
    pub(crate) clippy: PathBuf,
    /// The directory that holds bpf-linker.
    pub(crate) linker_directory: PathBuf,
}

/// Finds or installs a toolchain and a linker.
pub(crate) fn ensure() -> Result<Toolchain> {
    if let Some(toolchain) = rustup_nightly() {
        say("BPF toolchain: rustup's nightly with rust-src, and its bpf-linker");
        return Ok(toolchain);
    }
    packages::ensure(&DEBIAN_PACKAGES)?;
    let linker_directory = ensure_linker()?;
    say(&format!(
        "BPF toolchain: Debian's rustc, and bpf-linker {LINKER_VERSION} with {LINKER_LLVM}"
    ));
    Ok(Toolchain {
        cargo: DEBIAN_CARGO.into(),
        rustc: DEBIAN_RUSTC.into(),
        clippy: DEBIAN_CLIPPY.into(),
        linker_directory,
    })
}

/// A nightly will do if it has core's sources and a bpf-linker that reads what its LLVM writes.
fn rustup_nightly() -> Option<Toolchain> {
    let linker = workspace::find_program("bpf-linker")?;
    let query = command::foreign("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .output()
        .ok()?;
    let sysroot = PathBuf::from(String::from_utf8(query.stdout).ok()?.trim());
    let has_sources = sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .is_file();
    let toolchain = Toolchain {
        cargo: sysroot.join("bin/cargo"),
        rustc: sysroot.join("bin/rustc"),
        clippy: sysroot.join("bin/clippy-driver"),
        linker_directory: linker.parent()?.to_owned(),
    };
    (query.status.success() && has_sources && links(&toolchain)).then_some(toolchain)
}

/// Tries the pair of compiler and linker on the smallest program there is: their LLVM versions have to fit.
fn links(toolchain: &Toolchain) -> bool {
    let directory = std::env::temp_dir().join(format!("shunt-linker-trial-{}", std::process::id()));
    let source = directory.join("trial.rs");
    let text = "#![feature(no_core, lang_items)]\n#![no_core]\n#![no_main]\n\
                #[lang = \"pointee_sized\"] pub trait PointeeSized {}\n\
                #[lang = \"meta_sized\"] pub trait MetaSized: PointeeSized {}\n\
                #[lang = \"sized\"] pub trait Sized: MetaSized {}\n\
                #[unsafe(no_mangle)] pub extern \"C\" fn trial() {}\n";
    let written = std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::write(&source, text))
        .is_ok();
    let mut rustc = command::foreign(&toolchain.rustc);
    rustc
        .env("RUSTC_BOOTSTRAP", "1")
        .arg("--target=bpfel-unknown-none")
        .arg("-Cpanic=abort")
        .arg(format!(
            "-Clinker={}",
            toolchain.linker_directory.join("bpf-linker").display()
        ))
        .args(["--crate-type=cdylib", "--crate-name=trial", "--out-dir"])
        .args([&directory, &source]);
    let linked = written && command::succeeds(&mut rustc);
    // What is left behind lies in the temporary directory: nothing to report.
    drop(std::fs::remove_dir_all(&directory));
    linked
}

/// bpf-linker for Debian's LLVM: from the cache, else built into it.
fn ensure_linker() -> Result<PathBuf> {
    let root = workspace::cache()?.join(format!(
        "bpf-linker-{LINKER_VERSION}-{}",
        LINKER_LLVM.replace('-', "")
    ));
    let directory = root.join("bin");
    if works(&directory) {
        return Ok(directory);
    }
    say(&format!(
        "building bpf-linker {LINKER_VERSION} into {} (about a minute)",
        root.display()
    ));
    std::fs::create_dir_all(&root).with_context(|| {
        format!(
            "creating {}: set SHUNT_CACHE to a directory that can be written",
            root.display()
        )
    })?;
    let mut install = command::foreign(DEBIAN_CARGO);
    install
        .env("RUSTC", DEBIAN_RUSTC)
        .env("LLVM_PREFIX", DEBIAN_LLVM)
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--locked",
            "--force",
        ])
        .args(["--no-default-features", "--features", LINKER_LLVM])
        .arg("--root")
        .arg(&root);
    command::run_quietly(
        &mut install,
        "It needs crates.io and the packages llvm-22-dev, libpolly-22-dev, zlib1g-dev, libzstd-dev and libxml2-dev.",
    )?;
    Ok(directory)
}

fn works(directory: &Path) -> bool {
    command::succeeds(Command::new(directory.join("bpf-linker")).arg("--version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_links_is_told_from_one_that_does_not() {
        let toolchain = ensure().unwrap();
        assert!(links(&toolchain), "the toolchain in use links nothing");
        let without_linker = Toolchain {
            linker_directory: "/nowhere".into(),
            ..toolchain
        };
        assert!(!links(&without_linker));
    }
}
