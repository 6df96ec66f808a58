//! Who enforces NetworkPolicy on this node, by what it leaves there. Pure.

/// What a node shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Tables of nftables.
    pub(super) tables: Vec<String>,
    /// Chains of nftables and of iptables in both variants.
    pub(super) chains: Vec<String>,
    /// Interfaces.
    pub(super) links: Vec<String>,
}

/// Who enforces policies, and what it was told by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its name.
    pub(super) engine: &'static str,
    /// What is there, such as `chain cali-FORWARD`.
    pub(super) sign: String,
}

/// Where a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Table,
    Chain,
    Link,
}

/// What a name begins with that only this engine makes. What a pod network makes without policies (a bridge, a vxlan device, flannel's
/// chains) is no sign; what makes policies by eBPF, past netfilter, shows by its interfaces.
const SIGNS: [(&str, Kind, &str); 20] = [
    ("Calico", Kind::Chain, "cali-"),
    ("Calico", Kind::Chain, "filter-cali-"),
    ("Calico", Kind::Table, "calico"),
    ("Calico", Kind::Link, "bpfin.cali"),
    ("kube-router", Kind::Chain, "KUBE-NWPLCY-"),
    ("kube-router", Kind::Chain, "KUBE-POD-FW-"),
    ("kube-router", Kind::Chain, "KUBE-ROUTER-FORWARD"),
    ("kube-network-policies", Kind::Table, "kube-network-policies"),
    ("kube-network-policies", Kind::Chain, "KUBE-NETWORK-POLICIES"),
    ("kindnet", Kind::Table, "kindnet-network-policies"),
    ("Cilium", Kind::Chain, "CILIUM_"),
    ("Cilium", Kind::Link, "cilium_"),
    ("Cilium", Kind::Link, "lxc_health"),
    ("Antrea", Kind::Chain, "ANTREA-"),
    ("Antrea", Kind::Link, "antrea-gw"),
    ("Weave Net", Kind::Chain, "WEAVE-NPC"),
    ("Romana", Kind::Chain, "ROMANA-"),
    ("Azure NPM", Kind::Chain, "AZURE-NPM"),
    ("OVN-Kubernetes", Kind::Link, "ovn-k8s-mp"),
    ("Kube-OVN", Kind::Link, "ovn0"),
];

/// The first engine that shows, in the order of the table above.
pub(super) fn detect(evidence: &Evidence) -> Option<Found> {
    SIGNS.iter().find_map(|(engine, kind, sign)| {
        let (names, word) = match kind {
            Kind::Table => (&evidence.tables, "nftables table"),
            Kind::Chain => (&evidence.chains, "chain"),
            Kind::Link => (&evidence.links, "interface"),
        };
        let name = names.iter().find(|name| name.starts_with(sign))?;
        Some(Found {
            engine,
            sign: format!("{word} {name}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_engine_is_told_by_what_it_leaves() {
        for (tables, chains, links, engine, sign) in [
            (
                "filter",
                "cali-FORWARD",
                "caliabc",
                "Calico",
                "chain cali-FORWARD",
            ),
            (
                "calico",
                "filter-cali-FORWARD",
                "eth0",
                "Calico",
                "chain filter-cali-FORWARD",
            ),
            ("calico", "forward", "eth0", "Calico", "nftables table calico"),
            (
                "nat",
                "POSTROUTING",
                "bpfin.cali",
                "Calico",
                "interface bpfin.cali",
            ),
            (
                "filter",
                "KUBE-POD-FW-67NZLRHBNDSAWJRO",
                "kube-bridge",
                "kube-router",
                "chain KUBE-POD-FW-67NZLRHBNDSAWJRO",
            ),
            (
                "kube-network-policies",
                "postrouting",
                "eth0",
                "kube-network-policies",
                "nftables table kube-network-policies",
            ),
            (
                "filter",
                "CILIUM_FORWARD",
                "eth0",
                "Cilium",
                "chain CILIUM_FORWARD",
            ),
            (
                "filter",
                "FORWARD",
                "cilium_host",
                "Cilium",
                "interface cilium_host",
            ),
            (
                "filter",
                "FORWARD",
                "antrea-gw0",
                "Antrea",
                "interface antrea-gw0",
            ),
            ("filter", "WEAVE-NPC", "weave", "Weave Net", "chain WEAVE-NPC"),
        ] {
            let evidence = Evidence {
                tables: texts(&[tables]),
                chains: texts(&["INPUT", chains]),
                links: texts(&["lo", links]),
            };
            let found = detect(&evidence).unwrap();
            assert_eq!((found.engine, found.sign.as_str()), (engine, sign));
        }
    }

    #[test]
    fn what_networks_and_service_proxies_make_is_no_sign() {
        let evidence = Evidence {
            tables: texts(&["filter", "nat", "mangle", "kube-proxy", "strict", "firewalld"]),
            chains: texts(&[
                "INPUT",
                "FORWARD",
                "FLANNEL-FWD",
                "FLANNEL-POSTRTG",
                "KUBE-SERVICES",
                "KUBE-FORWARD",
                "KUBE-FIREWALL",
                "KUBE-SVC-67NZLRHBNDSAWJRO",
                "CNI-HOSTPORT-DNAT",
                "CNI-0123456789abcdef",
                "DOCKER-USER",
                "ufw-user-forward",
                "local-cali-",
            ]),
            links: texts(&[
                "lo",
                "eth0",
                "cni0",
                "flannel.1",
                "veth0a1b2c3d",
                "weave",
                "cali0123",
            ]),
        };
        assert_eq!(detect(&evidence), None);
        assert_eq!(detect(&Evidence::default()), None);
    }
}
