//! `cargo xtask image`: the container image, built without a container engine.

mod archive;
mod binary;
mod label;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{object, setup, workspace};
use archive::{Archive, Image};

/// What an image may take in a registry. Nodes pull it while they wait for their network.
const MOST_BYTES: usize = 20_000_000;

/// What to build.
#[derive(Args)]
pub(crate) struct Options {
    /// The image's name, as a pod's `image` has it
    #[arg(long, value_name = "NAME:TAG", default_value = "shunt:dev")]
    name: String,
    /// Where to write the archive; not given: target/oci/shunt.tar
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "shunt:dev".to_owned(),
            output: None,
        }
    }
}

/// Builds the binary, and the image around it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let toolchain = setup::toolchain::ensure()?;
    object::build_with(&toolchain)?;
    build(options)
}

/// The binary that an image holds, with the BPF object built; where it is.
pub(crate) fn shipped() -> Result<PathBuf> {
    binary::build()
}

/// [`run`] with the BPF object built.
pub(crate) fn build(options: &Options) -> Result<()> {
    let file = binary::build()?;
    let binary = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    binary::check_static(&binary).with_context(|| format!("{} can't stand alone", file.display()))?;
    let image = Image::new(&binary, &options.name, &label::of_checkout())?;
    ensure!(
        image.layer_bytes() < MOST_BYTES,
        "the image's layer has {} bytes, more than the {MOST_BYTES} that it may have: look at what the binary links",
        image.layer_bytes()
    );
    let archive = Archive::of(&image)?;
    let output = match &options.output {
        Some(output) => output.clone(),
        None => workspace::root().join("target/oci/shunt.tar"),
    };
    write(&output, &archive)?;
    println!(
        "image: {} as {}, {} bytes (binary {}, compressed {}), digest {}",
        options.name,
        output.display(),
        archive.bytes().len(),
        binary.len(),
        image.layer_bytes(),
        image.digest()
    );
    Ok(())
}

/// Under another name first: who reads it sees the old archive or the new one.
fn write(output: &std::path::Path, archive: &Archive) -> Result<()> {
    if let Some(directory) = output.parent() {
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    }
    let draft = output.with_extension("tar.part");
    fs::write(&draft, archive.bytes()).with_context(|| format!("writing {}", draft.display()))?;
    fs::rename(&draft, output).with_context(|| format!("renaming {}", draft.display()))
}
