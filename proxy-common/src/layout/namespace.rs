//! NAMESPACES: with which address a pod's network namespace speaks to Services.
//!
//! A socket has no address yet when it calls connect(); packets have one. What a connection that goes by packets shows of
//! its namespace is kept here, so that socket LB and packets know a client by one and the same name.

use super::{Addr, Family, MappedAddress};

/// A key of NAMESPACES: a network namespace in a family.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamespaceKey {
    /// Its cookie (`SO_NETNS_COOKIE`), which no other namespace ever gets.
    pub cookie: u64,
    /// 4 or 6.
    pub family: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<NamespaceKey>() == 16 && align_of::<NamespaceKey>() == 8);

impl NamespaceKey {
    /// The namespace with this cookie, in this family.
    #[inline(always)]
    pub const fn new(cookie: u64, family: Family) -> Self {
        Self {
            cookie,
            family: match family {
                Family::V4 => 4,
                Family::V6 => 6,
            },
            pad: 0,
        }
    }

    /// The tag that a value of this key carries.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        (crate::rules::hash::step(self.family as u64, self.cookie) >> 32) as u32
    }
}

/// A value of NAMESPACES.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceAddress {
    /// The address that its sockets have towards Services.
    pub address: MappedAddress,
    /// Tick at which that was seen.
    pub seen: u32,
    /// [`NamespaceKey::tag`].
    pub tag: u32,
}

const _: () = assert!(size_of::<NamespaceAddress>() == 24 && align_of::<NamespaceAddress>() == 4);

impl NamespaceAddress {
    /// An address seen now.
    #[inline(always)]
    pub fn new<A: Addr>(key: &NamespaceKey, address: &A, seen: u32) -> Self {
        Self {
            address: address.to_mapped(),
            seen,
            tag: key.tag(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_namespaces_have_tags_of_their_own() {
        let tags = [
            NamespaceKey::new(7, Family::V4),
            NamespaceKey::new(7, Family::V6),
            NamespaceKey::new(8, Family::V4),
            NamespaceKey::new(7 << 32, Family::V4),
        ]
        .map(|key| key.tag());
        let different = std::collections::BTreeSet::from(tags);
        assert_eq!(different.len(), tags.len());
    }
}
