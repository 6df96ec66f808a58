//! Why topology hints are not followed.

use core::fmt;

/// Why a service port whose endpoints have hints for zones or nodes uses all of them nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HintFallback {
    /// So many ready endpoints have none.
    Incomplete(u16),
    /// They are for zones, and the node's is not known.
    NoZone,
    /// They are for other zones.
    OtherZones,
    /// They are for other nodes.
    OtherNodes,
    /// A reason that this version does not know.
    Unknown,
}

impl HintFallback {
    /// As IDENTITY holds it: the reason, and a count.
    pub const fn to_fields(fallback: Option<Self>) -> (u16, u16) {
        match fallback {
            None => (0, 0),
            Some(Self::Incomplete(count)) => (1, count),
            Some(Self::NoZone) => (2, 0),
            Some(Self::OtherZones) => (3, 0),
            Some(Self::OtherNodes) => (4, 0),
            Some(Self::Unknown) => (u16::MAX, 0),
        }
    }

    /// From what IDENTITY holds; none: there are no hints, or they are followed.
    pub const fn from_fields(reason: u16, count: u16) -> Option<Self> {
        match reason {
            0 => None,
            1 => Some(Self::Incomplete(count)),
            2 => Some(Self::NoZone),
            3 => Some(Self::OtherZones),
            4 => Some(Self::OtherNodes),
            _ => Some(Self::Unknown),
        }
    }
}

impl fmt::Display for HintFallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete(without) => write!(f, "{without} of its ready endpoints have none"),
            Self::NoZone => f.write_str("the node has no label topology.kubernetes.io/zone"),
            Self::OtherZones => f.write_str("none is for this node's zone"),
            Self::OtherNodes => f.write_str("none is for this node"),
            Self::Unknown => f.write_str("for a reason that this version of Shunt does not know"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_read_as_it_was_written() {
        for fallback in [
            None,
            Some(HintFallback::Incomplete(7)),
            Some(HintFallback::NoZone),
            Some(HintFallback::OtherZones),
            Some(HintFallback::OtherNodes),
            Some(HintFallback::Unknown),
        ] {
            let (reason, count) = HintFallback::to_fields(fallback);
            assert_eq!(HintFallback::from_fields(reason, count), fallback);
        }
        // An agent from before wrote zeroes there.
        assert_eq!(HintFallback::from_fields(0, 0), None);
    }
}
