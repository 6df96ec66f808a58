//! Cgroups of version 2: one a lab, below it one a node, below that one a pod.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A cgroup's directory. It is removed by [`crate::clean()`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The lab's own.
    pub(crate) fn of_lab(id: &str) -> Result<Self> {
        Ok(Self {
            path: root()?.join(id),
        })
    }

    /// Makes one below this.
    pub(crate) fn child(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("making the cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It and all below it, the deepest first.
    pub(crate) fn tree(&self) -> Vec<Self> {
        let mut tree = Vec::new();
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            tree.extend(Self { path: entry.path() }.tree());
        }
        tree.push(self.clone());
        tree
    }

    /// Kills the processes in it and below, once each; those that end by themselves meanwhile are no error.
    pub(crate) fn kill(&self) -> Result<()> {
        for process in self.tree().iter().flat_map(Self::processes) {
            match kill(Pid::from_raw(process), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => bail!("ending the process {process}: {error}"),
            }
        }
        Ok(())
    }

    /// Ids of the processes in it, not of those below.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

/// Where cgroup v2 is mounted.
pub(crate) fn root() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = lines.find(|fields| fields.get(2) == Some(&"cgroup2"));
    mount
        .and_then(|fields| fields.get(1).map(PathBuf::from))
        .context("no cgroup v2 is mounted: run `cargo xtask setup`, which says how")
}
