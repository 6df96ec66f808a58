//! `cargo xtask cluster` and `cargo xtask conformance`: a real Kubernetes, and its own suite.

use anyhow::Result;

use crate::{command, image, lab, setup};

/// Hands the arguments to the cluster's program.
pub(crate) fn cluster(arguments: &[String]) -> Result<()> {
    // Only these start what was built; the others look at what stands.
    if matches!(arguments.first().map(String::as_str), Some("up" | "build")) {
        setup::cluster()?;
        lab::prepare()?;
        let is_given = |switch: &str| arguments.iter().any(|argument| argument == switch);
        if is_given("--release") {
            image::build(&image::Options::default())?;
        }
        if is_given("--next-layout") {
            lab::build_next(&setup::toolchain::ensure()?)?;
        }
    }
    command::run(lab::program("cluster").args(arguments))
}

/// Hands the arguments to the suite's program.
pub(crate) fn conformance(arguments: &[String]) -> Result<()> {
    lab::prepare()?;
    build()?;
    // The suite looks at what is shipped.
    image::build(&image::Options::default())?;
    command::run(lab::program("conformance").args(arguments))
}

/// Installs and builds what the cluster's tests need, so that a test is not what waits for it.
pub(crate) fn build() -> Result<()> {
    setup::cluster()?;
    command::run(lab::program("cluster").arg("build"))
}
