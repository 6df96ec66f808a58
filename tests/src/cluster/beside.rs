//! A host beside the control plane: it reaches the API server, and nothing else runs on it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::address::CONTROL_PLANE;
use super::binaries::binary;
use super::control_plane::ControlPlane;
use super::debian;
use super::iptables::Iptables;
use crate::cgroup::Cgroup;
use crate::ip::ip;
use crate::{Namespace, Place, clean};

/// Its address in the control plane's network.
pub const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(172, 31, 99, 200);
const NAME: &str = "beside";
/// Makes the tree of kube-proxy's image the root, with this folder and kube-proxy itself in it, and runs what follows. What is
/// mounted is seen by this process alone.
const IN_TREE: &str = "set -e\n\
    tree=$1 folder=$2 kube_proxy=$3\n\
    shift 3\n\
    cd \"$tree\"\n\
    mount -t tmpfs tmpfs run\n\
    mount -t tmpfs tmpfs tmp\n\
    mount --rbind /proc proc\n\
    mount --rbind /dev dev\n\
    mkdir -p \".$folder\"\n\
    mount --bind \"$folder\" \".$folder\"\n\
    touch run/kube-proxy\n\
    mount --bind \"$kube_proxy\" run/kube-proxy\n\
    PATH=/usr/sbin:/usr/bin:/sbin:/bin\n\
    export PATH\n\
    exec chroot . \"$@\"";

impl ControlPlane {
    /// Makes it; it goes with the control plane, or before. There is one.
    pub fn host_beside(&self) -> Result<Place> {
        let namespace = Namespace::create(&format!("{}-{NAME}", self.id()))?;
        self.place().namespace().ip(&[
            format!(
                "link add {NAME} type veth peer name eth0 netns {}",
                namespace.name()
            ),
            format!("link set {NAME} master nodes up"),
        ])?;
        namespace.ip(&[
            "link set eth0 up".to_owned(),
            format!("address add {ADDRESS}/24 dev eth0"),
            format!("route add default via {}", CONTROL_PLANE.v4),
        ])?;
        Ok(Place {
            name: NAME.to_owned(),
            namespace,
            cgroup: self.groups_beside()?.child("host")?,
        })
    }

    /// On it, but in a cgroup of its own, so that what is run there can be told from what runs on the host.
    pub fn apart(&self, host: &Place, name: &str) -> Result<Place> {
        Ok(Place {
            name: name.to_owned(),
            namespace: host.namespace.clone(),
            cgroup: self.groups_beside()?.child(name)?,
        })
    }

    /// Ends what runs on it, and takes it away with all that the kernel keeps of it: another can be made.
    pub fn remove_host(&self, host: Place) -> Result<()> {
        let groups = self.groups_beside()?;
        clean::end_processes(&groups)?;
        // With the namespace it would go some time later.
        self.place().namespace().ip(&[format!("link delete {NAME}")])?;
        ip(&["netns", "delete", host.namespace.name()])?;
        for group in groups.tree() {
            clean::remove_cgroup(group.path())?;
        }
        Ok(())
    }

    fn groups_beside(&self) -> Result<Cgroup> {
        Cgroup::of_lab(self.id())?.child(NAME)
    }

    /// A command that is kube-proxy for the Node of this name, in the tree of its image. It serves IPv4.
    pub fn kube_proxy(&self, place: &Place, node: &str, mode: &str, iptables: Iptables) -> Result<Command> {
        // Each kube-proxy has a file of its own: it ends when its file changes.
        let name = format!("kube-proxy-{mode}-{}.yaml", iptables.name());
        let config = self.folder().join(name);
        let text = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
             clientConnection: {{kubeconfig: {}}}\nhostnameOverride: {node}\nmode: {mode}\nclusterCIDR: 10.128.0.0/9\n\
             conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}\n",
            self.kubeconfig().display()
        );
        std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        let mut command = self.in_tree(place)?;
        command
            .args(iptables.command("/run/kube-proxy"))
            .arg("--config")
            .arg(config);
        Ok(command)
    }

    /// The versions of kube-proxy and of the programs that it calls, one a line. That iptables is another than this one is an
    /// error.
    pub fn kube_proxy_versions(&self, place: &Place, iptables: Iptables) -> Result<Vec<String>> {
        let mut versions = Vec::new();
        for program in ["/run/kube-proxy", "nft", "iptables"] {
            let mut command = self.in_tree(place)?;
            command.args(iptables.command(program)).arg("--version");
            let output = place
                .namespace()
                .run(|| command.output().context("asking for a version"))?;
            ensure!(output.status.success(), "{program} --version: {output:?}");
            let said = String::from_utf8_lossy(&output.stdout);
            // kube-proxy gives it as that of Kubernetes.
            versions.push(said.trim().replace("Kubernetes", "kube-proxy"));
        }
        ensure!(
            versions.last().is_some_and(|said| said.contains(iptables.name())),
            "iptables is to be that of {}, and is {:?}",
            iptables.name(),
            versions.last()
        );
        Ok(versions)
    }

    /// A command whose arguments are run in the tree.
    fn in_tree(&self, place: &Place) -> Result<Command> {
        let paths: [PathBuf; 3] = [debian::root()?, self.folder().to_owned(), binary("kube-proxy")?];
        let mut command = place.command(Path::new("unshare"));
        command.args(["--mount", "sh", "-c", IN_TREE, "sh"]).args(paths);
        Ok(command)
    }
}
