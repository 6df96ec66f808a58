//! The build of another revision: made in a worktree of its own, of which only what runs is kept.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::toolchain::Toolchain;
use crate::{command, object, workspace};

/// What benches need beside each other: themselves, the lab's programs and Shunt.
const PROGRAMS: [&str; 3] = ["bench", "lab", "shunt"];

/// A revision's build.
#[derive(Debug)]
pub(super) struct Base {
    /// The commit, in full.
    pub(super) commit: String,
    /// Where its bench is: it looks for its BPF objects from here.
    directory: PathBuf,
}

impl Base {
    /// Builds a revision, unless that was done before.
    pub(super) fn build(revision: &str, toolchain: &Toolchain) -> Result<Self> {
        let commit = commit(revision)?;
        let directory = workspace::root().join("target/compare").join(&commit);
        let base = Self { commit, directory };
        if PROGRAMS.iter().all(|name| base.program(name).is_file()) && base.objects().is_dir() {
            println!("compare: {} was built before", base.directory.display());
            return Ok(base);
        }
        let tree = Tree::add(&base)?;
        println!("compare: building {}", base.commit);
        object::build_checkout(toolchain, &base.directory, &base.objects())?;
        let target = workspace::root().join("target");
        // Dependencies that both have in common are built once.
        command::run(
            command::host_cargo()
                .current_dir(&base.directory)
                .args(["build", "--locked", "--release", "--bins"])
                .args(["--package", "proxy-agent", "--package", "shunt-tests"])
                .arg("--target-dir")
                .arg(&target),
        )?;
        // Elsewhere, for all of the tree goes.
        let kept = workspace::root().join("target/compare/kept");
        remove(&kept)?;
        for name in PROGRAMS {
            copy(
                &target.join("release").join(name),
                &kept.join("target/release").join(name),
            )?;
        }
        for entry in std::fs::read_dir(base.objects()).context("reading the BPF objects")? {
            let name = entry.context("reading the BPF objects")?.file_name();
            copy(&base.objects().join(&name), &kept.join("target/bpf").join(&name))?;
        }
        // Benches look for objects from the folder of their own sources.
        std::fs::create_dir_all(kept.join("tests")).context("making a folder")?;
        drop(tree);
        std::fs::rename(&kept, &base.directory)
            .with_context(|| format!("keeping {}", base.directory.display()))?;
        Ok(base)
    }

    /// One of its programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join("target/release").join(name)
    }

    /// The directory that it runs in.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn objects(&self) -> PathBuf {
        self.directory.join("target/bpf")
    }
}

/// A worktree of git's, removed with the value.
struct Tree<'a>(&'a Path);

impl<'a> Tree<'a> {
    fn add(base: &'a Base) -> Result<Self> {
        // One that was left when its build was interrupted.
        remove(&base.directory)?;
        command::run_quietly(
            git().args(["worktree", "prune"]),
            "git can't forget worktrees that are gone",
        )?;
        command::run_quietly(
            git()
                .args(["worktree", "add", "--detach", "--force"])
                .arg(&base.directory)
                .arg(&base.commit),
            "git can't make a worktree below target/",
        )?;
        Ok(Self(&base.directory))
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        let mut command = git();
        command.args(["worktree", "remove", "--force"]).arg(self.0);
        if !command::succeeds(&mut command) {
            eprintln!(
                "compare: a worktree is left: git worktree remove --force {}",
                self.0.display()
            );
        }
    }
}

/// The commit that a revision names.
fn commit(revision: &str) -> Result<String> {
    let wanted = format!("{revision}^{{commit}}");
    let output = git()
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted])
        .output()
        .context("starting git")?;
    if !output.status.success() {
        bail!("--compare {revision}: this repository has no such revision: name a commit, a branch or a tag");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.current_dir(workspace::root());
    command
}

fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(directory) = to.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    std::fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_a_commit_and_what_is_none_is_named() {
        let head = commit("HEAD").unwrap();
        assert!(head.len() == 40 && head == commit(&head[..12]).unwrap(), "{head}");
        for none in ["no-such-revision", "--all", "HEAD:README.md"] {
            let error = commit(none).unwrap_err().to_string();
            assert!(
                error.contains(none) && error.contains("name a commit, a branch or a tag"),
                "{error}"
            );
        }
    }
}
