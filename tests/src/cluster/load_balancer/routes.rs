//! The way from the load balancer's addresses to nodes: routes in its network namespace.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::address::Pair;
use crate::cluster::address;
use crate::ip;

/// How long a node may take to tell its health.
const PATIENCE: Duration = Duration::from_millis(400);

/// Whence calls come to the load balancer, far from the nodes' network, as on the Internet.
const CLIENT: Pair = Pair {
    v4: Ipv4Addr::new(203, 0, 113, 1),
    v6: Ipv6Addr::new(0xfd00, 0x97, 0, 0, 0, 0, 0, 1),
};

/// Routes that stand.
#[derive(Debug)]
pub(super) struct Routes {
    nodes: u8,
    standing: BTreeMap<IpAddr, Vec<u8>>,
}

impl Routes {
    /// None; connections of one client will be spread over nodes.
    pub(super) fn new(nodes: u8) -> Result<Self> {
        for family in ["ipv4", "ipv6"] {
            let file = format!("/proc/sys/net/{family}/fib_multipath_hash_policy");
            std::fs::write(&file, "1").with_context(|| format!("writing {file}"))?;
        }
        run(&format!("address replace {}/32 dev lo", CLIENT.v4))?;
        run(&format!("address replace {}/128 dev lo", CLIENT.v6))?;
        Ok(Self {
            nodes,
            standing: BTreeMap::new(),
        })
    }

    /// Leads these Services' addresses to nodes, and no others.
    pub(super) async fn set(&mut self, services: &[(&Service, Vec<IpAddr>)]) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for (service, addresses) in services {
            let nodes = self.nodes_for(service).await;
            wanted.extend(addresses.iter().map(|address| (*address, nodes.clone())));
        }
        let gone: Vec<_> = self
            .standing
            .keys()
            .filter(|&address| !wanted.contains_key(address))
            .copied()
            .collect();
        for address in gone {
            run(&format!("route delete {address}"))?;
            self.standing.remove(&address);
        }
        for (address, nodes) in wanted {
            if self.standing.get(&address) != Some(&nodes) {
                run(&way(address, &nodes))?;
                self.standing.insert(address, nodes);
            }
        }
        Ok(())
    }

    /// All nodes; with the policy Local those that say that they have an endpoint.
    async fn nodes_for(&self, service: &Service) -> Vec<u8> {
        let spec = service.spec.as_ref();
        let all = 1..=self.nodes;
        let mut nodes: Vec<_> = match spec.and_then(|spec| spec.health_check_node_port) {
            Some(port) if port > 0 => {
                let answers = all.clone().map(|node| is_healthy(node, port));
                let answers = futures::future::join_all(answers).await;
                all.zip(answers)
                    .filter(|(_, healthy)| *healthy)
                    .map(|(node, _)| node)
                    .collect()
            }
            _ => all.collect(),
        };
        if spec.and_then(|spec| spec.session_affinity.as_deref()) == Some("ClientIP") {
            // A client stays with one node. There is one client.
            nodes.truncate(1);
        }
        nodes
    }
}

fn way(address: IpAddr, nodes: &[u8]) -> String {
    if nodes.is_empty() {
        return format!("route replace unreachable {address}");
    }
    let source: IpAddr = if address.is_ipv4() {
        CLIENT.v4.into()
    } else {
        CLIENT.v6.into()
    };
    let mut command = format!("route replace {address} src {source}");
    for &node in nodes {
        let node = address::node(node);
        let via: IpAddr = if address.is_ipv4() {
            node.v4.into()
        } else {
            node.v6.into()
        };
        command.push_str(&format!(" nexthop via {via}"));
    }
    command
}

fn run(command: &str) -> Result<()> {
    ip::run(Command::new("ip").args(command.split(' ')))
}

/// What the node's health check of a Service says.
async fn is_healthy(node: u8, port: i32) -> bool {
    let Ok(port) = u16::try_from(port) else {
        return false;
    };
    let ask = async {
        let address = SocketAddr::from((address::node(node).v4, port));
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: node\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(answer)) => answer.get(9..12) == Some(b"200"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_leads_to_each_node_in_its_family_or_nowhere() {
        let v4 = "198.18.0.1".parse().unwrap();
        assert_eq!(
            way(v4, &[1, 3]),
            "route replace 198.18.0.1 src 203.0.113.1 nexthop via 172.31.99.11 nexthop via 172.31.99.13"
        );
        let v6 = "fd00:98::1".parse().unwrap();
        assert_eq!(
            way(v6, &[2]),
            "route replace fd00:98::1 src fd00:97::1 nexthop via fd00:99::c"
        );
        assert_eq!(way(v4, &[]), "route replace unreachable 198.18.0.1");
    }
}
