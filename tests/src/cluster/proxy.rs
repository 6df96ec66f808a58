//! Who serves Services in a cluster.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::client::Client;
use super::control_plane::server;
use super::iptables::Iptables;
use super::shunt_images::{NAME, TAGS};

/// Shunt, or kube-proxy in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Proxy {
    /// Shunt, from deploy/manifests
    #[default]
    Shunt,
    /// kube-proxy in mode nftables
    KubeProxyNftables,
    /// kube-proxy in mode iptables, with the programs that make rules of nf_tables: the default of its image's Debian
    KubeProxyIptables,
    /// kube-proxy in mode iptables, with the legacy programs
    KubeProxyIptablesLegacy,
    /// Nobody: cluster addresses lead nowhere
    None,
}

impl fmt::Display for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Shunt => "shunt",
            Self::KubeProxyNftables => "kube-proxy-nftables",
            Self::KubeProxyIptables => "kube-proxy-iptables",
            Self::KubeProxyIptablesLegacy => "kube-proxy-iptables-legacy",
            Self::None => "none",
        })
    }
}

impl Proxy {
    /// Gives it to the cluster.
    pub(crate) fn deploy(self, client: &Client, folder: &Path) -> Result<()> {
        match self {
            Self::Shunt => shunt(client, folder),
            Self::KubeProxyNftables => kube_proxy(client, "nftables", Iptables::Nft),
            Self::KubeProxyIptables => kube_proxy(client, "iptables", Iptables::Nft),
            Self::KubeProxyIptablesLegacy => kube_proxy(client, "iptables", Iptables::Legacy),
            Self::None => Ok(()),
        }
    }

    /// Its DaemonSet's name.
    pub(crate) fn daemon_set(self) -> Option<&'static str> {
        match self {
            Self::Shunt => Some("shunt"),
            Self::KubeProxyNftables | Self::KubeProxyIptables | Self::KubeProxyIptablesLegacy => {
                Some("kube-proxy")
            }
            Self::None => None,
        }
    }
}

fn kube_proxy(client: &Client, mode: &str, iptables: Iptables) -> Result<()> {
    let command = json!(iptables.command("/usr/local/bin/kube-proxy"));
    let manifests = include_str!("../../cluster/manifests/kube-proxy.yaml")
        .replace("COMMAND", &command.to_string())
        .replace("MODE", mode)
        .replace("SERVER", &server());
    client
        .output(&["apply", "--filename=-"], &manifests)
        .context("deploying kube-proxy")
        .map(drop)
}

/// Another value at a place of an object of Shunt's; that the place does not exist is an error.
fn patch(kind: &str, path: &str, value: &str) -> Value {
    let patch = json!([{"op": "replace", "path": path, "value": value}]);
    json!({"target": {"kind": kind, "name": "shunt"}, "patch": patch.to_string()})
}

/// The project's own manifests, with this cluster's API server, image and place of cgroup version 2.
fn shunt(client: &Client, folder: &Path) -> Result<()> {
    write_deploy(folder, TAGS[0])?;
    client
        .shell("kubectl apply -k deploy/manifests", folder)
        .context("deploying Shunt")
        .map(drop)
}

/// Puts `deploy/manifests`, `deploy/cleanup` and `deploy/downgrade` into a folder: the project's own, as an operator of this
/// cluster would change them.
pub(crate) fn write_deploy(folder: &Path, tag: &str) -> Result<()> {
    let patches = [
        patch("ConfigMap", "/data/masters", &server()),
        patch(
            "DaemonSet",
            "/spec/template/spec/volumes/1/hostPath/path",
            "/sys/fs/cgroup/unified",
        ),
    ];
    overlay(folder, "manifests", tag, &patches)?;
    overlay(folder, "downgrade", tag, &patches)?;
    overlay(folder, "cleanup", tag, &[])
}

fn overlay(folder: &Path, name: &str, tag: &str, patches: &[Value]) -> Result<()> {
    let overlay = folder.join("deploy").join(name);
    std::fs::create_dir_all(&overlay).with_context(|| format!("making {}", overlay.display()))?;
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    let base = base
        .canonicalize()
        .with_context(|| format!("there is no {}", base.display()))?;
    let up = "../".repeat(overlay.components().count() - 1);
    let resource = format!("{up}{}", base.display().to_string().trim_start_matches('/'));
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [resource],
        "images": [
            {"name": "shunt", "newName": NAME, "newTag": tag},
            {"name": "shunt-newer", "newName": NAME, "newTag": TAGS[1]},
        ],
        "patches": patches,
    });
    let file = overlay.join("kustomization.yaml");
    std::fs::write(&file, kustomization.to_string()).with_context(|| format!("writing {}", file.display()))
}
