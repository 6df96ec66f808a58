//! Shunt's own images: of what is built for tests, or as they are shipped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::archive::{self, Image, Layer};

/// Shunt's image under each of these tags, made of a program of it with the libraries that it is linked to.
pub(crate) fn pack(directory: &Path, programs: &[(&str, PathBuf)]) -> Result<PathBuf> {
    let mut contents = BTreeSet::new();
    for (_, program) in programs {
        contents.extend(libraries(program)?);
    }
    let contents: Vec<_> = contents
        .into_iter()
        .map(|path| (PathBuf::from(&path), path))
        .collect();
    let layer = |name: &str| directory.join(format!("shunt-{name}.layer"));
    let shared = Layer::pack(&layer("libraries"), &contents)?;
    let mut images = Vec::new();
    for (tag, program) in programs {
        let own = Layer::pack(&layer(tag), &[(program.clone(), "/shunt".to_owned())])?;
        images.push(Image {
            names: vec![format!("{NAME}:{tag}")],
            layers: vec![shared.clone(), own],
            entry: vec!["/shunt".to_owned()],
            arguments: Vec::new(),
        });
    }
    let file = directory.join("shunt.tar");
    archive::write(&file, &images)?;
    for name in programs.iter().map(|(tag, _)| *tag).chain(["libraries"]) {
        let layer = layer(name);
        std::fs::remove_file(&layer).with_context(|| format!("removing {}", layer.display()))?;
    }
    Ok(file)
}

/// Where the libraries are that a program is linked to, and its loader.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("starting ldd")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let paths = said.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(ToOwned::to_owned).collect())
}

/// Shunt's image as it is shipped.
pub(crate) fn shipped() -> Result<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/oci/shunt.tar");
    ensure!(
        file.is_file(),
        "{} is missing: `cargo xtask image` builds it",
        file.display()
    );
    Ok(file)
}

/// Its name, as the kubelets have it.
pub(crate) const NAME: &str = "docker.io/library/shunt";
/// Its tags: the second is what a cluster is upgraded to, whose maps have another layout.
pub const TAGS: [&str; 2] = ["dev", "next"];
