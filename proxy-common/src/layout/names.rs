//! Names of maps and programs: one table used by both sides. A map's name is its pin's name.

/// Array of 1: [`super::Config`].
pub const CONFIG: &str = "CONFIG";
/// Hash: [`super::FrontendKey`] of IPv4 -> [`super::FrontendValue`].
pub const FRONTENDS4: &str = "FRONTENDS4";
/// Hash: [`super::FrontendKey`] of IPv6 -> [`super::FrontendValue`].
pub const FRONTENDS6: &str = "FRONTENDS6";
/// Mmapable array by [`super::ServiceId`]: [`super::Service`].
pub const SERVICES: &str = "SERVICES";
/// Mmapable array: [`super::BackendId`] (u32).
pub const SLOTS: &str = "SLOTS";
/// Mmapable array by [`super::BackendId`]: [`super::Backend`].
pub const BACKENDS: &str = "BACKENDS";
/// Array by [`super::BackendId`]: how many connections a backend has (i32): see [`crate::rules::load`].
pub const LOADS: &str = "LOADS";
/// Mmapable array of u64 words: see [`super::FilterBit`].
pub const PREFILTER: &str = "PREFILTER";
/// Hash: [`super::V4`] -> u32: see [`super::node_address_value`]. The node's own addresses.
pub const NODE_ADDRESSES4: &str = "NODE_ADDRESSES4";
/// The same for IPv6.
pub const NODE_ADDRESSES6: &str = "NODE_ADDRESSES6";
/// Hash: interface index (u32) -> [`super::Interface`].
pub const INTERFACES: &str = "INTERFACES";
/// Hash, agent only: [`super::ServiceId`] -> [`super::Identity`].
pub const IDENTITY: &str = "IDENTITY";
/// LRU hash: [`super::FlowKey`] -> [`super::Flow`], TCP and SCTP, IPv4, not yet established.
pub const TCP_EMBRYOS4: &str = "TCP_EMBRYOS4";
/// The same for IPv6.
pub const TCP_EMBRYOS6: &str = "TCP_EMBRYOS6";
/// LRU hash: [`super::FlowKey`] -> [`super::Flow`], TCP and SCTP, IPv4, established.
pub const TCP_FLOWS4: &str = "TCP_FLOWS4";
/// The same for IPv6.
pub const TCP_FLOWS6: &str = "TCP_FLOWS6";
/// LRU hash: [`super::FlowKey`] -> [`super::Flow`], UDP, IPv4, not yet answered twice.
pub const UDP_EMBRYOS4: &str = "UDP_EMBRYOS4";
/// The same for IPv6.
pub const UDP_EMBRYOS6: &str = "UDP_EMBRYOS6";
/// LRU hash: [`super::FlowKey`] -> [`super::Flow`], UDP, IPv4, established.
pub const UDP_FLOWS4: &str = "UDP_FLOWS4";
/// The same for IPv6.
pub const UDP_FLOWS6: &str = "UDP_FLOWS6";
/// LRU hash: [`super::FragmentKey`] -> [`super::FragmentPorts`], IPv4.
pub const FRAGMENTS4: &str = "FRAGMENTS4";
/// The same for IPv6.
pub const FRAGMENTS6: &str = "FRAGMENTS6";
/// Longest-prefix-match trie: [`super::SourceRangeKey`] of IPv4 -> tag of the service port (u32).
pub const SOURCE_RANGES4: &str = "SOURCE_RANGES4";
/// The same for IPv6.
pub const SOURCE_RANGES6: &str = "SOURCE_RANGES6";
/// Hash: [`super::V4`] -> [`super::Vip`]. The addresses at which Services are reached.
pub const VIPS4: &str = "VIPS4";
/// The same for IPv6.
pub const VIPS6: &str = "VIPS6";
/// Array of 1: [`super::Networks`].
pub const NETWORKS: &str = "NETWORKS";
/// LRU hash: [`super::AffinityKey`] -> [`super::Affinity`].
pub const AFFINITY: &str = "AFFINITY";
/// LRU hash: [`super::NamespaceKey`] -> [`super::NamespaceAddress`].
pub const NAMESPACES: &str = "NAMESPACES";
/// LRU hash: [`super::SocketKey`] -> [`super::SocketValue`].
pub const SOCKETS: &str = "SOCKETS";
/// Array by [`super::Uplink::slot`]: [`super::Uplink`].
pub const UPLINKS: &str = "UPLINKS";
/// Per-CPU array by [`super::Counter`]: u64.
pub const COUNTERS: &str = "COUNTERS";
/// Per-CPU array of 1: when the bucket of ICMP errors will be full (u64, nanoseconds): see [`crate::rules::limit`]. Of the
/// programs alone, and not pinned.
pub const ERROR_LIMIT: &str = "ERROR_LIMIT";
/// Per-CPU array of 1: when the bucket of fragments that come in again will be full (u64, nanoseconds): see
/// [`crate::rules::limit`]. Of the programs alone, and not pinned.
pub const AHEAD_LIMIT: &str = "AHEAD_LIMIT";
/// Per-CPU array by a hash of the link-layer address: when a packet to a next hop last went through the stack (u32, ticks).
/// Of the programs alone, and not pinned.
pub const NEIGHBOURS: &str = "NEIGHBOURS";

/// Hash: [`super::ProbeKey`] -> u32: the token that is awaited there. Not pinned: each set of programs has one of its own.
pub const PROBES: &str = "PROBES";

/// Programs on interfaces; `_l3` is for interfaces without a link-layer header.
pub mod program {
    /// TC ingress of a pod interface.
    pub const FROM_POD: &str = "from_pod";
    /// TC egress of a pod interface.
    pub const TO_POD: &str = "to_pod";
    /// TC ingress of an uplink.
    pub const FROM_NETWORK: &str = "from_network";
    /// TC egress of an uplink.
    pub const TO_NETWORK: &str = "to_network";
    /// TC ingress of an uplink without a link-layer header.
    pub const FROM_NETWORK_L3: &str = "from_network_l3";
    /// TC egress of an uplink without a link-layer header.
    pub const TO_NETWORK_L3: &str = "to_network_l3";
    /// XDP of an uplink.
    pub const XDP_UPLINK: &str = "xdp_uplink";
    /// The same where frames can lie in several buffers (kernel 5.18).
    pub const XDP_UPLINK_FRAGS: &str = "xdp_uplink_frags";
    /// The cgroup program at what happens to a TCP socket: it learns the addresses of pods' network namespaces.
    pub const SOCK_OPS: &str = "sock_ops";
    /// Cgroup programs, named after their attach type.
    pub const CGROUP: [&str; 9] = [
        "connect4",
        "connect6",
        "sendmsg4",
        "sendmsg6",
        "recvmsg4",
        "recvmsg6",
        "getpeername4",
        "getpeername6",
        SOCK_OPS,
    ];
}
