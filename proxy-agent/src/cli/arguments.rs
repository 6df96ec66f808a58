//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    AuditArguments, ConfigArguments, ExplainArguments, InitArguments, PlanArguments, SourceArguments,
    UninstallArguments,
};
use crate::config::Period;
use crate::datapath::doctor::DoctorOptions;
use crate::datapath::{
    AttachMode, DatapathOptions, FlowLives, NodePortAddresses, OBJECT, PodInterfaces, SnatPorts, SocketLb,
    Uplinks,
};
use crate::model::ExternalIps;

/// Where instances live by default.
pub(super) const INSTANCE: &str = "/sys/fs/bpf/shunt";
/// Where cgroup v2 is mounted by default.
const CGROUP: &str = "/sys/fs/cgroup";

/// Shunt: Kubernetes Services on eBPF, in place of kube-proxy.
#[derive(Debug, Parser)]
#[command(name = "shunt", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves the Services of the Kubernetes API, or of a folder of manifests, on this node. Ending it leaves the traffic
    /// flowing.
    Agent(Box<AgentArguments>),
    /// Shows the Services: one row for each address and port where one is reached.
    Services(ViewArguments),
    /// Shows the backends: the endpoints that serve.
    Backends(ViewArguments),
    /// Shows the flows: connections and UDP exchanges, a row for each direction.
    Flows(ViewArguments),
    /// Shows why packets and calls were dropped or refused, and counts of rare events.
    Drops(ViewArguments),
    /// Compares what Services ask for with what is in the maps, and names each difference.
    Audit(Box<AuditArguments>),
    /// Explains what becomes of a call, step by step: by a folder of manifests, without a cluster, an agent or rights; by
    /// the maps of this node's agent; or by both, with the difference.
    Explain(Box<ExplainArguments>),
    /// Shows what applying or deleting manifests would change on a node, without doing it: by the maps of this node's agent,
    /// or by a folder of manifests.
    Plan(Box<PlanArguments>),
    /// Prepares the node once, with more rights than the agent has: the BPF file system, the reserved ports.
    Init(InitArguments),
    /// Detaches and removes everything of an instance, so that its traffic ends; or removes what kube-proxy left.
    Cleanup(CleanupArguments),
    /// Cleans every node of a cluster, and says when all are clean: the DaemonSet's agents give way to a clean-up.
    Uninstall(UninstallArguments),
    /// Does nothing until SIGTERM: keeps the pod of a DaemonSet whose work was done by an init container.
    #[command(hide = true)]
    Hold,
    /// Looks at what this kernel, cgroup and BPF file system give, what is missing, and the way out.
    Doctor(DoctorArguments),
}

/// Which instance.
#[derive(Debug, Args)]
pub struct InstanceArguments {
    /// Directory on a BPF file system that is this instance's own.
    #[arg(long, value_name = "DIR", default_value = INSTANCE, env = "SHUNT_INSTANCE")]
    pub instance: PathBuf,
}

/// What to remove.
#[derive(Debug, Args)]
pub struct CleanupArguments {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArguments,
    /// In the place of an instance, removes what kube-proxy left on this node: its chains and rules of iptables, both
    /// variants and families, its tables of nftables, its interface for IPVS. To be run once the connections that it
    /// translated are over.
    #[arg(long)]
    pub kube_proxy: bool,
    /// The host's root: takes the host's iptables, nft and ip, for an image that has none.
    #[arg(long, value_name = "DIR", requires = "kube_proxy")]
    pub host_root: Option<PathBuf>,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    #[default]
    Table,
    /// JSON for programs.
    Json,
}

/// What to show, and how.
#[derive(Debug, Args)]
pub struct ViewArguments {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArguments,
    /// For people or for programs.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What `shunt doctor` looks at.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Which instance, and how to show what was found.
    #[command(flatten)]
    pub view: ViewArguments,
    /// Root of the cgroup v2 hierarchy.
    #[arg(long, value_name = "DIR", default_value = CGROUP)]
    pub cgroup: PathBuf,
}

impl DoctorArguments {
    /// What to look at.
    pub fn options(&self) -> DoctorOptions {
        DoctorOptions {
            instance: self.view.instance.instance.clone(),
            cgroup: self.cgroup.clone(),
        }
    }
}

/// How to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Whose sockets socket LB serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SocketLbMode {
    /// The host's and the pods'.
    #[default]
    Enabled,
    /// The host's alone; pods go by packets.
    HostOnly,
}

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

/// How the agent serves this node.
#[derive(Debug, Args)]
pub struct AgentArguments {
    /// This node's name, as endpoints' nodeName has it. Not given: the configuration's, else the host's.
    #[arg(
        long,
        value_name = "NAME",
        env = "NODE_NAME",
        visible_alias = "hostname-override"
    )]
    pub node_name: Option<String>,
    /// Where Services come from.
    #[command(flatten)]
    pub source: SourceArguments,
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArguments,
    /// Root of the cgroup v2 hierarchy whose sockets are served.
    #[arg(long, value_name = "DIR", default_value = CGROUP)]
    cgroup: PathBuf,
    /// Whose sockets socket LB serves.
    #[arg(long, value_enum, default_value_t)]
    socket_lb: SocketLbMode,
    /// Interfaces that lead to pods: `auto` (veths whose peer is in another namespace) or shell globs.
    #[arg(long, value_name = "auto|PATTERN,...", default_value = "auto", value_parser = pod_interfaces)]
    pod_interfaces: PodInterfaces,
    /// Interfaces that lead to other nodes and the world: `auto` (by routes) or names.
    #[arg(long, value_name = "auto|NAME,...", default_value = "auto", value_parser = uplinks)]
    uplinks: Uplinks,
    /// How programs are attached to interfaces.
    #[arg(long, value_enum, default_value_t)]
    attach: Attach,
    /// Which addresses in the Services' spec.externalIPs are served: all, none, or those within ranges. Not given: none if the
    /// configuration's feature gate AllowServiceExternalIPs is off, else all.
    #[arg(long, value_name = "all|none|CIDR,...")]
    pub external_ips: Option<ExternalIps>,
    /// Time between two looks at the maps: what is not as it should be is named, counted and mended. 0: never.
    #[arg(long, value_name = "PERIOD", default_value = "10m")]
    pub audit_period: Period,
    /// Source ports for traffic to endpoints of other nodes; reserved on this node.
    #[arg(long, value_name = "FIRST-LAST", default_value = "45000-60999")]
    snat_ports: SnatPorts,
    /// Memory that all maps together may take, such as 256Mi; not given: 1 % of the node's.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    map_memory: Option<u64>,
    /// How to log; logs go to the standard error output. Not given: as the configuration says, else as text.
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// kube-proxy's configuration.
    #[command(flatten)]
    pub config: ConfigArguments,
}

impl AgentArguments {
    /// What the data path must know.
    pub fn datapath(&self, lives: FlowLives, node_ports: NodePortAddresses) -> DatapathOptions {
        DatapathOptions {
            instance: self.instance.instance.clone(),
            cgroup: self.cgroup.clone(),
            socket_lb: match self.socket_lb {
                SocketLbMode::Enabled => SocketLb::Enabled,
                SocketLbMode::HostOnly => SocketLb::HostOnly,
            },
            pod_interfaces: self.pod_interfaces.clone(),
            uplinks: self.uplinks.clone(),
            attach: match self.attach {
                Attach::Auto => AttachMode::Auto,
                Attach::Tcx => AttachMode::Tcx,
                Attach::Clsact => AttachMode::Clsact,
            },
            snat_ports: self.snat_ports,
            memory: self.map_memory,
            lives,
            node_ports,
            object: OBJECT,
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

/// Bytes, with Ki, Mi or Gi as in Kubernetes.
fn size(text: &str) -> Result<u64, String> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("", 0)];
    let parsed = units.into_iter().find_map(|(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(1 << shift)
    });
    parsed.ok_or_else(|| "it is no size; write it as 268435456 or 256Mi".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn agent(more: &[&str]) -> Result<DatapathOptions, String> {
        let base = ["shunt", "agent", "--node-name", "a", "--manifests", "/m"];
        let arguments =
            Arguments::try_parse_from(base.iter().chain(more)).map_err(|error| error.to_string())?;
        match arguments.command {
            Command::Agent(arguments) => {
                Ok(arguments.datapath(FlowLives::default(), NodePortAddresses::default()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_a_node() {
        let options = agent(&[]).unwrap();
        assert_eq!(options.instance, PathBuf::from(INSTANCE));
        assert_eq!(
            (options.socket_lb, options.attach),
            (SocketLb::Enabled, AttachMode::Auto)
        );
        assert_eq!(
            (options.pod_interfaces, options.uplinks),
            (PodInterfaces::Auto, Uplinks::Auto)
        );
        assert_eq!((options.snat_ports, options.memory), (SnatPorts::default(), None));
    }

    #[test]
    fn every_switch_is_taken() {
        let options = agent(&[
            "--instance",
            "/i",
            "--cgroup",
            "/c",
            "--socket-lb",
            "host-only",
            "--pod-interfaces",
            "pod*,cni?",
            "--uplinks",
            "eth0",
            "--attach",
            "clsact",
            "--snat-ports",
            "40000-59999",
            "--map-memory",
            "64Mi",
        ])
        .unwrap();
        assert_eq!(
            options.pod_interfaces,
            PodInterfaces::Patterns(vec!["pod*".into(), "cni?".into()])
        );
        assert_eq!(options.uplinks, Uplinks::Names(vec!["eth0".into()]));
        assert_eq!(
            (options.socket_lb, options.attach),
            (SocketLb::HostOnly, AttachMode::Clsact)
        );
        assert_eq!(
            (options.snat_ports.first(), options.memory),
            (40000, Some(64 << 20))
        );
    }

    #[test]
    fn bad_values_are_refused_with_the_way_out() {
        for (switch, value, hint) in [
            ("--uplinks", "a,,b", "write them as one,two"),
            ("--map-memory", "64MB", "256Mi"),
            ("--snat-ports", "1-2", "fewer than 10000"),
            ("--attach", "xdp", "tcx"),
        ] {
            let error = agent(&[switch, value]).unwrap_err();
            assert!(error.contains(switch) && error.contains(hint), "{error}");
        }
    }
}
