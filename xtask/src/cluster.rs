//! `cargo xtask cluster` and `cargo xtask conformance`: a real Kubernetes, and its own suite.

use anyhow::Result;

use crate::{command, lab, setup};

/// Hands the arguments to the cluster's program.
pub(crate) fn cluster(arguments: &[String]) -> Result<()> {
    // Only these start what was built; the others look at what stands.
    if matches!(arguments.first().map(String::as_str), Some("up" | "build")) {
        setup::cluster()?;
        lab::prepare()?;
    }
    command::run(lab::program("cluster").args(arguments))
}

/// Hands the arguments to the suite's program.
pub(crate) fn conformance(arguments: &[String]) -> Result<()> {
    lab::prepare()?;
    build()?;
    command::run(lab::program("conformance").args(arguments))
}

/// Installs and builds what the cluster's tests need, so that a test is not what waits for it.
pub(crate) fn build() -> Result<()> {
    setup::cluster()?;
    command::run(lab::program("cluster").arg("build"))
}
