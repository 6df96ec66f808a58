//! What of kube-proxy's configuration does nothing here, and what to do instead.

use std::fmt;

use super::document::Document;
use super::settings::EXTERNAL_IPS;
use super::value::Period;

/// A field that is given and not used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advice {
    /// The field's path.
    pub field: &'static str,
    /// Why it is not used, and what to do.
    pub what_to_do: &'static str,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what_to_do)
    }
}

const API: &str = "the API is watched as it suits the agent: take it out";
const AT_ONCE: &str = "a change reaches the maps at once: take it out";
const MARK: &str = "packets are not marked for masquerading: take it out";
const MASQUERADE_ALL: &str =
    "source addresses are kept wherever replies find their way back: let the CNI masquerade if pods need it";
const WINDOWS: &str = "this is not Windows: take it out";
const IPVS: &str = "there is no IPVS here: take it out";
const LOGS: &str = "each line is written at once, to the standard error output: take it out";
const CONNTRACK: &str = "Shunt needs no conntrack and leaves its limits alone: if the CNI needs them, set \
                         net.netfilter.nf_conntrack_max (sysctl) on the node";

/// The fields that are given, are not used, and would change something in kube-proxy.
pub fn advise(document: &Document) -> Vec<Advice> {
    let mut advices = Advices(Vec::new());
    advices.general(document);
    advices.logging(document);
    advices.modes(document);
    advices.local(document);
    advices.conntrack(document);
    advices.0
}

struct Advices(Vec<Advice>);

fn text(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

fn period(value: Option<Period>) -> Option<Period> {
    value.filter(|period| !period.is_zero())
}

impl Advices {
    fn when(&mut self, condition: bool, field: &'static str, what_to_do: &'static str) {
        if condition {
            self.0.push(Advice { field, what_to_do });
        }
    }

    fn general(&mut self, document: &Document) {
        let gates = document.feature_gates.as_ref();
        self.when(
            gates.is_some_and(|gates| gates.keys().any(|name| name != EXTERNAL_IPS)),
            "featureGates",
            "of kube-proxy's gates AllowServiceExternalIPs alone means something here: take the others out",
        );
        let client = document.client_connection.clone().unwrap_or_default();
        self.when(
            text(&client.accept_content_types).is_some(),
            "clientConnection.acceptContentTypes",
            API,
        );
        let content_type = text(&client.content_type);
        let is_usual = |text: &str| text == "application/vnd.kubernetes.protobuf";
        self.when(
            content_type.is_some_and(|text| !is_usual(text)),
            "clientConnection.contentType",
            API,
        );
        self.when(
            client.qps.is_some_and(|qps| ![0.0, 5.0].contains(&qps)),
            "clientConnection.qps",
            API,
        );
        self.when(
            client.burst.is_some_and(|burst| ![0, 10].contains(&burst)),
            "clientConnection.burst",
            API,
        );
        let address = text(&document.bind_address);
        self.when(
            address.is_some_and(|text| !["0.0.0.0", "::"].contains(&text)),
            "bindAddress",
            "addresses are read from the node's interfaces: give --uplinks if those are the wrong ones",
        );
        self.when(
            document.enable_profiling == Some(true),
            "enableProfiling",
            "there is no /debug/pprof: use perf on the process",
        );
        self.when(
            text(&document.show_hidden_metrics_for_version).is_some(),
            "showHiddenMetricsForVersion",
            "no metric is hidden: take it out",
        );
        self.when(
            document.oom_score_adj.is_some_and(|score| score != -999),
            "oomScoreAdj",
            "the agent keeps the score that it was started with: give its pod the priority class \
             system-node-critical, or OOMScoreAdjust= to its unit",
        );
        let is_usual = |period: Period| period == Period::seconds(900);
        self.when(
            period(document.config_sync_period).is_some_and(|period| !is_usual(period)),
            "configSyncPeriod",
            API,
        );
        self.when(
            text(&document.port_range).is_some(),
            "portRange",
            "kube-proxy does not use it either: take it out",
        );
        self.when(
            document.windows_run_as_service == Some(true),
            "windowsRunAsService",
            WINDOWS,
        );
    }

    fn logging(&mut self, document: &Document) {
        let logging = document.logging.clone().unwrap_or_default();
        let modules = logging.vmodule.as_ref();
        self.when(
            modules.is_some_and(|modules| !modules.is_empty()),
            "logging.vmodule",
            "its patterns are of Go's files: name modules in the environment variable SHUNT_LOG",
        );
        let streams = logging.options.unwrap_or_default();
        for (streams, split, buffer) in [
            (
                streams.text,
                "logging.options.text.splitStream",
                "logging.options.text.infoBufferSize",
            ),
            (
                streams.json,
                "logging.options.json.splitStream",
                "logging.options.json.infoBufferSize",
            ),
        ] {
            let streams = streams.unwrap_or_default();
            self.when(streams.split_stream == Some(true), split, LOGS);
            let size = streams.info_buffer_size.map(|size| size.to_string());
            self.when(
                size.is_some_and(|size| !["0", "\"0\""].contains(&&*size)),
                buffer,
                LOGS,
            );
        }
    }

    fn modes(&mut self, document: &Document) {
        self.when(
            text(&document.mode).is_some(),
            "mode",
            "there is one mode here, by eBPF: take it out",
        );
        let iptables = document.iptables.clone().unwrap_or_default();
        self.when(
            iptables.masquerade_bit.is_some_and(|bit| bit != 14),
            "iptables.masqueradeBit",
            MARK,
        );
        self.when(
            iptables.masquerade_all == Some(true),
            "iptables.masqueradeAll",
            MASQUERADE_ALL,
        );
        self.when(
            iptables.localhost_node_ports == Some(false),
            "iptables.localhostNodePorts",
            "the host alone reaches NodePorts at loopback addresses: give nodePortAddresses without `localhost` if it \
             must not",
        );
        let usual = Period::seconds(1);
        let min = |period: Option<Period>| period.is_some_and(|period| !period.is_zero() && period != usual);
        self.when(min(iptables.min_sync_period), "iptables.minSyncPeriod", AT_ONCE);
        let nftables = document.nftables.clone().unwrap_or_default();
        self.when(
            nftables.masquerade_bit.is_some_and(|bit| bit != 14),
            "nftables.masqueradeBit",
            MARK,
        );
        self.when(
            nftables.masquerade_all == Some(true),
            "nftables.masqueradeAll",
            MASQUERADE_ALL,
        );
        self.when(min(nftables.min_sync_period), "nftables.minSyncPeriod", AT_ONCE);
        self.ipvs(document);
        let windows = document.winkernel.clone().unwrap_or_default();
        self.when(
            text(&windows.network_name).is_some(),
            "winkernel.networkName",
            WINDOWS,
        );
        self.when(
            text(&windows.source_vip).is_some(),
            "winkernel.sourceVip",
            WINDOWS,
        );
        self.when(windows.enable_dsr == Some(true), "winkernel.enableDSR", WINDOWS);
        self.when(
            text(&windows.root_hns_endpoint_name).is_some(),
            "winkernel.rootHnsEndpointName",
            WINDOWS,
        );
        self.when(
            windows.forward_health_check_vip == Some(true),
            "winkernel.forwardHealthCheckVip",
            WINDOWS,
        );
    }

    fn ipvs(&mut self, document: &Document) {
        let ipvs = document.ipvs.clone().unwrap_or_default();
        self.when(
            period(ipvs.min_sync_period).is_some(),
            "ipvs.minSyncPeriod",
            AT_ONCE,
        );
        let scheduler = text(&ipvs.scheduler);
        self.when(
            scheduler.is_some_and(|scheduler| scheduler != "rr"),
            "ipvs.scheduler",
            "each new flow takes an endpoint at random: take it out",
        );
        let excluded = ipvs.exclude_cidrs.as_ref();
        self.when(
            excluded.is_some_and(|cidrs| !cidrs.is_empty()),
            "ipvs.excludeCIDRs",
            IPVS,
        );
        self.when(
            ipvs.strict_arp == Some(true),
            "ipvs.strictARP",
            "no cluster or load balancer address is on an interface, so that nobody answers ARP for one: take it out",
        );
        let timeouts =
            "connections live as conntrack.* says: give conntrack.tcpEstablishedTimeout and its like";
        self.when(period(ipvs.tcp_timeout).is_some(), "ipvs.tcpTimeout", timeouts);
        self.when(
            period(ipvs.tcp_fin_timeout).is_some(),
            "ipvs.tcpFinTimeout",
            timeouts,
        );
        self.when(period(ipvs.udp_timeout).is_some(), "ipvs.udpTimeout", timeouts);
    }

    fn local(&mut self, document: &Document) {
        let mode = text(&document.detect_local_mode).unwrap_or("ClusterCIDR");
        let local = document.detect_local.clone().unwrap_or_default();
        for (given, field, its_mode) in [
            (
                &local.bridge_interface,
                "detectLocal.bridgeInterface",
                "BridgeInterface",
            ),
            (
                &local.interface_name_prefix,
                "detectLocal.interfaceNamePrefix",
                "InterfaceNamePrefix",
            ),
            (&document.cluster_cidr, "clusterCIDR", "ClusterCIDR"),
        ] {
            self.when(
                text(given).is_some() && mode != its_mode,
                field,
                "detectLocalMode does not go by it: take it out, or change the mode",
            );
        }
    }

    fn conntrack(&mut self, document: &Document) {
        let conntrack = document.conntrack.clone().unwrap_or_default();
        self.when(
            conntrack
                .max_per_core
                .is_some_and(|max| ![0, 32_768].contains(&max)),
            "conntrack.maxPerCore",
            CONNTRACK,
        );
        self.when(
            conntrack.min.is_some_and(|min| ![0, 131_072].contains(&min)),
            "conntrack.min",
            CONNTRACK,
        );
        self.when(
            conntrack.tcp_be_liberal == Some(true),
            "conntrack.tcpBeLiberal",
            "Shunt translates packets whatever their sequence numbers are: take it out, or set \
             net.netfilter.nf_conntrack_tcp_be_liberal (sysctl) for the CNI's sake",
        );
    }
}
