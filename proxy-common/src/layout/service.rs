//! SERVICES: a service port's lists of slots.

use super::AffinityWord;

/// Index into SERVICES: one service port (Service, port name, protocol) in one family. 0 is never a service.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u32);

/// What happens to a new flow when a list is empty (semantics A5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// No usable endpoint anywhere: refuse (TCP RST, ICMP port unreachable, ECONNREFUSED).
    Reject,
    /// Endpoints exist, but a Local policy leaves none here: drop silently.
    Drop,
}

/// One list of slots, which hold backend ids in ascending order, in one aligned u64, replaced by one atomic store: bits 0..24 the first slot, 24..48 the count,
/// 48..64 a tag of the service port that owns it. With count 0 the first-slot field says [`When`]: 0 reject, 1 drop.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListWord(pub u64);

impl ListWord {
    /// The largest slot index, and the largest count, that a word can hold.
    pub const MAX: u32 = (1 << 24) - 1;

    /// A list of `count` slots from slot `first`; both at most [`Self::MAX`].
    #[inline(always)]
    pub const fn new(first: u32, count: u32, tag: u16) -> Self {
        Self((first & Self::MAX) as u64 | ((count & Self::MAX) as u64) << 24 | (tag as u64) << 48)
    }

    /// A list without backends.
    #[inline(always)]
    pub const fn empty(when: When, tag: u16) -> Self {
        Self::new(
            match when {
                When::Reject => 0,
                When::Drop => 1,
            },
            0,
            tag,
        )
    }

    /// First slot.
    #[inline(always)]
    pub const fn first(self) -> u32 {
        self.0 as u32 & Self::MAX
    }

    /// How many slots.
    #[inline(always)]
    pub const fn count(self) -> u32 {
        (self.0 >> 24) as u32 & Self::MAX
    }

    /// Tag of the owner: equal to the tag in the frontend's value, else the id has a new owner.
    #[inline(always)]
    pub const fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// What an empty list means.
    #[inline(always)]
    pub const fn when_empty(self) -> When {
        if self.first() == 0 {
            When::Reject
        } else {
            When::Drop
        }
    }
}

/// A value of SERVICES (array by [`ServiceId`], mmapable). Each word is read once and stands on its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// For the ClusterIP: internal traffic policy.
    pub internal: ListWord,
    /// For NodePort, LoadBalancer and externalIP from outside: external traffic policy.
    pub external: ListWord,
    /// For the same frontends from a pod of this node or from this host: always the Cluster list (semantics A4).
    pub shortcut: ListWord,
    /// How long a client keeps its backend.
    pub affinity: AffinityWord,
}

const _: () = assert!(size_of::<Service>() == 32 && align_of::<Service>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_word_holds_its_parts() {
        let word = ListWord::new(ListWord::MAX, 12345, 0xbeef);
        assert_eq!(
            (word.first(), word.count(), word.tag()),
            (ListWord::MAX, 12345, 0xbeef)
        );
        for when in [When::Reject, When::Drop] {
            let word = ListWord::empty(when, 7);
            assert_eq!((word.count(), word.tag(), word.when_empty()), (0, 7, when));
        }
    }
}
