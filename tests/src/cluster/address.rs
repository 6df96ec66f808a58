//! The cluster's addresses. Every cluster has the same: they never meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::Pair;

/// The API server's, and the nodes' gateway.
pub const CONTROL_PLANE: Pair = Pair {
    v4: Ipv4Addr::new(172, 31, 99, 1),
    v6: Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 1),
};
/// The API server's Service.
pub const API_SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));
/// Where Services' cluster addresses come from; no node address may lie in it.
pub const SERVICES: &str = "10.96.0.0/16,fd00:96::/112";
/// Where pods' addresses come from.
pub const PODS: &str = "10.244.0.0/16,fd00:244::/32";
/// The same, a family each.
pub const POD_NETWORKS: [&str; 2] = ["10.244.0.0/16", "fd00:244::/32"];
/// The API server's port.
pub const API_PORT: u16 = 6443;
/// The DNS Service's.
pub const DNS: &str = "10.96.0.10";

/// A node's.
pub const fn node(number: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(172, 31, 99, 10 + number),
        v6: Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 10 + number as u16),
    }
}

/// The networks of a node's pods.
pub fn pods(number: u8) -> [String; 2] {
    [format!("10.244.{number}.0/24"), format!("fd00:244:{number}::/64")]
}
