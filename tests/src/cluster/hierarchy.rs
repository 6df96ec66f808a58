//! Cgroups of version 1: a group for each node in each hierarchy, so that no kubelet sees the other's pods.
//!
//! A machine with both versions has the resource controllers in version 1, where kubelet and runc work; a node's
//! processes are besides in a group of version 2, where socket programs are attached.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The groups of this name, one in each hierarchy of version 1, below the caller's own.
#[derive(Clone, Debug)]
pub(crate) struct Groups(Vec<PathBuf>);

impl Groups {
    /// Makes them.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let groups = parents()?
            .into_iter()
            .map(|(parent, _)| parent.join(name))
            .collect();
        let groups = Self(groups);
        for group in &groups.0 {
            std::fs::create_dir_all(group)
                .with_context(|| format!("making the cgroup {}", group.display()))?;
            inherit_cpuset(group)?;
        }
        Ok(groups)
    }

    /// Their directories.
    pub(crate) fn directories(&self) -> &[PathBuf] {
        &self.0
    }
}

/// Controllers of the hierarchies that this machine has, as mount options name them.
pub(crate) fn controllers() -> Result<Vec<String>> {
    Ok(parents()?
        .into_iter()
        .map(|(_, controllers)| controllers)
        .collect())
}

/// Removes the groups whose names begin with the cluster's id; their processes have ended.
pub(crate) fn remove(id: &str) -> Result<()> {
    let prefix = format!("{id}-");
    for (parent, _) in parents()? {
        let entries = std::fs::read_dir(&parent).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_tree(group: &Path) -> Result<()> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path())?;
    }
    crate::clean::remove_cgroup(group)
}

/// A group of cpuset takes processes once it has processors and memory nodes.
fn inherit_cpuset(group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = group.join(file);
        if !own.exists() {
            continue;
        }
        let parent = group.parent().unwrap_or(group).join(file);
        let value = std::fs::read(&parent).with_context(|| format!("reading {}", parent.display()))?;
        std::fs::write(&own, value).with_context(|| format!("writing {}", own.display()))?;
    }
    Ok(())
}

/// The caller's group in each hierarchy, and the hierarchy's controllers.
fn parents() -> Result<Vec<(PathBuf, String)>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    let own = std::fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    Ok(own.lines().filter_map(|line| parent(line, &mounts)).collect())
}

/// For a line of /proc/self/cgroup such as `4:memory:/some/group`.
fn parent(line: &str, mounts: &str) -> Option<(PathBuf, String)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, group) = (fields.next()?, fields.next()?);
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let kind = after.next()?;
        let options = after.nth(1)?;
        let has = |name: &str| options.split(',').any(|option| option == name);
        let is_it = kind == "cgroup" && controllers.split(',').all(has);
        is_it.then(|| before.split(' ').nth(4)).flatten()
    })?;
    (!controllers.is_empty()).then(|| {
        (
            Path::new(mount).join(group.trim_start_matches('/')),
            controllers.to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 20 0:25 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        31 20 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
        32 20 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_hierarchy_of_version_one_is_found_by_its_controllers() {
        let found = parent("4:memory:/some/group", MOUNTS).unwrap();
        assert_eq!(found.0, Path::new("/sys/fs/cgroup/memory/some/group"));
        assert_eq!(found.1, "memory");
        assert_eq!(
            parent("9:name=systemd:/", MOUNTS).unwrap().0,
            Path::new("/sys/fs/cgroup/systemd")
        );
    }

    #[test]
    fn version_two_and_what_is_not_mounted_are_left_out() {
        assert_eq!(parent("0::/", MOUNTS), None);
        assert_eq!(parent("5:devices:/", MOUNTS), None);
    }
}
