//! AFFINITY: which backend a client goes to again (session affinity ClientIP).
//!
//! One record for all frontends and lists of a service port. It holds as long as its backend is the very use of its id
//! that it names and stands in the list that serves the call, and until the service port's time has passed since the
//! client's last new flow.

use super::{Addr, BackendId, MappedAddress, ServiceId, V6};

/// Whether, and for how long, a service port's clients keep their backend, in one aligned u64: bits 0..24 the time in
/// seconds (0: not at all), 24..40 the epoch, 40 whether the service port forwards by DSR, 48..64 the tag of the service port.
/// The epoch changes each time that affinity is switched on, so that records from before it was off count no more.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AffinityWord(pub u64);

impl AffinityWord {
    /// Each flow is balanced on its own.
    pub const OFF: Self = Self(0);
    const HANDS_ON: u64 = 1 << 40;
    /// The longest time that can be written; Kubernetes allows a day.
    pub const LONGEST: u32 = (1 << 24) - 1;

    /// For so many seconds, at most [`Self::LONGEST`].
    #[inline(always)]
    pub const fn new(seconds: u32, epoch: u16, tag: u16) -> Self {
        Self((seconds & Self::LONGEST) as u64 | (epoch as u64) << 24 | (tag as u64) << 48)
    }

    /// Seconds since the last new flow; 0: no affinity.
    #[inline(always)]
    pub const fn seconds(self) -> u32 {
        self.0 as u32 & Self::LONGEST
    }

    /// How often affinity was switched on.
    #[inline(always)]
    pub const fn epoch(self) -> u16 {
        (self.0 >> 24) as u16
    }

    /// The same of a service port that forwards by DSR, or that does not ([`super::Service::hands_on`]).
    #[inline(always)]
    #[must_use]
    pub const fn with_hand_on(self, hands_on: bool) -> Self {
        Self(self.0 & !Self::HANDS_ON | if hands_on { Self::HANDS_ON } else { 0 })
    }

    /// Whether the service port forwards by DSR ([`super::Service::hands_on`]).
    #[inline(always)]
    pub const fn hands_on(self) -> bool {
        self.0 & Self::HANDS_ON != 0
    }

    /// Equal to the tag in the frontend's value, else the id has a new owner.
    #[inline(always)]
    pub const fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// Whether clients keep their backend at all.
    #[inline(always)]
    pub const fn is_on(self) -> bool {
        self.seconds() != 0
    }
}

/// A key of AFFINITY: a client of a service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AffinityKey {
    /// Zero.
    #[cfg(feature = "next-layout")]
    pub pad: u32,
    /// The client's address; the host, which has many, is its network namespace.
    pub client: MappedAddress,
    /// The service port.
    pub service: ServiceId,
}

const _: () = assert!(size_of::<AffinityKey>() == if cfg!(feature = "next-layout") { 24 } else { 20 });

/// First word of a client without an address: ff00::/8 holds multicast groups only, which are nobody's source.
const NAMESPACE: u32 = u32::from_ne_bytes([0xff, 0, 0, 0]);

impl AffinityKey {
    /// The client with this address.
    #[inline(always)]
    pub fn of_address<A: Addr>(client: &A, service: ServiceId) -> Self {
        Self {
            #[cfg(feature = "next-layout")]
            pad: 0,
            client: client.to_mapped(),
            service,
        }
    }

    /// All sockets of the network namespace with this cookie.
    #[inline(always)]
    pub const fn of_namespace(cookie: u64, service: ServiceId) -> Self {
        Self {
            #[cfg(feature = "next-layout")]
            pad: 0,
            client: V6([NAMESPACE, 0, (cookie >> 32) as u32, cookie as u32]),
            service,
        }
    }

    /// The cookie of a network namespace, if that is the client.
    pub const fn namespace(&self) -> Option<u64> {
        match self.client.0 {
            [NAMESPACE, 0, high, low] => Some((high as u64) << 32 | low as u64),
            _ => None,
        }
    }

    /// The tag that a record of this key carries in an epoch.
    #[inline(always)]
    pub fn tag(&self, epoch: u16) -> u32 {
        (self.client.mix((self.service.0 as u64) << 16 | epoch as u64) >> 32) as u32
    }
}

/// A value of AFFINITY: two aligned u64, each read and written as a whole, so that no half of a backend's id and
/// generation meets the other half of another's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Bits 0..32 the tick of the client's last new flow, 32..64 [`AffinityKey::tag`].
    pub meta: u64,
    /// Bits 0..32 the backend's id, 32..64 its [`super::Backend::life`].
    pub target: u64,
}

const _: () = assert!(size_of::<Affinity>() == 16 && align_of::<Affinity>() == 8);

impl Affinity {
    /// A record of a new flow.
    #[inline(always)]
    pub const fn new(tag: u32, seen: u32, backend: BackendId, generation: u32) -> Self {
        Self {
            meta: (tag as u64) << 32 | seen as u64,
            target: (generation as u64) << 32 | backend.0 as u64,
        }
    }

    /// Tag of the key and epoch.
    #[inline(always)]
    pub const fn tag(&self) -> u32 {
        (self.meta >> 32) as u32
    }

    /// Tick of the client's last new flow.
    #[inline(always)]
    pub const fn seen(&self) -> u32 {
        self.meta as u32
    }

    /// The backend.
    #[inline(always)]
    pub const fn backend(&self) -> BackendId {
        BackendId(self.target as u32)
    }

    /// Which use of the backend's id.
    #[inline(always)]
    pub const fn generation(&self) -> u32 {
        (self.target >> 32) as u32
    }

    /// [`Self::meta`] of the same record at another time.
    #[inline(always)]
    pub const fn renewed(&self, seen: u32) -> u64 {
        self.meta & !(u32::MAX as u64) | seen as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::V4;

    #[test]
    fn words_and_records_hold_their_parts() {
        let word = AffinityWord::new(86_400, 0xabcd, 0xbeef);
        assert_eq!(
            (word.seconds(), word.epoch(), word.tag()),
            (86_400, 0xabcd, 0xbeef)
        );
        assert!(word.is_on() && !AffinityWord::OFF.is_on());
        assert!(!AffinityWord::new(0, 3, 7).is_on());
        let record = Affinity::new(0xdead_beef, 77, BackendId(5), 9);
        assert_eq!(
            (record.tag(), record.seen(), record.backend(), record.generation()),
            (0xdead_beef, 77, BackendId(5), 9)
        );
        let renewed = Affinity {
            meta: record.renewed(u32::MAX),
            ..record
        };
        assert_eq!(renewed, Affinity::new(0xdead_beef, u32::MAX, BackendId(5), 9));
    }

    #[test]
    fn a_namespace_is_no_address_and_comes_back() {
        let cookie = 0x0123_4567_89ab_cdef;
        let key = AffinityKey::of_namespace(cookie, ServiceId(3));
        assert_eq!(key.namespace(), Some(cookie));
        let address = AffinityKey::of_address(&V4::new([10, 0, 0, 1]), ServiceId(3));
        assert_eq!(address.namespace(), None);
        assert_ne!(key.tag(1), key.tag(2), "another epoch is another record");
        assert_ne!(
            address.tag(1),
            AffinityKey::of_address(&V4::new([10, 0, 0, 1]), ServiceId(4)).tag(1)
        );
    }
}
