//! The lab's addresses. Every lab has the same: they never meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

impl std::fmt::Display for Family {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// An address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl Pair {
    /// The family's address.
    pub fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// The family's address with a port.
    pub fn at(self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.of(family), port)
    }
}

/// 127.0.0.1 and ::1.
pub const LOOPBACK: Pair = Pair {
    v4: Ipv4Addr::LOCALHOST,
    v6: Ipv6Addr::LOCALHOST,
};
/// The client outside.
pub const CLIENT: Pair = Pair {
    v4: Ipv4Addr::new(192, 168, 20, 1),
    v6: Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 1),
};
/// The network's address towards the client.
pub const CLIENT_GATEWAY: Pair = Pair {
    v4: Ipv4Addr::new(192, 168, 20, 254),
    v6: Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0xfe),
};
/// The network's address towards the nodes.
pub const NODE_GATEWAY: Pair = Pair {
    v4: Ipv4Addr::new(192, 168, 10, 254),
    v6: Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0xfe),
};
/// The load balancer's address.
pub const LOAD_BALANCER: Pair = Pair {
    v4: Ipv4Addr::new(203, 0, 113, 10),
    v6: Ipv6Addr::new(0xfd00, 0x203, 0, 0, 0, 0, 0, 0x10),
};
/// An address for externalIPs.
pub const EXTERNAL: Pair = Pair {
    v4: Ipv4Addr::new(198, 51, 100, 10),
    v6: Ipv6Addr::new(0xfd00, 0x198, 0, 0, 0, 0, 0, 0x10),
};
/// What the network routes to a node for load balancer addresses and externalIPs.
pub const ROUTED_TO_A_NODE: [&str; 4] = [
    "203.0.113.0/24",
    "198.51.100.0/24",
    "fd00:203::/64",
    "fd00:198::/64",
];

/// A node's own address; nodes count from 1.
pub const fn node(number: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(192, 168, 10, number),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, number as u16),
    }
}

/// A node's address in the tunnel between the nodes, which is its source address towards the other's pods.
pub const fn tunnel(number: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(192, 168, 30, number),
        v6: Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, number as u16),
    }
}

/// The address of a node's bridge; pods count from 2.
pub const fn pod_gateway(node: u8) -> Pair {
    pod(node, 1)
}

/// A pod's address.
pub const fn pod(node: u8, number: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(10, 244, node, number),
        v6: Ipv6Addr::new(0xfd00, 0x244, node as u16, 0, 0, 0, 0, number as u16),
    }
}

/// A node's pod networks.
pub fn pod_networks(node: u8) -> [String; 2] {
    [format!("10.244.{node}.0/24"), format!("fd00:244:{node}::/64")]
}

/// A cluster address.
pub const fn cluster(number: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(10, 96, 0, number),
        v6: Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, number as u16),
    }
}
