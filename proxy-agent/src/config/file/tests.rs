use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::config::{LocalMode, LogStyle, advise};

/// What kubeadm writes for a cluster of its defaults.
const KUBEADM: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: \"\"
  burst: 0
  contentType: \"\"
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: \"\"
  interfaceNamePrefix: \"\"
detectLocalMode: \"\"
enableProfiling: false
healthzBindAddress: \"\"
hostnameOverride: \"\"
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: \"\"
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: \"0\"
    text:
      infoBufferSize: \"0\"
  verbosity: 0
metricsBindAddress: \"\"
mode: \"\"
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: \"\"
showHiddenMetricsForVersion: \"\"
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: \"\"
  rootHnsEndpointName: \"\"
  sourceVip: \"\"
";

/// Every field, with a value that is not kube-proxy's default.
const ALL: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
featureGates: {A: true}
clientConnection: {kubeconfig: /k, acceptContentTypes: a, contentType: b, qps: 7.5, burst: 9}
logging:
  format: json
  flushFrequency: 5s
  verbosity: 4
  vmodule: [{filePattern: a, verbosity: 1}]
  options: {text: {splitStream: true, infoBufferSize: 1Ki}, json: {splitStream: true, infoBufferSize: 1}}
hostnameOverride: ' Node-1 '
bindAddress: 10.0.0.1
healthzBindAddress: 127.0.0.1:1
metricsBindAddress: 127.0.0.1:2
bindAddressHardFail: true
enableProfiling: true
showHiddenMetricsForVersion: '1.30'
mode: nftables
iptables: {masqueradeBit: 3, masqueradeAll: true, localhostNodePorts: false, syncPeriod: 1s, minSyncPeriod: 2s}
nftables: {masqueradeBit: 3, masqueradeAll: true, syncPeriod: 40s, minSyncPeriod: 2s}
ipvs:
  syncPeriod: 1s
  minSyncPeriod: 2s
  scheduler: sh
  excludeCIDRs: [10.0.0.0/8]
  strictARP: true
  tcpTimeout: 3s
  tcpFinTimeout: 4s
  udpTimeout: 5s
winkernel: {networkName: a, sourceVip: b, enableDSR: true, rootHnsEndpointName: c, forwardHealthCheckVip: true}
detectLocalMode: BridgeInterface
detectLocal: {bridgeInterface: br0, interfaceNamePrefix: veth}
clusterCIDR: 10.0.0.0/8,fd00::/8
nodePortAddresses: [primary]
oomScoreAdj: -500
conntrack:
  maxPerCore: 1
  min: 2
  tcpEstablishedTimeout: 2h
  tcpCloseWaitTimeout: 10m
  tcpBeLiberal: true
  udpTimeout: 20s
  udpStreamTimeout: 2m
configSyncPeriod: 1m
portRange: 1-2
windowsRunAsService: true
";

/// Those that the agent uses: all others it must name.
const USED: [&str; 19] = [
    "detectLocalMode",
    // The mode's own.
    "detectLocal.bridgeInterface",
    "nodePortAddresses",
    "apiVersion",
    "kind",
    "clientConnection.kubeconfig",
    "logging.format",
    "logging.verbosity",
    // Each line is flushed.
    "logging.flushFrequency",
    "hostnameOverride",
    "healthzBindAddress",
    "metricsBindAddress",
    "bindAddressHardFail",
    // The sync period of the mode that is chosen.
    "iptables.syncPeriod",
    "nftables.syncPeriod",
    "ipvs.syncPeriod",
    "conntrack.tcpEstablishedTimeout",
    "conntrack.tcpCloseWaitTimeout",
    "conntrack.udpTimeout",
];

fn paths(prefix: &str, value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) if prefix != "featureGates" => {
            for (key, value) in map {
                let path = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                paths(&path, value, found);
            }
        }
        _ => drop(found.insert(prefix.to_owned())),
    }
}

#[test]
fn every_field_is_used_or_named() {
    let (document, _) = parse("config.yaml", ALL).unwrap();
    let mut given = BTreeSet::new();
    paths("", &serde_json::to_value(&document).unwrap(), &mut given);
    let named: BTreeSet<String> = advise(&document)
        .iter()
        .map(|advice| advice.field.to_owned())
        .collect();
    let used = USED
        .into_iter()
        .chain(["conntrack.udpStreamTimeout"])
        .map(str::to_owned);
    let covered: BTreeSet<String> = named.iter().cloned().chain(used).collect();
    assert_eq!(given, covered);
    let default = serde_json::to_value(crate::config::Document::default()).unwrap();
    assert_eq!(
        default,
        serde_json::json!({}),
        "nothing is there that was not given"
    );
}

#[test]
fn what_is_used_is_taken_from_its_field() {
    let settings = parse("config.yaml", ALL).unwrap().1;
    let address = |address: Option<crate::serve::BindAddress>| address.unwrap().to_string();
    assert_eq!(
        (address(settings.healthz), address(settings.metrics)),
        ("127.0.0.1:1".into(), "127.0.0.1:2".into())
    );
    assert_eq!(settings.node_name.as_deref(), Some("node-1"));
    assert_eq!(settings.kubeconfig, Some("/k".into()));
    assert_eq!((settings.must_bind, settings.verbosity), (true, 4));
    assert_eq!(
        (settings.log_style, settings.late),
        (Some(LogStyle::Json), Duration::from_secs(80))
    );
    let seconds = |life: Duration| life.as_secs();
    assert_eq!(
        (
            seconds(settings.lives.tcp_established),
            seconds(settings.lives.tcp_half_closed)
        ),
        (7200, 600)
    );
    assert_eq!(
        (
            seconds(settings.lives.udp_embryo),
            seconds(settings.lives.udp_established)
        ),
        (20, 120)
    );
}

#[test]
fn what_kubeadm_writes_changes_the_kubeconfig_and_the_ranges_of_pods() {
    let (document, settings) = parse("config.yaml", KUBEADM).unwrap();
    let bare = format!("apiVersion: {VERSION}\nkind: {KIND}\n");
    let expected = Settings {
        kubeconfig: Some("/var/lib/kube-proxy/kubeconfig.conf".into()),
        local_mode: LocalMode::ClusterCidr(vec!["10.244.0.0/16".parse().unwrap()]),
        ..parse("config.yaml", &bare).unwrap().1
    };
    assert_eq!(settings, expected);
    let named: Vec<&str> = advise(&document).iter().map(|advice| advice.field).collect();
    assert_eq!(named, [""; 0]);
}

#[test]
fn what_is_wrong_is_refused_by_name_and_line() {
    let head = format!("apiVersion: {VERSION}\nkind: {KIND}\n");
    for (rest, expected) in [
        ("iptables:\n  masqueradeal: true\n", "config.yaml:4:3: iptables"),
        ("healthBindAddress: 0.0.0.0\n", "config.yaml:3:1: "),
        ("oomScoreAdj: -999\noomScoreAdj: -998\n", "config.yaml:4:1: "),
        ("ipvs: {syncPeriod: 30}\n", "config.yaml:3:"),
        (
            "mode: userspace\n",
            "config.yaml:3:7: mode: `userspace` is none of",
        ),
        (
            "metricsBindAddress: localhost:1\n",
            "config.yaml:3:21: metricsBindAddress: `localhost:1` is no address",
        ),
        (
            "logging: {format: xml}\n",
            "config.yaml:3:19: logging.format: `xml` is neither text nor json",
        ),
        (
            "conntrack: {udpTimeout: 481h}\n",
            "config.yaml:3:25: conntrack.udpTimeout: it is longer than 480h",
        ),
        (
            "nodePortAddresses: [a]\n",
            "config.yaml:3:20: nodePortAddresses: `a` is no network",
        ),
    ] {
        let error = parse("config.yaml", &(head.clone() + rest))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(expected), "{rest}: {error}");
        let key = rest
            .trim()
            .lines()
            .last()
            .unwrap()
            .split(':')
            .next()
            .unwrap()
            .trim();
        assert!(error.contains(key), "{rest}: {error}");
    }
    let error = parse("config.yaml", "mode: ipvs\n").unwrap_err().to_string();
    assert!(error.contains("it must say apiVersion"), "{error}");
    let newer = format!("apiVersion: kubeproxy.config.k8s.io/v1alpha2\nkind: {KIND}\n");
    let error = parse("config.yaml", &newer).unwrap_err().to_string();
    assert!(
        error.starts_with("config.yaml:1:13: apiVersion: it is not"),
        "{error}"
    );
}

#[test]
fn the_gate_of_external_addresses_means_something_and_the_others_are_named() {
    for (gates, has_external_ips, named) in [
        ("{}", true, &[][..]),
        ("{AllowServiceExternalIPs: true}", true, &[]),
        ("{AllowServiceExternalIPs: false}", false, &[]),
        (
            "{AllowServiceExternalIPs: false, Other: true}",
            false,
            &["featureGates"],
        ),
    ] {
        let text = format!("apiVersion: {VERSION}\nkind: {KIND}\nfeatureGates: {gates}\n");
        let (document, settings) = parse("config.yaml", &text).unwrap();
        let fields: Vec<&str> = advise(&document).iter().map(|advice| advice.field).collect();
        assert_eq!(
            (settings.has_external_ips, &fields[..]),
            (has_external_ips, named),
            "{gates}"
        );
    }
}

#[test]
fn each_way_to_tell_pods_needs_what_it_goes_by() {
    let head = format!("apiVersion: {VERSION}\nkind: {KIND}\n");
    let mode =
        |rest: &str| parse("config.yaml", &format!("{head}{rest}")).map(|(_, settings)| settings.local_mode);
    for (rest, expected) in [
        ("detectLocalMode: ClusterCIDR\n", LocalMode::Unset),
        ("detectLocalMode: NodeCIDR\n", LocalMode::NodeCidr),
        (
            "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cbr0}\n",
            LocalMode::Bridge("cbr0".into()),
        ),
        (
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}\n",
            LocalMode::Prefix("veth".into()),
        ),
    ] {
        assert_eq!(mode(rest).unwrap(), expected, "{rest}");
    }
    for (rest, field) in [
        (
            "detectLocalMode: BridgeInterface\n",
            "detectLocal.bridgeInterface",
        ),
        (
            "detectLocalMode: InterfaceNamePrefix\n",
            "detectLocal.interfaceNamePrefix",
        ),
        ("clusterCIDR: 10.0.0.0\n", "clusterCIDR"),
    ] {
        let error = mode(rest).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}
