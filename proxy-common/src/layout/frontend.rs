//! FRONTENDS4 and FRONTENDS6: where a Service is reached.

use super::{Addr, Port, ServiceId};

/// A key of FRONTENDS4 (8 bytes) or FRONTENDS6 (20 bytes). A NodePort is one entry with the unspecified address; the
/// packet's destination must then be one of NODE_ADDRESSES at which NodePorts answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrontendKey<A> {
    /// The frontend's address; unspecified: any node address (NodePort).
    pub address: A,
    /// The frontend's port.
    pub port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<FrontendKey<super::V4>>() == 8);
const _: () = assert!(size_of::<FrontendKey<super::V6>>() == 20);

impl<A: Addr> FrontendKey<A> {
    /// The frontend at an address.
    #[inline(always)]
    pub fn new(address: A, port: Port, protocol: u8) -> Self {
        Self {
            address,
            port,
            protocol,
            pad: 0,
        }
    }

    /// The NodePort of any node address.
    #[inline(always)]
    pub fn node_port(port: Port, protocol: u8) -> Self {
        Self::new(A::UNSPECIFIED, port, protocol)
    }

    /// The tag that a value of this key carries.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        crate::rules::hash::endpoint_tag(&self.address, self.port, self.protocol)
    }
}

/// What kind of frontend it is; decides which list of the service port is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FrontendKind {
    /// spec.clusterIPs
    ClusterIp = 1,
    /// spec.ports\[\].nodePort
    NodePort = 2,
    /// status.loadBalancer.ingress\[\].ip
    LoadBalancer = 3,
    /// spec.externalIPs
    ExternalIp = 4,
    /// [`Self::LoadBalancer`], for sources of SOURCE_RANGES alone. A kind of its own, so that a program that does not
    /// know it serves nobody there.
    GuardedLoadBalancer = 5,
}

impl FrontendKind {
    /// From the byte in a map.
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::ClusterIp),
            2 => Some(Self::NodePort),
            3 => Some(Self::LoadBalancer),
            4 => Some(Self::ExternalIp),
            5 => Some(Self::GuardedLoadBalancer),
            _ => None,
        }
    }
}

/// A value of FRONTENDS4 and FRONTENDS6: an index into SERVICES, and a tag of its own key, because a hash element may
/// become another key's while it is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrontendValue {
    /// The service port.
    #[cfg(not(feature = "next-layout"))]
    pub service: ServiceId,
    /// [`FrontendKey::tag`] of its key.
    pub tag: u32,
    /// The service port.
    #[cfg(feature = "next-layout")]
    pub service: ServiceId,
    /// Must equal [`super::ListWord::tag`] of the service's lists.
    pub service_tag: u16,
    /// A [`FrontendKind`].
    pub kind: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<FrontendValue>() == 12);
