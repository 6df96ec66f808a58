//! Removing all that a lab made, knowing only its id.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroup;
use crate::ip::ip;

/// How long processes get to die.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lab's folder: manifests and logs.
pub(crate) fn folder(id: &str) -> PathBuf {
    std::env::temp_dir().join(id)
}

/// A node's bpffs directory.
pub(crate) fn instance(id: &str, node: &str) -> PathBuf {
    Path::new("/sys/fs/bpf").join(format!("{id}-{node}"))
}

/// Ends the lab's processes and removes its pins, namespaces, cgroups and folder. What is gone already is no error.
pub fn clean(id: &str) -> Result<()> {
    let cgroup = Cgroup::of_lab(id)?;
    end_processes(&cgroup)?;
    for pins in entries("/sys/fs/bpf", id) {
        remove_tree(&pins)?;
    }
    for namespace in entries("/run/netns", id) {
        ip(&[
            "netns",
            "delete",
            &namespace.file_name().unwrap_or_default().to_string_lossy(),
        ])?;
    }
    for cgroup in cgroup.tree() {
        remove_cgroup(cgroup.path())?;
    }
    crate::cluster::remove_groups(id)?;
    remove_tree(&folder(id))
}

fn entries(directory: &str, id: &str) -> Vec<PathBuf> {
    let prefix = format!("{id}-");
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}

/// Ends the processes in a cgroup and below, and waits until they are gone.
pub(crate) fn end_processes(cgroup: &Cgroup) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let processes: Vec<_> = cgroup.tree().iter().flat_map(Cgroup::processes).collect();
        if processes.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "processes {processes:?} of {} do not end",
                cgroup.path().display()
            );
        }
        cgroup.kill()?;
        // A killed process leaves its cgroup a moment later; no event tells of it.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A cgroup whose last process has just died may be busy for a moment more.
pub(crate) fn remove_cgroup(directory: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error).with_context(|| format!("removing {}", directory.display())),
        }
    }
}

fn remove_tree(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}
