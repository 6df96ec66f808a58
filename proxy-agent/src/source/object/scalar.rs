//! Values that are more than text or a number.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::{Error, IgnoredAny, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// `null` is the same as leaving the field out.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// RFC 3339 in UTC, to the second, as the API server writes it.
pub(crate) fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
    let text: Option<Arc<str>> = Option::deserialize(deserializer)?;
    if let Some(text) = &text
        && !is_timestamp(text)
    {
        return Err(Error::invalid_value(
            Unexpected::Str(text),
            &"a time such as 2026-01-31T12:00:00Z",
        ));
    }
    Ok(text)
}

/// A time that others wrote into an annotation; one that is none says nothing.
pub(crate) fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text: Option<Cow<'de, str>> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

fn is_timestamp(text: &str) -> bool {
    let pattern = b"dddd-dd-ddTdd:dd:ddZ";
    text.len() == pattern.len()
        && text.bytes().zip(pattern).all(|(byte, want)| match want {
            b'd' => byte.is_ascii_digit(),
            other => byte == *other,
        })
}

/// An IP address. As in Kubernetes, octets of IPv4 may have leading zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub IpAddr);

pub(super) fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
        .or_else(|| parse_sloppy(text))
}

fn parse_sloppy(text: &str) -> Option<IpAddr> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 16 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse::<u64>().ok()?.try_into().ok()?;
    }
    parts
        .next()
        .is_none()
        .then_some(IpAddr::V4(Ipv4Addr::from(octets)))
}

struct TextVisitor<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self.expected))
    }
}

/// What is no IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address")]
pub struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        parse_address(text).map(Self).ok_or(NotAnAddress)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor {
            expected: "an IP address",
            parse: |text| parse_address(text).map(Address),
        })
    }
}

/// spec.clusterIP, or one of spec.clusterIPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterIp {
    /// None was allocated.
    #[default]
    Unset,
    /// The text `None`: the Service is headless.
    Headless,
    /// An address.
    Address(IpAddr),
}

impl<'de> Deserialize<'de> for ClusterIp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor {
            expected: "an IP address or \"None\"",
            parse: |text| match text {
                "" => Some(Self::Unset),
                "None" => Some(Self::Headless),
                text => parse_address(text).map(Self::Address),
            },
        })
    }
}

/// A port from 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortNumber(pub NonZeroU16);

impl<'de> Deserialize<'de> for PortNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        u16::try_from(number)
            .ok()
            .and_then(NonZeroU16::new)
            .map(Self)
            .ok_or_else(|| D::Error::invalid_value(Unexpected::Signed(number), &"a port from 1 to 65535"))
    }
}

/// A range of addresses such as 10.0.0.0/8, maybe between blanks: any address of it, and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRange {
    /// An address of the range.
    pub address: IpAddr,
    /// Bits of the prefix, as many as the family has or fewer.
    pub length: u8,
}

pub(super) fn parse_range(text: &str) -> Option<SourceRange> {
    let (address, length) = text.trim().split_once('/')?;
    let address = parse_address(address)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let is_plain = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|length| is_plain && *length <= bits)?;
    Some(SourceRange { address, length })
}

impl<'de> Deserialize<'de> for SourceRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor {
            expected: "a range of addresses such as 10.0.0.0/8",
            parse: parse_range,
        })
    }
}

/// How long session affinity lasts, from 1 to 86400 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffinitySeconds(pub u32);

impl Default for AffinitySeconds {
    fn default() -> Self {
        Self(10_800)
    }
}

impl<'de> Deserialize<'de> for AffinitySeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        u32::try_from(number)
            .ok()
            .filter(|seconds| (1..=86_400).contains(seconds))
            .map(Self)
            .ok_or_else(|| {
                D::Error::invalid_value(Unexpected::Signed(number), &"a time from 1 to 86400 seconds")
            })
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub enum Protocol {
    /// TCP, also where none is given.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP
    #[serde(rename = "SCTP")]
    Sctp,
}

impl Protocol {
    /// IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => proxy_common::layout::protocol::TCP,
            Self::Udp => proxy_common::layout::protocol::UDP,
            Self::Sctp => proxy_common::layout::protocol::SCTP,
        }
    }
}

/// The first of an endpoint's addresses, which is the only one that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EndpointAddress {
    /// The list is empty.
    #[default]
    Missing,
    /// An IP address.
    Ip(IpAddr),
    /// Anything else: a name, under the address type FQDN.
    Other(Box<str>),
}

impl<'de> Deserialize<'de> for EndpointAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;

        impl<'de> Visitor<'de> for First {
            type Value = EndpointAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<EndpointAddress, A::Error> {
                let first: Option<String> = list.next_element()?;
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(first.map_or(EndpointAddress::Missing, |text| {
                    parse_address(&text)
                        .map_or_else(|| EndpointAddress::Other(text.into()), EndpointAddress::Ip)
                }))
            }
        }

        deserializer.deserialize_seq(First)
    }
}

/// Whether a label is there, whatever its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence(pub bool);

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Ok(Self(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_kubernetes_reads_them() {
        let address = |text| parse_address(text).map(|address| address.to_string());
        assert_eq!(address("10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(address("010.000.0.01").as_deref(), Some("10.0.0.1"));
        assert_eq!(address("fd00::1").as_deref(), Some("fd00::1"));
        assert_eq!(address("::ffff:10.0.0.1").as_deref(), Some("10.0.0.1"));
        for wrong in [
            "",
            "10.0.0",
            "10.0.0.256",
            "10.0.0.1.2",
            "10.0.0.-1",
            "10.0.0.1 ",
            "example.org",
        ] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ranges_are_read_as_kubernetes_reads_them() {
        let range = |text| parse_range(text).map(|range| format!("{}/{}", range.address, range.length));
        assert_eq!(range(" 10.0.0.1/8 ").as_deref(), Some("10.0.0.1/8"));
        assert_eq!(range("0.0.0.0/0").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(range("2001:db8::/128").as_deref(), Some("2001:db8::/128"));
        for wrong in [
            "",
            "10.0.0.1",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/ 8",
            "a/8",
        ] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn affinity_lasts_a_second_to_a_day() {
        let read = |text| serde_saphyr::from_str::<AffinitySeconds>(text);
        assert_eq!(read("1").unwrap(), AffinitySeconds(1));
        assert_eq!(read("86400").unwrap(), AffinitySeconds(86_400));
        for wrong in ["0", "-1", "86401", "4294967297", "soon"] {
            let text = read(wrong).unwrap_err().to_string();
            assert!(
                wrong == "soon" || text.contains("from 1 to 86400 seconds"),
                "{text}"
            );
        }
    }

    #[test]
    fn timestamps_are_utc_to_the_second() {
        assert!(is_timestamp("2026-01-31T12:00:00Z"));
        for wrong in ["2026-01-31", "2026-01-31T12:00:00+02:00", "yesterday"] {
            assert!(!is_timestamp(wrong), "{wrong}");
        }
    }
}
