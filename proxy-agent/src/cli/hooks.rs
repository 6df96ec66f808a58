//! Where the data path's programs are: what the agent and a downgrade must agree on.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::InstanceArguments;
use super::arguments::CGROUP;
use crate::config::LocalMode;
use crate::datapath::{AttachMode, DatapathOptions, PodInterfaces, Uplinks, XdpMode};

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Attach {
    /// TCX where the kernel has it, else clsact.
    #[default]
    Auto,
    /// TCX links (kernel 6.6 and later).
    Tcx,
    /// Filters on a clsact qdisc.
    Clsact,
}

/// Whether XDP takes part at uplinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Xdp {
    /// Native XDP on hardware whose driver has it; else TC does it all.
    #[default]
    Auto,
    /// The same, and on veths, which it makes slower for bulk traffic.
    Native,
    /// The kernel's own, behind the driver: slower than TC.
    Generic,
    /// Nowhere.
    Off,
}

/// Which sockets and interfaces have programs.
#[derive(Debug, Args)]
pub struct HookArguments {
    /// Root of the cgroup v2 hierarchy whose sockets are served.
    #[arg(long, value_name = "DIR", default_value = CGROUP)]
    cgroup: PathBuf,
    /// Interfaces that lead to pods: `auto` (veths whose peer is in another namespace, or as the configuration's
    /// detectLocalMode says) or shell globs.
    #[arg(long, value_name = "auto|PATTERN,...", default_value = "auto", value_parser = pod_interfaces)]
    pod_interfaces: PodInterfaces,
    /// Interfaces that lead to other nodes and the world: `auto` (by routes) or names.
    #[arg(long, value_name = "auto|NAME,...", default_value = "auto", value_parser = uplinks)]
    uplinks: Uplinks,
    /// How programs are attached to interfaces.
    #[arg(long, value_enum, default_value_t)]
    attach: Attach,
    /// Whether XDP takes part at uplinks.
    #[arg(long, value_enum, default_value_t)]
    xdp: Xdp,
}

impl HookArguments {
    /// What the data path must know of it, where pods are told by their interfaces as kube-proxy was told to; all else is as by
    /// default.
    pub(super) fn datapath(&self, instance: &InstanceArguments, mode: &LocalMode) -> DatapathOptions {
        DatapathOptions {
            pod_interfaces: match (&self.pod_interfaces, mode) {
                (PodInterfaces::Auto, LocalMode::Bridge(bridge)) => PodInterfaces::Bridge(bridge.clone()),
                (PodInterfaces::Auto, LocalMode::Prefix(prefix)) => PodInterfaces::Prefix(prefix.clone()),
                (given, _) => given.clone(),
            },
            uplinks: self.uplinks.clone(),
            attach: match self.attach {
                Attach::Auto => AttachMode::Auto,
                Attach::Tcx => AttachMode::Tcx,
                Attach::Clsact => AttachMode::Clsact,
            },
            xdp: match self.xdp {
                Xdp::Auto => XdpMode::Auto,
                Xdp::Native => XdpMode::Native,
                Xdp::Generic => XdpMode::Generic,
                Xdp::Off => XdpMode::Off,
            },
            ..DatapathOptions::new(instance.instance.clone(), self.cgroup.clone())
        }
    }
}

fn pod_interfaces(text: &str) -> Result<PodInterfaces, String> {
    Ok(if text == "auto" {
        PodInterfaces::Auto
    } else {
        PodInterfaces::Patterns(items(text)?)
    })
}

fn uplinks(text: &str) -> Result<Uplinks, String> {
    Ok(if text == "auto" {
        Uplinks::Auto
    } else {
        Uplinks::Names(items(text)?)
    })
}

fn items(text: &str) -> Result<Vec<String>, String> {
    let items: Vec<String> = text.split(',').map(|item| item.trim().to_owned()).collect();
    if items.iter().any(String::is_empty) {
        return Err("one of the names is empty; write them as one,two or write auto".to_owned());
    }
    Ok(items)
}
