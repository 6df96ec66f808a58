//! What a node's programs are told: containerd, kubelet and the CNI plugins.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::cni::{self, Plugins};
use super::{address, images};

/// All that a node's first process needs to know. Paths are those of the machine, which the node sees too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Its name.
    pub(crate) name: String,
    /// Its number.
    pub(crate) number: u8,
    /// Its own folder.
    pub(crate) folder: PathBuf,
    /// Its kubelet's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
    /// The authority whose clients kubelet serves.
    pub(crate) authority: PathBuf,
    /// containerd.
    pub(crate) containerd: PathBuf,
    /// ctr.
    pub(crate) ctr: PathBuf,
    /// kubelet.
    pub(crate) kubelet: PathBuf,
    /// Its pods' network.
    pub(crate) network: Plugins,
    /// Archives of images.
    pub(crate) images: Vec<PathBuf>,
    /// Controllers of cgroup version 1.
    pub(crate) controllers: Vec<String>,
}

/// Where containerd listens, in the node's own /run.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";

impl Settings {
    /// A file of the node's.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where flannel's configuration is.
    pub(crate) fn flannel_network(&self) -> PathBuf {
        self.file("flannel.json")
    }

    /// Writes the configuration files.
    pub(crate) fn write(&self) -> Result<()> {
        let networks = self.file("networks");
        std::fs::create_dir_all(&networks).with_context(|| format!("making {}", networks.display()))?;
        put(
            &networks.join("10-pods.conflist"),
            &self.network.list(self.number),
        )?;
        put(&self.flannel_network(), &cni::flannel_network())?;
        put(&self.file("containerd.toml"), &self.runtime())?;
        put(&self.file("kubelet.json"), &self.kubelet())?;
        // Nobody answers there: what is not the cluster's has no name here.
        put(
            &self.file("resolv.conf"),
            &format!("nameserver {}\n", address::CONTROL_PLANE.v4),
        )
    }

    fn runtime(&self) -> String {
        let networks = self.file("networks");
        let networks = networks.display();
        let plugins: Vec<_> = self
            .network
            .directories
            .iter()
            .map(|one| format!("\"{}\"", one.display()))
            .collect();
        let plugins = plugins.join(", ");
        format!(
            r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{SOCKET}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"
[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE nobody gets a better score than its parent.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [{plugins}]
  conf_dir = "{networks}"
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
"#,
            pause = images::PAUSE,
        )
    }

    fn kubelet(&self) -> String {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.authority},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": "/",
            "enforceNodeAllocatable": [],
            "failCgroupV1": false,
            "failSwapOn": false,
            "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
            "clusterDomain": "cluster.local",
            "clusterDNS": [address::DNS],
            "resolvConf": self.file("resolv.conf"),
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            // A machine's settings are not a node's to make; what it wants is shown to it as made.
            "protectKernelDefaults": true,
            "serializeImagePulls": false,
            "volumePluginDir": "/var/lib/kubelet/plugins",
        })
        .to_string()
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
