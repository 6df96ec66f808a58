//! BACKENDS: one endpoint's address and port.

use super::{MappedAddress, Port, ServiceId};

/// Index into BACKENDS. 0 is never a backend.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u32);

/// [`Backend::flags`]: the endpoint is on this node.
pub const BACKEND_LOCAL: u8 = 1;

/// [`Backend::flags`]: the endpoint is a pod in the pods' network: on the way to it nobody masquerades what comes from a pod.
pub const BACKEND_POD: u8 = 2;

/// A value of BACKENDS (array by [`BackendId`], mmapable).
///
/// `life` is written last, with release order: a reader that sees it sees the rest. A live backend's address never
/// changes in place: an endpoint whose address changes is a new backend with a new id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// IPv6, or IPv4 mapped.
    pub address: MappedAddress,
    /// The service port that owns it.
    #[cfg(feature = "next-layout")]
    pub service: ServiceId,
    /// The port that the endpoint listens at.
    pub port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// [`BACKEND_LOCAL`] | [`BACKEND_POD`].
    pub flags: u8,
    /// The service port that owns it.
    #[cfg(not(feature = "next-layout"))]
    pub service: ServiceId,
    /// Generation of this use of the id; 0: dead (its endpoint no longer serves).
    pub life: u32,
    /// The last `life` of a dead backend, so that a later use of the id gets a newer one; 0 while alive.
    pub last_life: u32,
}

const _: () = assert!(size_of::<Backend>() == 32 && align_of::<Backend>() == 4);
const _: () = assert!(core::mem::offset_of!(Backend, life) == 24);

impl Backend {
    /// Whether the endpoint serves: new flows and UDP flows may go to it.
    #[inline(always)]
    pub const fn is_alive(&self) -> bool {
        self.life != 0
    }

    /// Whether the endpoint is on this node.
    #[inline(always)]
    pub const fn is_local(&self) -> bool {
        self.flags & BACKEND_LOCAL != 0
    }

    /// Whether the endpoint is in the pods' network.
    #[inline(always)]
    pub const fn is_pod(&self) -> bool {
        self.flags & BACKEND_POD != 0
    }
}
