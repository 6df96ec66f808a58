//! KubeProxyConfiguration v1alpha1, all of it. A field that is not given is `None`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::value::Period;

/// The kind of the document.
pub const KIND: &str = "KubeProxyConfiguration";
/// The group of its version.
pub const GROUP: &str = "kubeproxy.config.k8s.io";
/// Its apiVersion.
pub const VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";

macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub struct $name {
            $(
                #[doc = concat!("`", stringify!($field), "`, in camelCase.")]
                #[serde(skip_serializing_if = "Option::is_none")]
                $(#[$attribute])*
                pub $field: Option<$type>,
            )+
        }
    };
}

section! {
    /// KubeProxyConfiguration.
    Document {
        api_version: String,
        kind: String,
        feature_gates: BTreeMap<String, bool>,
        client_connection: ClientConnection,
        logging: Logging,
        hostname_override: String,
        bind_address: String,
        healthz_bind_address: String,
        metrics_bind_address: String,
        bind_address_hard_fail: bool,
        enable_profiling: bool,
        show_hidden_metrics_for_version: String,
        mode: String,
        iptables: Iptables,
        ipvs: Ipvs,
        nftables: Nftables,
        winkernel: Winkernel,
        detect_local_mode: String,
        detect_local: DetectLocal,
        #[serde(rename = "clusterCIDR")]
        cluster_cidr: String,
        node_port_addresses: Vec<String>,
        oom_score_adj: i32,
        conntrack: Conntrack,
        config_sync_period: Period,
        port_range: String,
        windows_run_as_service: bool,
    }
}

section! {
    /// clientConnection.
    ClientConnection {
        kubeconfig: String,
        accept_content_types: String,
        content_type: String,
        qps: f64,
        burst: i32,
    }
}

section! {
    /// logging.
    Logging {
        format: String,
        flush_frequency: FlushFrequency,
        verbosity: u32,
        vmodule: Vec<VerboseModule>,
        options: LogOptions,
    }
}

/// logging.flushFrequency: a time span, or nanoseconds as older files have them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FlushFrequency {
    /// Nanoseconds.
    Nanoseconds(u64),
    /// A time span.
    Period(Period),
}

section! {
    /// One of logging.vmodule.
    VerboseModule {
        file_pattern: String,
        verbosity: u32,
    }
}

section! {
    /// logging.options.
    LogOptions {
        text: LogStreams,
        json: LogStreams,
    }
}

section! {
    /// logging.options.text and logging.options.json.
    LogStreams {
        split_stream: bool,
        info_buffer_size: serde_json::Value,
    }
}

section! {
    /// iptables.
    Iptables {
        masquerade_bit: i32,
        masquerade_all: bool,
        localhost_node_ports: bool,
        sync_period: Period,
        min_sync_period: Period,
    }
}

section! {
    /// nftables.
    Nftables {
        masquerade_bit: i32,
        masquerade_all: bool,
        sync_period: Period,
        min_sync_period: Period,
    }
}

section! {
    /// ipvs.
    Ipvs {
        sync_period: Period,
        min_sync_period: Period,
        scheduler: String,
        #[serde(rename = "excludeCIDRs")]
        exclude_cidrs: Vec<String>,
        #[serde(rename = "strictARP")]
        strict_arp: bool,
        tcp_timeout: Period,
        tcp_fin_timeout: Period,
        udp_timeout: Period,
    }
}

section! {
    /// winkernel.
    Winkernel {
        network_name: String,
        source_vip: String,
        #[serde(rename = "enableDSR")]
        enable_dsr: bool,
        root_hns_endpoint_name: String,
        forward_health_check_vip: bool,
    }
}

section! {
    /// detectLocal.
    DetectLocal {
        bridge_interface: String,
        interface_name_prefix: String,
    }
}

section! {
    /// conntrack.
    Conntrack {
        max_per_core: i32,
        min: i32,
        tcp_established_timeout: Period,
        tcp_close_wait_timeout: Period,
        tcp_be_liberal: bool,
        udp_timeout: Period,
        udp_stream_timeout: Period,
    }
}
