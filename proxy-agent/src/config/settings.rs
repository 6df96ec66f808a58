//! What the agent makes of a configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::document::{Document, KIND, VERSION};
use super::value::Period;
use crate::datapath::{FlowLives, NodePortAddresses};
use crate::model::{DetectLocal, ExternalIps};
use crate::plan::{Range, Ranges};
use crate::serve::BindAddress;
use crate::{health, metrics};

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStyle {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How kube-proxy would tell this node's pods from other callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalMode {
    /// By the interface, whichever leads to pods: kube-proxy would tell nobody.
    #[default]
    Unset,
    /// ClusterCIDR: by these ranges of addresses.
    ClusterCidr(Vec<IpNet>),
    /// NodeCIDR: by the ranges of the Node's spec.podCIDRs.
    NodeCidr,
    /// BridgeInterface: by the bridge that their packets come in by.
    Bridge(String),
    /// InterfaceNamePrefix: by the beginning of the interface's name.
    Prefix(String),
}

impl LocalMode {
    /// What of it the model goes by; interfaces are the data path's.
    pub fn detect(&self) -> DetectLocal {
        match self {
            Self::Unset | Self::Bridge(_) | Self::Prefix(_) => DetectLocal::ByInterface,
            Self::ClusterCidr(cidrs) => DetectLocal::ByRanges(ranges(cidrs)),
            Self::NodeCidr => DetectLocal::ByNodeRanges,
        }
    }
}

fn ranges(cidrs: &[IpNet]) -> Vec<Range> {
    let range = |cidr: &IpNet| Range::new(cidr.addr(), cidr.prefix_len());
    cidrs.iter().map(range).collect()
}

/// What is used of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This node's name, if it is given.
    pub node_name: Option<String>,
    /// How the API is reached, if it is given.
    pub kubeconfig: Option<PathBuf>,
    /// Where /healthz and /livez are.
    pub healthz: Option<BindAddress>,
    /// Where /metrics is.
    pub metrics: Option<BindAddress>,
    /// An address that can't be bound ends the agent.
    pub must_bind: bool,
    /// A change that has waited for longer makes the proxy unhealthy.
    pub late: Duration,
    /// How long flows live.
    pub lives: FlowLives,
    /// Whether Services may have external addresses: the feature gate AllowServiceExternalIPs (KEP-5707).
    pub has_external_ips: bool,
    /// At which addresses NodePorts answer.
    pub node_ports: NodePortAddresses,
    /// How pods of this node are told.
    pub local_mode: LocalMode,
    /// kube-proxy's `-v`.
    pub verbosity: u32,
    /// How logs look, if it is given.
    pub log_style: Option<LogStyle>,
}

/// A field whose value can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    /// The field's path.
    pub(super) field: &'static str,
    /// What is wrong, and the way out.
    pub(super) message: String,
}

/// Where a document comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A file, where an empty text is the same as none.
    File,
    /// Flags, where an empty text turns off.
    Flags,
}

fn invalid<T>(field: &'static str, message: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid {
        field,
        message: message.into(),
    })
}

impl Settings {
    /// From a file's document, with flags put over it.
    pub fn of_file(document: &Document) -> Result<Self, String> {
        Self::of(document, Origin::File).map_err(|Invalid { field, message }| format!("{field}: {message}"))
    }

    /// Which external addresses are served: those that were `given`, else all, but none where the gate is off.
    pub fn external_ips(&self, given: Option<&ExternalIps>) -> ExternalIps {
        match given {
            Some(given) => given.clone(),
            None if self.has_external_ips => ExternalIps::All,
            None => ExternalIps::NONE,
        }
    }

    /// From a document.
    pub(super) fn of(document: &Document, origin: Origin) -> Result<Self, Invalid> {
        check(document)?;
        let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        let logging = document.logging.clone().unwrap_or_default();
        let client = document.client_connection.clone().unwrap_or_default();
        let is_six = text(&document.bind_address).is_some_and(|address| address.contains(':'));
        let loopback = if is_six {
            IpAddr::from(Ipv6Addr::LOCALHOST)
        } else {
            Ipv4Addr::LOCALHOST.into()
        };
        Ok(Self {
            node_name: text(&document.hostname_override).map(|name| name.trim().to_lowercase()),
            kubeconfig: text(&client.kubeconfig).map(PathBuf::from),
            healthz: address(
                "healthzBindAddress",
                document.healthz_bind_address.as_deref(),
                origin,
                BindAddress::Everywhere(health::PORT),
                health::PORT,
            )?,
            metrics: address(
                "metricsBindAddress",
                document.metrics_bind_address.as_deref(),
                origin,
                BindAddress::At(SocketAddr::new(loopback, metrics::PORT)),
                metrics::PORT,
            )?,
            must_bind: document.bind_address_hard_fail.unwrap_or(false),
            late: 2 * sync_period(document).0,
            lives: lives(document),
            has_external_ips: gate(document, EXTERNAL_IPS).unwrap_or(true),
            node_ports: node_ports(document)?,
            local_mode: local_mode(document)?,
            verbosity: logging.verbosity.unwrap_or(0),
            log_style: log_style(logging.format.as_deref())?,
        })
    }
}

/// The one gate of kube-proxy that means something here.
pub(super) const EXTERNAL_IPS: &str = "AllowServiceExternalIPs";

fn gate(document: &Document, name: &str) -> Option<bool> {
    document.feature_gates.as_ref()?.get(name).copied()
}

fn check(document: &Document) -> Result<(), Invalid> {
    let version = document.api_version.as_deref();
    if version.is_some_and(|version| version != VERSION) {
        return invalid(
            "apiVersion",
            format!("it is not {VERSION}, which is the only one that is read"),
        );
    }
    let kind = document.kind.as_deref();
    if kind.is_some_and(|kind| kind != KIND) {
        return invalid("kind", format!("it is not {KIND}"));
    }
    if let Some(address) = document.bind_address.as_deref().filter(|text| !text.is_empty())
        && address.parse::<IpAddr>().is_err()
    {
        return invalid("bindAddress", format!("`{address}` is no IP address"));
    }
    let modes = ["", "iptables", "ipvs", "nftables"];
    if let Some(mode) = document.mode.as_deref().filter(|mode| !modes.contains(mode)) {
        return invalid(
            "mode",
            format!("`{mode}` is none of kube-proxy's modes on Linux: iptables, ipvs, nftables"),
        );
    }
    let modes = [
        "",
        "ClusterCIDR",
        "NodeCIDR",
        "BridgeInterface",
        "InterfaceNamePrefix",
    ];
    if let Some(mode) = document
        .detect_local_mode
        .as_deref()
        .filter(|mode| !modes.contains(mode))
    {
        return invalid(
            "detectLocalMode",
            format!("`{mode}` is none of {}", modes[1..].join(", ")),
        );
    }
    if document
        .oom_score_adj
        .is_some_and(|score| !(-1000..=1000).contains(&score))
    {
        return invalid("oomScoreAdj", "it is not between -1000 and 1000");
    }
    check_lives(document)
}

/// Ages are told apart up to 24 days at the finest clock of kernels.
fn check_lives(document: &Document) -> Result<(), Invalid> {
    const LONGEST: Period = Period::seconds(20 * 24 * 3600);
    let conntrack = document.conntrack.clone().unwrap_or_default();
    for (field, period) in [
        (
            "conntrack.tcpEstablishedTimeout",
            conntrack.tcp_established_timeout,
        ),
        ("conntrack.tcpCloseWaitTimeout", conntrack.tcp_close_wait_timeout),
        ("conntrack.udpTimeout", conntrack.udp_timeout),
        ("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout),
    ] {
        if period > Some(LONGEST) {
            return invalid(
                field,
                "it is longer than 480h, which is the longest that is told apart",
            );
        }
    }
    Ok(())
}

fn cluster_cidrs(document: &Document) -> Result<Vec<IpNet>, Invalid> {
    let text = document.cluster_cidr.as_deref().unwrap_or_default();
    let texts = text.split(',').filter(|_| !text.is_empty());
    let parse = |text: &str| {
        text.trim().parse().or_else(|_| {
            invalid(
                "clusterCIDR",
                format!("`{text}` is no network; write it as 10.244.0.0/16,fd00:10:244::/56"),
            )
        })
    };
    texts.map(parse).collect()
}

fn local_mode(document: &Document) -> Result<LocalMode, Invalid> {
    let cidrs = cluster_cidrs(document)?;
    let local = document.detect_local.clone().unwrap_or_default();
    let named = |field: &'static str, name: Option<String>| match name.filter(|name| !name.is_empty()) {
        Some(name) => Ok(name),
        None => invalid(field, "it is empty, and detectLocalMode goes by it"),
    };
    Ok(match document.detect_local_mode.as_deref() {
        Some("NodeCIDR") => LocalMode::NodeCidr,
        Some("BridgeInterface") => {
            LocalMode::Bridge(named("detectLocal.bridgeInterface", local.bridge_interface)?)
        }
        Some("InterfaceNamePrefix") => LocalMode::Prefix(named(
            "detectLocal.interfaceNamePrefix",
            local.interface_name_prefix,
        )?),
        _ if cidrs.is_empty() => LocalMode::Unset,
        _ => {
            check_count(&cidrs)?;
            LocalMode::ClusterCidr(cidrs)
        }
    })
}

/// The programs know few ranges.
fn check_count(cidrs: &[IpNet]) -> Result<(), Invalid> {
    let ranges = Ranges {
        service: Vec::new(),
        local: ranges(cidrs),
    };
    let (_, unknown) = ranges.networks();
    match unknown.first() {
        None => Ok(()),
        Some(unknown) => invalid(
            "clusterCIDR",
            format!("{unknown}; write fewer and larger networks"),
        ),
    }
}

fn node_ports(document: &Document) -> Result<NodePortAddresses, Invalid> {
    let addresses = document.node_port_addresses.as_deref().unwrap_or_default();
    match NodePortAddresses::parse(addresses) {
        Ok(chosen) => Ok(chosen),
        Err(error) => invalid("nodePortAddresses", error.to_string()),
    }
}

fn address(
    field: &'static str,
    given: Option<&str>,
    origin: Origin,
    usual: BindAddress,
    port: u16,
) -> Result<Option<BindAddress>, Invalid> {
    match (given, origin) {
        (None, _) | (Some(""), Origin::File) => Ok(Some(usual)),
        (Some(text), _) => match BindAddress::parse(text, port) {
            Ok(address) => Ok(address),
            Err(error) => invalid(field, error.to_string()),
        },
    }
}

fn log_style(format: Option<&str>) -> Result<Option<LogStyle>, Invalid> {
    match format {
        None | Some("") => Ok(None),
        Some("text") => Ok(Some(LogStyle::Text)),
        Some("json") => Ok(Some(LogStyle::Json)),
        Some(other) => invalid("logging.format", format!("`{other}` is neither text nor json")),
    }
}

/// Of the mode that kube-proxy would run in.
fn sync_period(document: &Document) -> Period {
    let given = match document.mode.as_deref() {
        Some("ipvs") => document.ipvs.as_ref().and_then(|section| section.sync_period),
        Some("nftables") => document.nftables.as_ref().and_then(|section| section.sync_period),
        _ => document.iptables.as_ref().and_then(|section| section.sync_period),
    };
    given
        .filter(|period| !period.is_zero())
        .unwrap_or(Period::seconds(30))
}

/// As in kube-proxy, nought leaves a time as it is.
fn lives(document: &Document) -> FlowLives {
    let conntrack = document.conntrack.clone().unwrap_or_default();
    let usual = FlowLives::default();
    let life = |period: Option<Period>, usual| match period {
        Some(period) if !period.is_zero() => period.0,
        _ => usual,
    };
    FlowLives {
        tcp_established: life(conntrack.tcp_established_timeout, usual.tcp_established),
        tcp_half_closed: life(conntrack.tcp_close_wait_timeout, usual.tcp_half_closed),
        udp_embryo: life(conntrack.udp_timeout, usual.udp_embryo),
        udp_established: life(conntrack.udp_stream_timeout, usual.udp_established),
    }
}
