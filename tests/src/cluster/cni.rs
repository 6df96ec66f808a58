//! The pod network: what the container runtime is told of it, and what runs for it.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::address;
use super::binaries::binary;
use super::client::Client;
use super::control_plane::ControlPlane;

/// Who connects pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Cni {
    /// The plugin ptp: a veth a pod, and a host route to each address; nodes route each other's pods
    #[default]
    Ptp,
    /// flannel: pods at a bridge, and a vxlan between the nodes for each family
    Flannel,
}

impl fmt::Display for Cni {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ptp => "ptp",
            Self::Flannel => "flannel",
        })
    }
}

/// What a node needs to know of its pods' network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plugins {
    /// Where the plugins are.
    pub(crate) directories: Vec<PathBuf>,
    /// Unless nothing runs for it.
    pub(crate) flannel: Option<Flannel>,
}

/// flannel's daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Flannel {
    /// flanneld.
    pub(crate) program: PathBuf,
    /// How it reaches the API server.
    pub(crate) kubeconfig: PathBuf,
}

/// flannel's user, whom its manifest gives the rights that it needs.
const USER: &str = "flannel";
/// The interface by which nodes reach each other.
pub(crate) const UPLINK: &str = "eth0";

impl Cni {
    /// Builds what the cache does not have.
    pub(crate) fn build(self) -> Result<()> {
        let programs: &[&str] = match self {
            Self::Ptp => &["ptp"],
            Self::Flannel => &["bridge", "flannel", "flanneld"],
        };
        programs.iter().try_for_each(|program| binary(program).map(drop))
    }

    /// Gives it the rights that it needs in the cluster.
    pub(crate) fn allow(self, client: &Client) -> Result<()> {
        if self == Self::Flannel {
            client
                .output(
                    &["apply", "--filename=-"],
                    include_str!("../../cluster/manifests/flannel.yaml"),
                )
                .context("giving flannel its rights")?;
        }
        Ok(())
    }

    /// Whether it connects the nodes' pods by itself.
    pub(crate) fn connects_nodes(self) -> bool {
        self == Self::Flannel
    }

    /// What a node is told; builds what the cache does not have.
    pub(crate) fn plugins(self, control_plane: &ControlPlane) -> Result<Plugins> {
        let directory = |plugins: &[&str]| -> Result<PathBuf> {
            let files = plugins
                .iter()
                .map(|plugin| binary(plugin))
                .collect::<Result<Vec<_>>>()?;
            let directory = files.first().and_then(|file| file.parent());
            directory.map(ToOwned::to_owned).context("no plugin is named")
        };
        let base = directory(&["host-local", "loopback", "portmap", "ptp", "bridge"])?;
        Ok(match self {
            Self::Ptp => Plugins {
                directories: vec![base],
                flannel: None,
            },
            Self::Flannel => Plugins {
                directories: vec![base, directory(&["flannel"])?],
                flannel: Some(Flannel {
                    program: binary("flanneld")?,
                    kubeconfig: control_plane.kubeconfig_of(USER, None)?,
                }),
            },
        })
    }
}

impl Plugins {
    /// The runtime's configuration of the pod network.
    pub(crate) fn list(&self, node: u8) -> String {
        let (version, own) = if self.flannel.is_some() {
            // As flannel's own manifest has it; the rest comes from what flanneld writes.
            let delegate = json!({"hairpinMode": true, "isDefaultGateway": true});
            ("0.3.1", json!({"type": "flannel", "delegate": delegate}))
        } else {
            let ranges = address::pods(node).map(|subnet| json!([{"subnet": subnet}]));
            let ipam = json!({
                "type": "host-local",
                "dataDir": "/run/networks",
                "ranges": ranges,
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            });
            ("1.0.0", json!({"type": "ptp", "ipMasq": false, "ipam": ipam}))
        };
        let ports = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        json!({"cniVersion": version, "name": "pods", "plugins": [own, ports]}).to_string()
    }
}

/// flannel's own configuration.
pub(crate) fn flannel_network() -> String {
    let [v4, v6] = address::POD_NETWORKS;
    json!({
        "Network": v4,
        "EnableIPv6": true,
        "IPv6Network": v6,
        "Backend": {"Type": "vxlan"},
    })
    .to_string()
}

impl Flannel {
    /// Its arguments; `network` is the file with its configuration.
    pub(crate) fn arguments(&self, network: PathBuf) -> Vec<PathBuf> {
        let option = |name: &str, value: PathBuf| {
            let mut option = std::ffi::OsString::from(format!("--{name}="));
            option.push(value);
            PathBuf::from(option)
        };
        vec![
            "--kube-subnet-mgr".into(),
            "--ip-masq".into(),
            option("iface", UPLINK.into()),
            option("kubeconfig-file", self.kubeconfig.clone()),
            option("net-config-path", network),
        ]
    }
}
