//! The cluster's programs: built once from the Go module proxy, then found in the cache.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::go;
use super::modules::{self, Module, Source};

pub use super::modules::kubernetes_version;

/// Files of a module that what it builds depends on.
const INPUTS: [&str; 2] = ["go.mod", "go.sum"];

/// The file of a program of the cluster; it is built if the cache does not have it, which takes minutes.
pub fn binary(name: &str) -> Result<PathBuf> {
    let (module, source) = modules::find(name)?;
    let directory = directory(module)?;
    let file = directory.join(name);
    if !file.is_file() {
        build(name, module, source, &directory).with_context(|| format!("building {name}"))?;
    }
    Ok(file)
}

fn build(name: &str, module: &Module, source: Source, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| {
        format!(
            "creating {}: set SHUNT_CACHE to a directory that can be written",
            directory.display()
        )
    })?;
    let file = directory.join(name);
    let _lock = lock(&directory.join(".lock"))?;
    // Whoever held the lock before may have built it.
    if file.is_file() {
        return Ok(());
    }
    eprintln!("cluster: building {name} {} (minutes; once)", module.version()?);
    let begin = Instant::now();
    let temporary = directory.join(format!(".{name}-{}", std::process::id()));
    go::build(module, source, &temporary)?;
    std::fs::rename(&temporary, &file).with_context(|| format!("naming {}", file.display()))?;
    eprintln!("cluster: built {name} in {} s", begin.elapsed().as_secs());
    Ok(())
}

/// Held until it is dropped, also against other processes.
pub(crate) fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("locking {}", path.display()))
}

/// The module's folder in the cache: another one for each state of its sources.
fn directory(module: &Module) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for file in INPUTS {
        hash.update(module.read(file)?);
    }
    for file in go_files(module)? {
        hash.update(module.read(&file)?);
    }
    hash.update(go::linker_flags(module)?);
    let name = format!(
        "{}-{}-{}",
        module.name,
        module.version()?,
        &hexadecimal(&hash.finalize())[..8]
    );
    Ok(cache()?.join(name))
}

fn go_files(module: &Module) -> Result<Vec<String>> {
    let directory = module.directory();
    let entries =
        std::fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".go"))
        .collect();
    files.sort();
    Ok(files)
}

/// As `sha256sum` prints it.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is kept between checkouts; it may be deleted at any time.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("SHUNT_CACHE") {
        return Ok(directory.into());
    }
    let home = std::env::var_os("HOME").context("HOME is not set: set it, or SHUNT_CACHE")?;
    Ok(PathBuf::from(home).join(".cache/shunt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_another_for_each_version() {
        let (module, _) = modules::find("etcd").unwrap();
        let directory = directory(module).unwrap();
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            name.starts_with(&format!("etcd-{}-", module.version().unwrap())),
            "{name}"
        );
    }

    #[test]
    fn bytes_are_written_as_two_digits_each() {
        assert_eq!(hexadecimal(&[0, 10, 255]), "000aff");
    }
}
