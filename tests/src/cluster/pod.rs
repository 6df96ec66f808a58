//! Real pods as places: programs of the test run where a pod's own do.

use anyhow::{Context, Result};

use super::whole::Cluster;
use crate::cgroup::Cgroup;
use crate::ip::ip;
use crate::{Namespace, Place};

impl Cluster {
    /// A pod that runs, by its name in the namespace `default`: its network namespace, and the group of one of its
    /// containers. What is started there ends with the pod.
    pub fn pod(&self, name: &str) -> Result<Place> {
        let of = |path: &str| {
            let output = format!("--output=jsonpath={{{path}}}");
            self.control_plane().kubectl(&["get", "pod", name, &output])
        };
        let (uid, node) = (of(".metadata.uid")?, of(".spec.nodeName")?);
        let id = self.control_plane().id();
        let groups = Cgroup::of_lab(id)?.child(&node)?.tree();
        let of_pod = format!("pod{uid}");
        let mut containers = groups.iter().filter(|group| {
            let parent = group.path().parent().and_then(|parent| parent.file_name());
            parent.is_some_and(|parent| parent == of_pod.as_str())
        });
        let found = containers.find_map(|group| Some((group, group.processes().first().copied()?)));
        let (cgroup, process) = found.with_context(|| format!("the pod {name} has no process on {node}"))?;
        let namespace = format!("{id}-pod-{name}");
        ip(&["netns", "attach", &namespace, &process.to_string()])?;
        Ok(Place {
            name: name.to_owned(),
            namespace: Namespace::existing(&namespace),
            cgroup: cgroup.clone(),
        })
    }
}
