//! The groups of version 2 that pods are in: socket LB hangs on them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::steps::{Standing, standing};

impl Standing {
    /// A pod's group.
    pub(crate) fn group_of(&self, pod: &str) -> Result<PathBuf> {
        self.wait_ready(pod)?;
        let uid = self.read(&format!("pod/{pod}"), ".metadata.uid")?;
        let node = self.read(&format!("pod/{pod}"), ".spec.nodeName")?;
        let id = self.cluster.control_plane().id();
        let pods = Path::new("/sys/fs/cgroup/unified")
            .join(id)
            .join(node)
            .join("kubepods");
        find(&pods, &format!("pod{uid}")).with_context(|| format!("the pod {pod} has no group of version 2"))
    }
}

/// The processes of a pod's containers.
pub(crate) fn processes_of(group: &Path) -> BTreeSet<i32> {
    let containers = std::fs::read_dir(group).into_iter().flatten().flatten();
    let texts = containers
        .filter_map(|container| std::fs::read_to_string(container.path().join("cgroup.procs")).ok());
    texts
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(directory).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if entry.file_name() == name {
            return Some(path);
        }
        path.is_dir().then(|| find(&path, name)).flatten()
    })
}

#[test]
fn pods_are_in_groups_of_version_two_below_their_nodes() {
    let standing = standing().unwrap();
    let group = standing.group_of("client").unwrap();
    let id = standing.cluster.control_plane().id();
    let processes = processes_of(&group);
    assert!(
        processes.len() >= 2,
        "the sandbox and the container have processes: {processes:?}"
    );
    for process in processes {
        let own = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
        let unified = own.lines().find(|line| line.starts_with("0::")).unwrap();
        assert!(
            unified.starts_with(&format!("0::/{id}/n1/kubepods/")),
            "{unified}"
        );
    }
}
