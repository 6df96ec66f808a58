//! `cargo xtask lint`: formatting and lints of all crates; a warning is an error.

use anyhow::Result;

use crate::setup::toolchain::Toolchain;
use crate::{command, object, setup, workspace};

/// Checks everything.
pub(crate) fn run() -> Result<()> {
    let toolchain = setup::toolchain::ensure()?;
    // The agent embeds the object: it must be there before the agent can be checked.
    object::build_with(&toolchain)?;
    run_with(&toolchain)
}

/// [`run`] with a toolchain that is known and an object that is built.
pub(crate) fn run_with(toolchain: &Toolchain) -> Result<()> {
    say("formatting");
    command::run(command::host_cargo().args(["fmt", "--all", "--check"]))?;
    say("clippy");
    let mut clippy = command::host_cargo();
    clippy.args([
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--exclude",
        "proxy-ebpf",
        "--all-targets",
    ]);
    command::run(clippy.args(["--", "--deny", "warnings"]))?;
    say("clippy with the next layout");
    object::build_next(toolchain)?;
    let mut clippy = command::host_cargo();
    clippy.args([
        "clippy",
        "--quiet",
        "--locked",
        "--package",
        "proxy-agent",
        "--features",
        "next-layout",
    ]);
    command::run(clippy.args(["--", "--deny", "warnings"]))?;
    say("clippy on the BPF programs");
    let mut clippy = object::cargo(toolchain, workspace::root(), "check")?;
    clippy
        .arg("--quiet")
        .env("RUSTC_WORKSPACE_WRAPPER", &toolchain.clippy)
        .env("CLIPPY_CONF_DIR", workspace::root())
        // How cargo-clippy hands arguments to its driver.
        .env(
            "CLIPPY_ARGS",
            "--deny__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__",
        );
    command::run(&mut clippy)?;
    say("clean");
    Ok(())
}

fn say(line: &str) {
    println!("lint: {line}");
}
