//! Keys and values of the BPF maps.
//!
//! Every type is `#[repr(C)]`, made of integers only, with explicit zeroed padding; its size is asserted at compile
//! time, and any bit pattern is a valid value. Addresses and ports are in network byte order inside types of their
//! own; everything else is in the machine's order.

mod address;
mod affinity;
mod backend;
mod config;
mod counter;
mod flow;
mod fragment;
mod frontend;
mod hint;
mod identity;
mod interface;
pub mod names;
mod namespace;
mod networks;
mod node_address;
mod port;
mod prefilter;
mod probe;
mod service;
mod socket;
mod source_range;
mod uplink;
mod via;
mod vip;

pub use address::{Addr, Family, MappedAddress, V4, V6};
pub use affinity::{Affinity, AffinityKey, AffinityWord};
pub use backend::{BACKEND_LOCAL, BACKEND_POD, Backend, BackendId};
pub use config::{
    CONFIG_BYPASSED, CONFIG_CHECKSUM_IPV6, CONFIG_FAST, CONFIG_FAST_WANTED, CONFIG_HOPS_BY_PORT, CONFIG_MARK,
    CONFIG_MARK_BIT, CONFIG_NO_LOOPBACK4, CONFIG_NO_LOOPBACK6, CONFIG_NO_PING, CONFIG_PODS_SOCKET_LB, Config,
    LAYOUT_VERSION,
};
pub use counter::{Counter, Twice};
pub use flow::{Action, Direction, Flow, FlowKey, FlowTable, Meta, STATE_BITS, state};
pub use fragment::{FragmentKey, FragmentPorts};
pub use frontend::{FrontendKey, FrontendKind, FrontendValue};
pub use hint::HintFallback;
pub use identity::{Identity, NameText, uid_words};
pub use interface::{INTERFACE_LAYER3, INTERFACE_PEER, INTERFACE_PODS, INTERFACE_UPLINK, Interface};
pub use namespace::{NamespaceAddress, NamespaceKey};
pub use networks::{NETWORKS, Network, NetworkList, Networks};
pub use node_address::{NodeAddress, no_loopback, node_address_value};
pub use port::Port;
pub use prefilter::{
    FilterBit, PREFILTER_FORWARD_BITS, PREFILTER_PORTS_START, PREFILTER_REVERSE_START, PREFILTER_WORDS,
};
pub use probe::{PROBE_ETHERTYPE, ProbeKey, ProbeSide};
pub use service::{ChoiceRule, ListWord, Service, ServiceId, When};
pub use socket::{SocketKey, SocketValue};
pub use source_range::{
    NEVER_HANDED_ON, NEVER_HANDED_ON_TAG, SOURCE_RANGE_SERVICE_BITS, SourceRange, SourceRangeKey,
};
pub use uplink::{UPLINK_SENDS, UPLINK_SENDS_BUFFERS, UPLINK_TAKES, UPLINK_TURNS, UPLINKS, Uplink};
pub use via::Via;
pub use vip::Vip;

/// IP protocol numbers that Shunt knows.
pub mod protocol {
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// Stream Control Transmission Protocol.
    pub const SCTP: u8 = 132;
    /// Internet Control Message Protocol for IPv4.
    pub const ICMP: u8 = 1;
    /// Internet Control Message Protocol for IPv6.
    pub const ICMPV6: u8 = 58;
    /// A whole IPv4 packet (RFC 2003).
    pub const IPV4: u8 = 4;
    /// A whole IPv6 packet (RFC 2473).
    pub const IPV6: u8 = 41;
}
