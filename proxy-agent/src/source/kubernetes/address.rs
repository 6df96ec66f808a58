//! Whether the API server is reached through a cluster IP: one that this very agent provides, so that a node that
//! starts without it never gets it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::source::{Change, ClusterIp, Object};

/// A server of the API and the addresses that its name stands for.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) url: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// Looks at what arrives; each finding is told once.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    servers: Vec<Server>,
    told: BTreeSet<String>,
}

impl Addresses {
    pub(super) fn new(servers: Vec<Server>) -> Self {
        Self {
            servers,
            ..Self::default()
        }
    }

    /// Warnings for changes that show it.
    pub(super) fn see_changes(&mut self, changes: &[Change]) -> Vec<String> {
        let mut warnings = Vec::new();
        for change in changes {
            let Change::Upsert(Object::Service(service)) = change else {
                continue;
            };
            let spec = &service.spec;
            let ips = spec.cluster_ips.iter().chain([&spec.cluster_ip]);
            for ip in ips {
                let ClusterIp::Address(ip) = ip else { continue };
                let owner = || format!("the cluster IP of the Service {}", service.metadata.object_name());
                warnings.extend(self.look(|address| address == ip, owner));
            }
        }
        warnings
    }

    /// Warnings for a range of cluster IPs.
    pub(super) fn see_ranges(&mut self, name: &str, ranges: &[IpNet]) -> Vec<String> {
        let within = |address: &IpAddr| ranges.iter().any(|range| range.contains(address));
        self.look(within, || {
            format!("in the ServiceCIDR {name}, the range of cluster IPs")
        })
    }

    fn look(&mut self, is_it: impl Fn(&IpAddr) -> bool, owner: impl Fn() -> String) -> Vec<String> {
        let mut warnings = Vec::new();
        for server in &self.servers {
            let found = server.addresses.iter().find(|address| is_it(address));
            if let Some(address) = found
                && self.told.insert(server.url.clone())
            {
                warnings.push(format!(
                    "the API server {} is reached at {address}, which is {}: this agent provides that address itself, and a \
                     node that starts without it never gets it; name the API servers' own addresses with --master",
                    server.url,
                    owner()
                ));
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::super::kind::{Kind, Services};
    use super::*;

    fn addresses() -> Addresses {
        let server = |url: &str, address: &str| Server {
            url: url.into(),
            addresses: vec![address.parse().unwrap()],
        };
        Addresses::new(vec![
            server("https://192.0.2.1:6443", "192.0.2.1"),
            server("https://kubernetes.default", "10.96.0.1"),
        ])
    }

    #[test]
    fn a_server_behind_a_cluster_ip_is_named_once() {
        let service = Services::read(
            r#"{"metadata": {"name": "kubernetes", "namespace": "default"},
                "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 443}]}}"#,
        );
        let changes = [Change::Upsert(service.unwrap())];
        let mut addresses = addresses();
        let warnings = addresses.see_changes(&changes);
        assert_eq!(warnings.len(), 1);
        for part in [
            "https://kubernetes.default ",
            "10.96.0.1",
            "default/kubernetes",
            "--master",
        ] {
            assert!(warnings[0].contains(part), "{warnings:?}");
        }
        assert_eq!(addresses.see_changes(&changes), [""; 0]);
    }

    #[test]
    fn a_server_within_the_range_of_cluster_ips_is_named() {
        let mut addresses = addresses();
        assert_eq!(
            addresses.see_ranges("other", &["10.0.0.0/24".parse().unwrap()]),
            [""; 0]
        );
        let warnings = addresses.see_ranges("kubernetes", &["10.96.0.0/12".parse().unwrap()]);
        assert!(warnings[0].contains("ServiceCIDR kubernetes"), "{warnings:?}");
    }
}
