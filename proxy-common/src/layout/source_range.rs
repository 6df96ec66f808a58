//! SOURCE_RANGES4 and SOURCE_RANGES6: who may use a load balancer's addresses.

use super::ServiceId;

/// The data of a key (longest-prefix-match trie): the service port, all of whose bits count, and then an address. 8 or
/// 20 bytes, behind the prefix length.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SourceRange<A> {
    /// The service port.
    pub service: ServiceId,
    /// The range's first address; of a packet to judge, its source.
    pub address: A,
}

const _: () = assert!(size_of::<SourceRange<super::V4>>() == 8);
const _: () = assert!(size_of::<SourceRange<super::V6>>() == 20);

/// In the place of a service port: clients whose packets are never handed on whole (DSR), whichever Service they call. Older
/// programs never ask for it.
pub const NEVER_HANDED_ON: ServiceId = ServiceId(0);

/// The tag of its ranges.
pub const NEVER_HANDED_ON_TAG: u16 = 1;

/// Bits of a prefix that are the service port's.
pub const SOURCE_RANGE_SERVICE_BITS: u32 = 32;

/// A key as the agent writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SourceRangeKey<A> {
    /// [`SOURCE_RANGE_SERVICE_BITS`] and the length of the range's own prefix. The rest of the data is zero.
    pub prefix_length: u32,
    /// Whose range it is, and which.
    pub range: SourceRange<A>,
}

const _: () = assert!(size_of::<SourceRangeKey<super::V4>>() == 12);
const _: () = assert!(size_of::<SourceRangeKey<super::V6>>() == 24);

// The value is the service port's tag, as a u32: a range that an earlier owner of the id has left lets nobody in.
