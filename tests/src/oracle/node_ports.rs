//! A9: where NodePorts answer.

use std::net::IpAddr;

use super::answer::is_within;
use super::world::World;

/// An entry of nodePortAddresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePorts {
    /// The node's first address of each family.
    Primary,
    /// 127.0.0.0/8 and ::1.
    Localhost,
    /// Every address.
    All,
    /// The node's addresses of a network.
    Within(IpAddr, u8),
}

impl NodePorts {
    /// As the agent reads it.
    pub fn text(self) -> String {
        match self {
            Self::Primary => "primary".to_owned(),
            Self::Localhost => "localhost".to_owned(),
            Self::All => "all".to_owned(),
            Self::Within(address, length) => format!("{address}/{length}"),
        }
    }

    fn names_family(self, is_v4: bool) -> bool {
        match self {
            Self::Within(address, _) => address.is_ipv4() == is_v4,
            Self::Primary | Self::Localhost | Self::All => true,
        }
    }

    fn has(self, world: &World, address: IpAddr) -> bool {
        match self {
            Self::Primary => {
                let mut own = world.node_addresses.iter();
                own.find(|other| other.is_ipv4() == address.is_ipv4()) == Some(&address)
            }
            Self::Localhost => address.is_loopback(),
            Self::All => true,
            Self::Within(network, length) => is_within(address, (network, length)),
        }
    }
}

/// Whether an address is the node's, or loopback, and NodePorts answer there. A family that no entry names has all.
pub(super) fn answer_at(world: &World, address: IpAddr) -> bool {
    if !world.node_addresses.contains(&address) && !address.is_loopback() {
        return false;
    }
    let mut entries = world
        .node_ports
        .iter()
        .filter(|entry| entry.names_family(address.is_ipv4()))
        .peekable();
    entries.peek().is_none() || entries.any(|entry| entry.has(world, address))
}
