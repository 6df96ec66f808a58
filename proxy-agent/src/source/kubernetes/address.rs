//! Whether the API server is reached through a cluster IP: one that this very agent provides, so that a node that
//! starts without it never gets it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::source::{Change, ClusterIp, Object, ServiceCidr};

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
    pub(super) fn see_ranges(&mut self, cidr: &ServiceCidr) -> Vec<String> {
        let within = |address: &IpAddr| {
            let ranges = cidr.spec.cidrs.iter();
            let ranges = ranges.filter_map(|range| IpNet::new(range.address, range.length).ok());
            ranges.into_iter().any(|range| range.contains(address))
        };
        self.look(within, || {
            format!(
                "in the ServiceCIDR {}, the range of cluster IPs",
                cidr.metadata.name
            )
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
    use super::super::kind::{Kind, ServiceCidrs, Services};
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
        let mut see = |name: &str, range: &str| {
            let text = format!(r#"{{"metadata": {{"name": "{name}"}}, "spec": {{"cidrs": ["{range}"]}}}}"#);
            match ServiceCidrs::read(&text) {
                Ok(Object::ServiceCidr(cidr)) => addresses.see_ranges(&cidr),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(see("other", "10.0.0.0/24"), [""; 0]);
        let warnings = see("kubernetes", "10.96.0.0/12");
        assert!(warnings[0].contains("ServiceCIDR kubernetes"), "{warnings:?}");
    }
}
