//! A node: a real kubelet and containerd in namespaces and cgroups of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::address::{self, CONTROL_PLANE};
use super::binaries::binary;
use super::cni::{Cni, UPLINK};
use super::control_plane::ControlPlane;
use super::hierarchy::{self, Groups};
use super::process::Process;
use super::settings::Settings;
use super::whole::Options;
use crate::cgroup::Cgroup;
use crate::place::Place;
use crate::{Namespace, programs};

/// One node of a cluster.
#[derive(Debug)]
pub(crate) struct Node {
    process: Process,
    /// The node itself, for programs run on it: its network namespace, and a group that Shunt on it serves.
    host: Place,
}

impl Node {
    /// Makes the node and starts its programs; it is not ready yet. `options` are the cluster's.
    pub(crate) fn start(
        control_plane: &ControlPlane,
        number: u8,
        options: Options,
        images: &[PathBuf],
    ) -> Result<Self> {
        let name = name(number);
        let namespace = Namespace::create(&format!("{}-{name}", control_plane.id()))?;
        connect(&namespace, control_plane.place().namespace(), number, options)?;
        let cgroup = Cgroup::of_lab(control_plane.id())?.child(&name)?;
        let groups = Groups::create(&format!("{}-{name}", control_plane.id()))?;
        let folder = control_plane.folder().join(&name);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let settings = settings(control_plane, number, options.cni, &folder, images)?;
        let file = folder.join("settings.json");
        let text = serde_json::to_string_pretty(&settings).context("describing a node")?;
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        let place = Place {
            name: name.clone(),
            namespace: namespace.clone(),
            cgroup: cgroup.clone(),
        };
        let process = Process::start(
            &place,
            "node",
            Path::new("sh"),
            &arguments(&groups, &file)?,
            &folder,
        )?;
        let host = Place {
            name,
            namespace,
            cgroup: cgroup.child("host")?,
        };
        Ok(Self { process, host })
    }

    /// The node, for programs run on it.
    pub(crate) fn host(&self) -> &Place {
        &self.host
    }

    /// Its root directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.process.root()
    }

    /// Waits until the condition holds; that the node ends meanwhile is an error.
    pub(crate) fn wait_until(&mut self, what: &str, holds: impl FnMut() -> bool) -> Result<()> {
        self.process.wait_until(what, holds)
    }
}

/// A node's name.
pub(crate) fn name(number: u8) -> String {
    format!("n{number}")
}

/// Joins the groups of version 1, then becomes the first process of namespaces of its own. The cgroup namespace is made
/// last, so that the node's groups are the roots of what it sees.
fn arguments(groups: &Groups, settings: &Path) -> Result<Vec<String>> {
    let join = "for group in $1; do echo 0 > \"$group/cgroup.procs\" || exit; done; shift; exec \"$@\"";
    let groups: Vec<_> = groups
        .directories()
        .iter()
        .map(|group| group.display().to_string())
        .collect();
    let program = programs::cluster()?;
    let mut arguments = vec![
        "-c".to_owned(),
        join.to_owned(),
        "sh".to_owned(),
        groups.join(" "),
    ];
    let unshare =
        "unshare --mount --uts --ipc --cgroup --pid --fork --kill-child --mount-proc --propagation private";
    arguments.extend(unshare.split(' ').map(ToOwned::to_owned));
    arguments.extend([
        program.display().to_string(),
        "node".to_owned(),
        settings.display().to_string(),
    ]);
    Ok(arguments)
}

fn settings(
    control_plane: &ControlPlane,
    number: u8,
    cni: Cni,
    folder: &Path,
    images: &[PathBuf],
) -> Result<Settings> {
    let name = name(number);
    binary("containerd-shim-runc-v2")?;
    Ok(Settings {
        kubeconfig: control_plane.kubeconfig_of(&format!("system:node:{name}"), Some("system:nodes"))?,
        authority: control_plane.authority(),
        name,
        number,
        folder: folder.to_owned(),
        containerd: binary("containerd")?,
        ctr: binary("ctr")?,
        kubelet: binary("kubelet")?,
        network: cni.plugins(control_plane)?,
        images: images.to_vec(),
        controllers: hierarchy::controllers()?,
    })
}

/// Connects the node to the control plane's bridge, and routes its pods' networks to it and the others' from it.
fn connect(node: &Namespace, control: &Namespace, number: u8, options: Options) -> Result<()> {
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        node.sysctl(key, "1")?;
    }
    for scope in ["all", "default"] {
        node.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
    }
    let port = name(number);
    let own = address::node(number);
    let mut commands = vec![
        format!(
            "link add {port} type veth peer name {UPLINK} netns {}",
            node.name()
        ),
        format!("link set {port} master nodes up"),
    ];
    commands.extend(routes(number));
    control.ip(&commands)?;
    let mut commands = vec![
        format!("address add {}/24 dev {UPLINK}", own.v4),
        format!("address add {}/64 dev {UPLINK} nodad", own.v6),
        format!("link set {UPLINK} up"),
        format!("route add default via {}", CONTROL_PLANE.v4),
        format!("route add default via {}", CONTROL_PLANE.v6),
    ];
    if options.cni.connects_nodes() {
        // What Kubernetes asks of nodes with bridges.
        for key in [
            "bridge/bridge-nf-call-iptables",
            "bridge/bridge-nf-call-ip6tables",
        ] {
            node.sysctl(key, "1")?;
        }
    } else {
        let others = (1..=options.nodes).filter(|&other| other != number);
        commands.extend(others.flat_map(routes));
    }
    node.ip(&commands)
}

/// To the pods of a node, by the node's addresses.
fn routes(number: u8) -> [String; 2] {
    let [v4, v6] = address::pods(number);
    let via = address::node(number);
    [
        format!("route add {v4} via {}", via.v4),
        format!("route add {v6} via {}", via.v6),
    ]
}
