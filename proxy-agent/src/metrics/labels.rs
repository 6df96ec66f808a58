//! Labels.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

/// The label `ip_family`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct IpFamily {
    ip_family: FamilyName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum FamilyName {
    IPv4,
    IPv6,
}

impl IpFamily {
    pub(super) const V4: Self = Self {
        ip_family: FamilyName::IPv4,
    };
    pub(super) const V6: Self = Self {
        ip_family: FamilyName::IPv6,
    };
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// The label `code`: a status of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Code {
    pub(super) code: u16,
}
