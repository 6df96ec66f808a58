//! What the tests need of an address family.

use std::fmt::Debug;
use std::hash::Hash;
use std::net::IpAddr;

use aya::Pod;
use proxy_common::layout::{FlowTable, NetworkList, Networks, V4, V6, names, protocol};
use proxy_common::rules::headers::Readable;

use super::bits::Bits;

/// The bytes of a key or value.
pub trait Packed: Pod + TryFrom<Vec<u8>> + AsRef<[u8]> {}
impl<const N: usize> Packed for [u8; N] {}

/// IPv4 or IPv6.
pub trait Kin: Readable + Hash + Bits + Into<IpAddr> + Debug {
    /// Bytes of an address.
    type Address: Packed;
    /// Bytes of a flow key.
    type Key: Packed;
    /// Bytes of a flow.
    type Flow: Packed;
    /// Bytes of a frontend key.
    type Frontend: Packed;
    /// Bytes of a fragment key.
    type Fragment: Packed;
    /// Bytes of a source range, without its prefix length.
    type SourceRange: Packed;
    /// Bits of an address.
    const BITS: u32;
    /// Name of the source ranges' map.
    const SOURCE_RANGES: &str;
    /// Name of the frontends' map.
    const FRONTENDS: &str;
    /// Name of the map of the addresses of Services.
    const VIPS: &str;
    /// Name of the node addresses' map.
    const NODE_ADDRESSES: &str;
    /// Name of the fragments' map.
    const FRAGMENTS: &str;

    /// Name of a flow table.
    fn table(table: FlowTable, ip_protocol: u8) -> &'static str;
    /// NETWORKS with these of the family: of cluster addresses, and of this node's pods.
    fn networks(service: NetworkList<Self>, local: NetworkList<Self>) -> Networks;
    /// From text.
    fn from_text(text: &str) -> Self;
    /// The address with this number in the last two bytes, of a prefix that the tests route: see [`super::wire`].
    fn of(prefix: u8, number: u16) -> Self;

    /// The address as the standard library knows it.
    fn mapped(&self) -> IpAddr {
        (*self).into()
    }
}

impl Kin for V4 {
    type Address = [u8; 4];
    type Key = [u8; 16];
    type Flow = [u8; 40];
    type Frontend = [u8; 8];
    type Fragment = [u8; 16];
    type SourceRange = [u8; 8];
    const BITS: u32 = 32;
    const SOURCE_RANGES: &str = names::SOURCE_RANGES4;
    const FRONTENDS: &str = names::FRONTENDS4;
    const VIPS: &str = names::VIPS4;
    const NODE_ADDRESSES: &str = names::NODE_ADDRESSES4;
    const FRAGMENTS: &str = names::FRAGMENTS4;

    fn table(table: FlowTable, ip_protocol: u8) -> &'static str {
        match (table, ip_protocol) {
            (FlowTable::Embryos, protocol::UDP) => names::UDP_EMBRYOS4,
            (FlowTable::Flows, protocol::UDP) => names::UDP_FLOWS4,
            (FlowTable::Embryos, _) => names::TCP_EMBRYOS4,
            (FlowTable::Flows, _) => names::TCP_FLOWS4,
        }
    }
    fn networks(service4: NetworkList<Self>, local4: NetworkList<Self>) -> Networks {
        Networks {
            service4,
            local4,
            ..Networks::default()
        }
    }
    fn from_text(text: &str) -> Self {
        text.parse::<std::net::Ipv4Addr>()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .into()
    }
    fn of(prefix: u8, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        Self::new([10, prefix, high, low])
    }
}

impl Kin for V6 {
    type Address = [u8; 16];
    type Key = [u8; 40];
    type Flow = [u8; 64];
    type Frontend = [u8; 20];
    type Fragment = [u8; 40];
    type SourceRange = [u8; 20];
    const BITS: u32 = 128;
    const SOURCE_RANGES: &str = names::SOURCE_RANGES6;
    const FRONTENDS: &str = names::FRONTENDS6;
    const VIPS: &str = names::VIPS6;
    const NODE_ADDRESSES: &str = names::NODE_ADDRESSES6;
    const FRAGMENTS: &str = names::FRAGMENTS6;

    fn table(table: FlowTable, ip_protocol: u8) -> &'static str {
        match (table, ip_protocol) {
            (FlowTable::Embryos, protocol::UDP) => names::UDP_EMBRYOS6,
            (FlowTable::Flows, protocol::UDP) => names::UDP_FLOWS6,
            (FlowTable::Embryos, _) => names::TCP_EMBRYOS6,
            (FlowTable::Flows, _) => names::TCP_FLOWS6,
        }
    }
    fn networks(service6: NetworkList<Self>, local6: NetworkList<Self>) -> Networks {
        Networks {
            service6,
            local6,
            ..Networks::default()
        }
    }
    fn from_text(text: &str) -> Self {
        text.parse::<std::net::Ipv6Addr>()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .into()
    }
    fn of(prefix: u8, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        Self::new([0xfd, prefix, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low])
    }
}
