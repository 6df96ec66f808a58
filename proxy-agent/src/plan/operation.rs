//! The steps that a plan is made of, and what can be read back from the maps.

use std::fmt;
use std::iter::Sum;
use std::net::{IpAddr, SocketAddr};
use std::ops::AddAssign;

use proxy_common::layout::{
    Backend, BackendId, FilterBit, FrontendValue, Identity, Networks, Port, Service, ServiceId, Vip,
};

use super::protocol_name;

/// Where a Service is reached, in either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// The address; 0.0.0.0 or :: is a NodePort, which answers at every node address of the family.
    pub address: IpAddr,
    /// The port.
    pub port: Port,
    /// IP protocol number.
    pub protocol: u8,
}

impl Frontend {
    /// All that it is, as numbers: tables of every frontend compare and hash them a dozen times a Service.
    fn words(&self) -> (u128, u64) {
        let (family, address) = match self.address {
            IpAddr::V4(address) => (0, u128::from(u32::from(address))),
            IpAddr::V6(address) => (1, u128::from(address)),
        };
        let end = u64::from(self.port.wire()) << 8 | u64::from(self.protocol);
        (address, family << 32 | end)
    }
}

impl std::hash::Hash for Frontend {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let (address, rest) = self.words();
        state.write_u128(address);
        state.write_u64(rest);
    }
}

impl Ord for Frontend {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let ((address, rest), (other_address, other_rest)) = (self.words(), other.words());
        let family = (rest >> 32).cmp(&(other_rest >> 32));
        family
            .then(address.cmp(&other_address))
            .then(rest.cmp(&other_rest))
    }
}

impl PartialOrd for Frontend {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = protocol_name(self.protocol);
        let port = self.port.number();
        match self.address {
            IpAddr::V4(address) if address.is_unspecified() => write!(f, "IPv4 node port {protocol} {port}"),
            IpAddr::V6(address) if address.is_unspecified() => write!(f, "IPv6 node port {protocol} {port}"),
            address => write!(f, "{protocol} {}", SocketAddr::new(address, port)),
        }
    }
}

/// Addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// The first of them.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub length: u8,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Range {
    /// The range of this length that holds an address.
    pub fn new(address: IpAddr, length: u8) -> Self {
        let length = length.min(if address.is_ipv4() { 32 } else { 128 });
        let address = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or_default();
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or_default();
                IpAddr::V6((u128::from(address) & mask).into())
            }
        };
        Self { address, length }
    }
}

/// One write to the maps. A plan's operations are carried out in order; an order that is safe for readers is the
/// planner's duty (identity, filter bits, backends, slots, service, frontends; the reverse to take away).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Claims a service id before anything else of it is written.
    PutIdentity(ServiceId, Box<Identity>),
    /// Gives a service id back; the last step of taking a service port away.
    RemoveIdentity(ServiceId),
    /// Sets a bit of the prefilter.
    SetFilter(FilterBit),
    /// No frontend or backend needs this bit any more; it is cleared once a whole sweep of the flow tables, begun
    /// after this operation and a grace period, has found no user.
    ReleaseFilter(FilterBit),
    /// Writes a backend: all fields, then `life` with release order.
    PutBackend(BackendId, Backend),
    /// Stores life = 0 and the last life in `last_life`: the endpoint no longer serves.
    KillBackend(BackendId),
    /// Writes a run of slots that no list shows yet.
    PutSlots {
        /// The run's first slot.
        first: u32,
        /// Its content.
        backends: Vec<BackendId>,
    },
    /// Lets the sources of a range use the guarded frontends of a service port with this tag.
    PutRange(ServiceId, Range, u16),
    /// Lets them do so no more.
    RemoveRange(ServiceId, Range),
    /// Stores the list words of a service port, each in one atomic store with release order.
    PutService(ServiceId, Service),
    /// Inserts a frontend or gives it a new owner, in one update.
    PutFrontend(Frontend, FrontendValue),
    /// Removes a frontend.
    RemoveFrontend(Frontend),
    /// Says what stands at an address, once its frontends are there.
    PutVip(IpAddr, Vip),
    /// Nothing stands at an address any more.
    RemoveVip(IpAddr),
    /// Writes the ranges of addresses that the programs know: first that none is known, and the ranges after a grace period.
    PutNetworks(Box<Networks>),
}

/// Entries of maps that are written or removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// By system calls, in batches or singly.
    pub calls: usize,
    /// By stores into mapped memory.
    pub stores: usize,
}

impl Writes {
    const CALL: Self = Self { calls: 1, stores: 0 };
    const STORE: Self = Self { calls: 0, stores: 1 };

    /// All of them.
    pub const fn all(self) -> usize {
        self.calls + self.stores
    }
}

impl AddAssign for Writes {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.stores += other.stores;
    }
}

impl Sum for Writes {
    fn sum<I: Iterator<Item = Self>>(writes: I) -> Self {
        let mut sum = Self::default();
        writes.for_each(|writes| sum += writes);
        sum
    }
}

impl Operation {
    /// The entries that it writes; of a released bit, the word that is written once a sweep has found no user.
    pub fn writes(&self) -> Writes {
        match self {
            Self::PutIdentity(..)
            | Self::RemoveIdentity(_)
            | Self::PutRange(..)
            | Self::RemoveRange(..)
            | Self::PutFrontend(..)
            | Self::RemoveFrontend(_)
            | Self::PutVip(..)
            | Self::RemoveVip(_) => Writes::CALL,
            Self::SetFilter(_)
            | Self::ReleaseFilter(_)
            | Self::PutBackend(..)
            | Self::KillBackend(_)
            | Self::PutService(..) => Writes::STORE,
            Self::PutSlots { backends, .. } => Writes {
                calls: 0,
                stores: backends.len(),
            },
            // The old ranges made unknown, the new ones unknown yet, and the new ones.
            Self::PutNetworks(_) => Writes { calls: 3, stores: 0 },
        }
    }
}

/// What the maps hold, read back at start so that ids, slots and flows stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// IDENTITY.
    pub identities: Vec<(ServiceId, Identity)>,
    /// SERVICES, for the ids in IDENTITY.
    pub services: Vec<(ServiceId, Service)>,
    /// The runs of SLOTS that those services show, by their first slot.
    pub slots: Vec<(u32, Vec<BackendId>)>,
    /// BACKENDS that are or were in use (life or last_life not 0).
    pub backends: Vec<(BackendId, Backend)>,
    /// FRONTENDS4 and FRONTENDS6.
    pub frontends: Vec<(Frontend, FrontendValue)>,
    /// SOURCE_RANGES4 and SOURCE_RANGES6, with the tags that they carry.
    pub ranges: Vec<(ServiceId, Range, u32)>,
    /// VIPS4 and VIPS6.
    pub vips: Vec<(IpAddr, Vip)>,
    /// NETWORKS.
    pub networks: Networks,
    /// The words of PREFILTER that are not 0.
    pub filter: Vec<(u32, u64)>,
}
