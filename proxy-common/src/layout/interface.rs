//! INTERFACES: what the programs must know of an interface that they send by.

use super::{V4, V6};

/// [`Interface::flags`]: no link-layer header (tun, wireguard, ipip).
pub const INTERFACE_LAYER3: u32 = 1;

/// [`Interface::flags`]: leads to pods, and what they send by it comes by our programs.
pub const INTERFACE_PODS: u32 = 2;

/// [`Interface::flags`]: its other end is a pod's own and takes packets at once (bpf_redirect_peer).
pub const INTERFACE_PEER: u32 = 4;

/// [`Interface::flags`]: an uplink, and what comes in by it comes by our programs.
pub const INTERFACE_UPLINK: u32 = 8;

/// A value of INTERFACES (hash by interface index, u32). The entry of index 0 holds the node's primary addresses: the
/// source of hairpins, and of packets by interfaces without an entry. An unspecified address means that there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Source of packets that are SNATed out of it: its own address, else the node's; IPv6: a stable global one.
    pub v4: V4,
    /// The same for IPv6.
    pub v6: V6,
    /// [`INTERFACE_LAYER3`] | [`INTERFACE_PODS`] | [`INTERFACE_PEER`] | [`INTERFACE_UPLINK`].
    pub flags: u32,
    /// MTU in bytes, of the network layer.
    pub mtu: u32,
    /// The interface index again: the tag of the value.
    pub index: u32,
}

const _: () = assert!(size_of::<Interface>() == 32);
