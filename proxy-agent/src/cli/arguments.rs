//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use super::{
    AuditArguments, ConfigArguments, DowngradeArguments, ExplainArguments, ForwardingArguments,
    HookArguments, InitArguments, ObjectArguments, PlanArguments, SourceArguments, UninstallArguments,
};
use crate::config::{Period, Settings};
use crate::datapath::doctor::DoctorOptions;
use crate::datapath::{
    DatapathOptions, HostRouting, MapEntries, Mark, NodePortRange, PodNetworks, SnatPorts, SocketLb,
};
use crate::model::ExternalIps;

/// Where instances live by default.
pub(super) const INSTANCE: &str = "/sys/fs/bpf/shunt";
/// Where cgroup v2 is mounted by default.
pub(super) const CGROUP: &str = "/sys/fs/cgroup";

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
    /// Shows how many source ports of --snat-ports are in use towards each destination, those that use the most first.
    Snat(ViewArguments),
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
    /// Gives the maps the layout of an older version back, so that its agent can be started again; connections live on. No
    /// agent may run.
    Downgrade(DowngradeArguments),
    /// Writes the BPF object that this version carries: what the `downgrade` of a newer version asks for.
    Object(ObjectArguments),
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

/// Whether something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// It is.
    #[default]
    Enabled,
    /// It is not.
    Disabled,
}

/// How packets go from one interface of the node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Routing {
    /// Through the node's stack.
    #[default]
    Stack,
    /// Around it in both directions, where they can.
    Fast,
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
    /// Where programs are.
    #[command(flatten)]
    hooks: HookArguments,
    /// Whose sockets socket LB serves.
    #[arg(long, value_enum, default_value_t)]
    socket_lb: SocketLbMode,
    /// Whether addresses of Services answer ping while they have endpoints.
    #[arg(long, value_enum, default_value_t)]
    ping: Switch,
    /// Which addresses in the Services' spec.externalIPs are served: all, none, or those within ranges. Not given: none if the
    /// configuration's feature gate AllowServiceExternalIPs is off, else all.
    #[arg(long, value_name = "all|none|CIDR,...")]
    pub external_ips: Option<ExternalIps>,
    /// How packets from outside go to endpoints of other nodes.
    #[command(flatten)]
    pub forwarding: ForwardingArguments,
    /// Time between two looks at the maps: what is not as it should be is named, counted and mended. 0: never.
    #[arg(long, value_name = "PERIOD", default_value = "10m")]
    pub audit_period: Period,
    /// Time between two looks at the hooks: programs that others have taken away are put back, named and counted. 0: never.
    #[arg(long, value_name = "PERIOD", default_value = "30s")]
    hook_check_period: Period,
    /// Source ports for traffic to endpoints of other nodes; reserved on this node.
    #[arg(long, value_name = "FIRST-LAST", default_value = "45000-60999")]
    snat_ports: SnatPorts,
    /// Where Kubernetes allocates NodePorts, as kube-apiserver's --service-node-port-range has it; reserved on this node.
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767")]
    node_port_range: NodePortRange,
    /// How packets go from one interface of the node to another where their source stays: through the node's stack, or around
    /// it, which no policy engine sees (and none may work there).
    #[arg(long, value_enum, default_value_t)]
    host_routing: Routing,
    /// Where pods of all nodes have their addresses: with --host-routing fast, calls of this node's pods to endpoints there go
    /// around the stack as well. Not given: calls to endpoints of other nodes go through it.
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = super::forward::range)]
    pod_networks: Vec<IpNet>,
    /// One bit of the skb mark, as 0x80, that packets from outside get whose destination was translated to a pod of this node:
    /// for rules that send answers back by the uplink that the call came in by. Not given: none.
    #[arg(long, value_name = "BIT", value_parser = mark)]
    dnat_mark: Option<Mark>,
    /// Memory that all maps together take at a start, such as 256Mi; not given: 1 % of the node's.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    map_memory: Option<u64>,
    /// Memory that they may take when maps that Services have filled have grown; not given: twice as much.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    map_memory_limit: Option<u64>,
    /// Sizes of some maps at a start, such as slots=1000000,tcp-flows=500000; the others share what is left of the memory.
    #[arg(long, value_name = "MAP=ENTRIES", value_delimiter = ',')]
    map_entries: Vec<MapEntries>,
    /// How to log; logs go to the standard error output. Not given: as the configuration says, else as text.
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// kube-proxy's configuration.
    #[command(flatten)]
    pub config: ConfigArguments,
}

impl AgentArguments {
    /// What the data path must know.
    pub fn datapath(&self, settings: &Settings) -> DatapathOptions {
        let hooks = self.hooks.datapath(&self.instance, &settings.local_mode);
        DatapathOptions {
            socket_lb: match self.socket_lb {
                SocketLbMode::Enabled => SocketLb::Enabled,
                SocketLbMode::HostOnly => SocketLb::HostOnly,
            },
            ping: self.ping == Switch::Enabled,
            hook_check_period: self.hook_check_period.0,
            snat_ports: self.snat_ports,
            node_port_range: self.node_port_range,
            memory: self.map_memory,
            mark: self.dnat_mark,
            host_routing: match self.host_routing {
                Routing::Stack => HostRouting::Stack,
                Routing::Fast => HostRouting::Fast,
            },
            pod_networks: PodNetworks(self.pod_networks.clone()),
            memory_limit: self.map_memory_limit,
            map_entries: self.map_entries.clone(),
            lives: settings.lives,
            node_ports: settings.node_ports.clone(),
            ..hooks
        }
    }
}

/// A mark with one bit.
fn mark(text: &str) -> Result<Mark, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let mark = number.ok().and_then(Mark::new);
    mark.ok_or_else(|| {
        "it must have one bit set, so that it stands beside the marks of others; write it as 0x80".to_owned()
    })
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
    use crate::datapath::{AttachMode, PodInterfaces, Uplinks, XdpMode};

    fn agent(more: &[&str]) -> Result<DatapathOptions, String> {
        let base = ["shunt", "agent", "--node-name", "a", "--manifests", "/m"];
        let arguments =
            Arguments::try_parse_from(base.iter().chain(more)).map_err(|error| error.to_string())?;
        match arguments.command {
            Command::Agent(arguments) => {
                let configuration = arguments.config.read().map_err(|error| error.to_string())?;
                Ok(arguments.datapath(&configuration.settings))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_mark_is_one_bit() {
        for (text, bit) in [("0x80", 7), ("128", 7), ("1", 0), ("0x80000000", 31)] {
            let options = agent(&["--dnat-mark", text]).unwrap();
            assert_eq!(options.mark.map(Mark::bit), Some(bit), "{text}");
        }
        for text in ["0", "3", "0x180", "0x", "-1", "0x100000000", "mark"] {
            let error = agent(&["--dnat-mark", text]).unwrap_err();
            assert!(
                error.contains("one bit") || error.contains("unexpected"),
                "{error}"
            );
        }
        assert_eq!(agent(&[]).unwrap().mark, None);
    }

    #[test]
    fn defaults_are_those_of_a_node() {
        let options = agent(&[]).unwrap();
        assert_eq!(options.instance, PathBuf::from(INSTANCE));
        assert_eq!(
            (options.socket_lb, options.attach, options.xdp),
            (SocketLb::Enabled, AttachMode::Auto, XdpMode::Auto)
        );
        assert_eq!(options.host_routing, HostRouting::Stack);
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
            "--xdp",
            "native",
            "--snat-ports",
            "40000-59999",
            "--map-memory",
            "64Mi",
            "--map-memory-limit",
            "1Gi",
            "--map-entries",
            "slots=1000000,embryos=5000",
            "--ping",
            "disabled",
            "--host-routing",
            "fast",
        ])
        .unwrap();
        assert_eq!(
            options.pod_interfaces,
            PodInterfaces::Patterns(vec!["pod*".into(), "cni?".into()])
        );
        assert_eq!(options.uplinks, Uplinks::Names(vec!["eth0".into()]));
        assert_eq!(
            (options.socket_lb, options.attach, options.xdp),
            (SocketLb::HostOnly, AttachMode::Clsact, XdpMode::Native)
        );
        assert_eq!(
            (options.snat_ports.first(), options.memory, options.ping),
            (40000, Some(64 << 20), false)
        );
        assert_eq!(options.host_routing, HostRouting::Fast);
        let entries = ["slots=1000000", "embryos=5000"].map(|text| text.parse().unwrap());
        assert_eq!(
            (options.memory_limit, options.map_entries),
            (Some(1 << 30), entries.into())
        );
    }

    #[test]
    fn pods_are_told_by_interfaces_as_kube_proxy_was_told_to() {
        let mode = |mode, rest: &[&str]| {
            let given = [&["--detect-local-mode", mode], rest].concat();
            agent(&given).map(|options| options.pod_interfaces)
        };
        let bridge = ["--pod-bridge-interface", "cbr0"];
        assert_eq!(
            mode("BridgeInterface", &bridge),
            Ok(PodInterfaces::Bridge("cbr0".into()))
        );
        let prefix = ["--pod-interface-name-prefix", "cali"];
        assert_eq!(
            mode("InterfaceNamePrefix", &prefix),
            Ok(PodInterfaces::Prefix("cali".into()))
        );
        assert_eq!(mode("NodeCIDR", &[]), Ok(PodInterfaces::Auto));
        let own = [&bridge[..], &["--pod-interfaces", "mine*"]].concat();
        assert_eq!(
            mode("BridgeInterface", &own),
            Ok(PodInterfaces::Patterns(vec!["mine*".into()]))
        );
        let error = mode("BridgeInterface", &[]).unwrap_err();
        assert!(error.contains("bridgeInterface"), "{error}");
    }

    #[test]
    fn bad_values_are_refused_with_the_way_out() {
        for (switch, value, hint) in [
            ("--uplinks", "a,,b", "write them as one,two"),
            ("--map-memory", "64MB", "256Mi"),
            ("--map-memory-limit", "64MB", "256Mi"),
            ("--map-entries", "slot=64", "slots"),
            ("--snat-ports", "1-2", "fewer than 10000"),
            ("--attach", "xdp", "tcx"),
            ("--xdp", "on", "generic"),
            ("--host-routing", "on", "fast"),
            ("--pod-networks", "10.244.0.1", "192.0.2.0/24"),
            ("--forwarding", "ipip", "dsr"),
            ("--dsr-exclude", "192.0.2.1", "192.0.2.0/24"),
            ("--dsr-exclude", "192.0.2.0/24,", "192.0.2.0/24"),
        ] {
            let error = agent(&[switch, value]).unwrap_err();
            assert!(error.contains(switch) && error.contains(hint), "{error}");
        }
    }
}
