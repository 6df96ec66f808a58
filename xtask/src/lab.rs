//! `cargo xtask lab` and `cargo xtask demo`: build what they need, then hand over to the programs of the tests crate.

use anyhow::Result;

use crate::setup::toolchain::Toolchain;
use crate::{command, compare, image, object, setup, workspace};

/// Hands the arguments to the lab's program.
pub(crate) fn lab(arguments: &[String]) -> Result<()> {
    prepare()?;
    command::run(program("lab").args(arguments))
}

/// Runs the demo.
pub(crate) fn demo() -> Result<()> {
    prepare()?;
    command::run(&mut program("demo"))
}

/// Runs the benches, of an optimised build.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let toolchain = setup::run()?;
    if compare::is_asked_for(arguments) {
        return compare::run(arguments, &toolchain);
    }
    let is_alone = arguments
        .first()
        .is_some_and(|part| ["agent", "flood"].contains(&part.as_str()))
        || arguments.iter().any(|argument| argument == "--packets-only");
    if !is_alone {
        // A real API server, and kube-proxy in the tree of its image.
        setup::cluster()?;
    }
    object::build_with(&toolchain)?;
    build_optimised()?;
    let mut bench = std::process::Command::new(workspace::root().join("target/release/bench"));
    if arguments.first().is_some_and(|part| part == "scale") {
        // Memory and time of a start are those of what runs on nodes.
        bench.env("SHUNT_SHIPPED", image::shipped()?);
    }
    command::run(bench.current_dir(workspace::root()).args(arguments))
}

/// Builds the agent and the lab's programs, optimised.
pub(crate) fn build_optimised() -> Result<()> {
    let packages = ["--package", "proxy-agent", "--package", "shunt-tests"];
    command::run(
        command::host_cargo()
            .args(["build", "--locked", "--release", "--bins"])
            .args(packages),
    )
}

/// Sets up and builds everything.
pub(crate) fn prepare() -> Result<()> {
    let toolchain = setup::run()?;
    object::build_with(&toolchain)?;
    build_programs()
}

/// Builds the agent and the lab's programs.
pub(crate) fn build_programs() -> Result<()> {
    let packages = ["--package", "proxy-agent", "--package", "shunt-tests"];
    command::run(
        command::host_cargo()
            .args(["build", "--locked", "--bins"])
            .args(packages),
    )
}

/// Builds Shunt with maps of the layout that only tests have, as `shunt-next` beside `shunt`.
pub(crate) fn build_next(toolchain: &Toolchain) -> Result<()> {
    object::build_next(toolchain)?;
    // The tests' package besides: dependencies then have the features that they have in `build_programs`.
    let packages = ["--package", "proxy-agent", "--package", "shunt-tests"];
    command::run(
        command::host_cargo()
            .args(["build", "--locked", "--bin", "shunt-next"])
            .args(["--features", "proxy-agent/next-layout"])
            .args(packages),
    )
}

/// A program of the tests crate.
pub(crate) fn program(name: &str) -> std::process::Command {
    let directory = std::env::current_exe()
        .ok()
        .and_then(|file| file.parent().map(ToOwned::to_owned));
    let directory = directory.unwrap_or_else(|| workspace::root().join("target/debug"));
    std::process::Command::new(directory.join(name))
}
