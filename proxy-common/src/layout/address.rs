//! Addresses, in network byte order.

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An IPv4 address as it stands on the wire: the `u32` holds the four octets in memory order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct V4(pub u32);

/// An IPv6 address as it stands on the wire: four words in memory order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct V6(pub [u32; 4]);

/// Either family in 16 bytes: IPv6 as it is, IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
pub type MappedAddress = V6;

/// What the rules need of an address; implemented by [`V4`] and [`V6`] and by nothing else.
pub trait Addr: Copy + Eq + Default + core::fmt::Debug + 'static {
    /// The family.
    const FAMILY: Family;
    /// All zeroes: 0.0.0.0 or ::, the address of a NodePort's wildcard frontend.
    const UNSPECIFIED: Self;
    /// Whether it is 127.0.0.0/8 or ::1: no packet with it leaves its network namespace.
    fn is_loopback(&self) -> bool;
    /// Mixes the address into a hash (see [`crate::rules::hash`]).
    fn mix(&self, hash: u64) -> u64;
    /// The address in 16 bytes.
    fn to_mapped(&self) -> MappedAddress;
    /// The address out of 16 bytes, whose family the caller knows.
    fn from_mapped(mapped: MappedAddress) -> Self;
    /// The bits that it has in common with a mask.
    fn and(&self, mask: &Self) -> Self;
    /// The sum of its 16-bit words, for checksums (not folded).
    fn checksum_words(&self) -> u32;
}

/// The third word of an IPv4-mapped IPv6 address, in memory order.
const MAPPED_PREFIX: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

#[inline(always)]
fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

impl V4 {
    /// From octets as written: `[10, 0, 0, 1]` is 10.0.0.1.
    #[inline(always)]
    pub const fn new(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// The octets as written.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl V6 {
    /// From octets as written.
    pub const fn new(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// The octets as written.
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = [
            self.0[0].to_ne_bytes(),
            self.0[1].to_ne_bytes(),
            self.0[2].to_ne_bytes(),
            self.0[3].to_ne_bytes(),
        ];
        [
            a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3],
        ]
    }

    /// Whether it is an IPv4-mapped address, `::ffff:a.b.c.d`.
    #[inline(always)]
    pub const fn is_mapped_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED_PREFIX
    }

    /// The IPv4 address inside a mapped one.
    #[inline(always)]
    pub const fn mapped_v4(&self) -> V4 {
        V4(self.0[3])
    }
}

impl Addr for V4 {
    const FAMILY: Family = Family::V4;
    const UNSPECIFIED: Self = Self(0);
    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self.octets()[0] == 127
    }
    #[inline(always)]
    fn mix(&self, hash: u64) -> u64 {
        crate::rules::hash::step(hash, self.0 as u64)
    }
    #[inline(always)]
    fn to_mapped(&self) -> MappedAddress {
        V6([0, 0, MAPPED_PREFIX, self.0])
    }
    #[inline(always)]
    fn from_mapped(mapped: MappedAddress) -> Self {
        Self(mapped.0[3])
    }
    #[inline(always)]
    fn and(&self, mask: &Self) -> Self {
        Self(self.0 & mask.0)
    }
    #[inline(always)]
    fn checksum_words(&self) -> u32 {
        halves(self.0)
    }
}

impl Addr for V6 {
    const FAMILY: Family = Family::V6;
    const UNSPECIFIED: Self = Self([0; 4]);
    #[inline(always)]
    fn is_loopback(&self) -> bool {
        *self == Self([0, 0, 0, 1_u32.to_be()])
    }
    #[inline(always)]
    fn mix(&self, hash: u64) -> u64 {
        let [a, b, c, d] = self.0;
        let hash = crate::rules::hash::step(hash, (a as u64) << 32 | b as u64);
        crate::rules::hash::step(hash, (c as u64) << 32 | d as u64)
    }
    #[inline(always)]
    fn to_mapped(&self) -> MappedAddress {
        *self
    }
    #[inline(always)]
    fn from_mapped(mapped: MappedAddress) -> Self {
        mapped
    }
    #[inline(always)]
    fn and(&self, mask: &Self) -> Self {
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = mask.0;
        Self([a & e, b & f, c & g, d & h])
    }
    #[inline(always)]
    fn checksum_words(&self) -> u32 {
        let [a, b, c, d] = self.0;
        halves(a) + halves(b) + halves(c) + halves(d)
    }
}

impl From<core::net::Ipv4Addr> for V4 {
    fn from(address: core::net::Ipv4Addr) -> Self {
        Self::new(address.octets())
    }
}

impl From<core::net::Ipv6Addr> for V6 {
    fn from(address: core::net::Ipv6Addr) -> Self {
        Self::new(address.octets())
    }
}

impl From<V4> for core::net::IpAddr {
    fn from(address: V4) -> Self {
        Self::V4(address.octets().into())
    }
}

impl From<V6> for core::net::IpAddr {
    /// An IPv4-mapped address becomes an IPv4 address.
    fn from(address: V6) -> Self {
        if address.is_mapped_v4() {
            return address.mapped_v4().into();
        }
        Self::V6(address.octets().into())
    }
}

impl From<core::net::IpAddr> for V6 {
    /// An IPv4 address becomes IPv4-mapped.
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => V4::from(v4).to_mapped(),
            core::net::IpAddr::V6(v6) => v6.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    #[test]
    fn octets_stand_in_wire_order() {
        assert_eq!(V4::new([10, 1, 2, 3]).0.to_ne_bytes(), [10, 1, 2, 3]);
        let six: Ipv6Addr = "fd00::1:2".parse().unwrap();
        assert_eq!(V6::from(six).octets(), six.octets());
    }

    #[test]
    fn loopback_addresses_are_known_as_such() {
        for text in [
            "127.0.0.1",
            "127.255.0.9",
            "126.0.0.1",
            "128.0.0.1",
            "0.0.0.0",
            "10.0.0.127",
        ] {
            let four: Ipv4Addr = text.parse().unwrap();
            assert_eq!(V4::from(four).is_loopback(), four.is_loopback(), "{text}");
        }
        for text in ["::1", "::", "1::", "::2", "fe80::1", "::ffff:127.0.0.1"] {
            let six: Ipv6Addr = text.parse().unwrap();
            assert_eq!(V6::from(six).is_loopback(), six.is_loopback(), "{text}");
        }
    }

    #[test]
    fn mapped_addresses_go_both_ways() {
        let four = Ipv4Addr::new(192, 0, 2, 7);
        let mapped = V6::from(IpAddr::V4(four));
        assert_eq!(Ipv6Addr::from(mapped.octets()), four.to_ipv6_mapped());
        assert!(mapped.is_mapped_v4());
        assert_eq!(IpAddr::from(mapped), IpAddr::V4(four));
        assert_eq!(<V4 as Addr>::from_mapped(mapped), V4::from(four));
    }
}
