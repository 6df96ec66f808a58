//! Ranges of addresses that the programs know: NETWORKS.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use proxy_common::layout::{Addr, Family, NETWORKS, Network, NetworkList, Networks, V4, V6};

use super::{Difference, Operation, Plan, Planner, Range, family_name};

/// Ranges of addresses, of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Of cluster addresses: ServiceCIDRs.
    pub service: Vec<Range>,
    /// Of pods that count as this node's own; none: their interface tells.
    pub local: Vec<Range>,
}

/// What ranges are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// Cluster addresses.
    Service,
    /// Pods that count as this node's own.
    Local,
}

/// All ranges of a kind and family, for which there is no room. None of them is known then: of an address in one that is
/// left out the programs would be sure that it is in none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRanges {
    /// What they are of.
    pub kind: RangeKind,
    /// Their family.
    pub family: Family,
    /// Such as can't be one.
    pub ranges: Vec<Range>,
}

impl fmt::Display for UnknownRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = family_name(self.family);
        let ranges: Vec<String> = self.ranges.iter().map(Range::to_string).collect();
        write!(
            f,
            "{} {family} ranges, {}, and the programs know {NETWORKS} of a family",
            self.ranges.len(),
            ranges.join(", ")
        )
    }
}

impl Ranges {
    /// As the map holds them, neighbours as one, and those for which there is no room.
    pub fn networks(&self) -> (Networks, Vec<UnknownRanges>) {
        let mut unknown = Vec::new();
        let networks = Networks {
            service4: list(RangeKind::Service, &self.service, four, &mut unknown),
            service6: list(RangeKind::Service, &self.service, six, &mut unknown),
            local4: list(RangeKind::Local, &self.local, four, &mut unknown),
            local6: list(RangeKind::Local, &self.local, six, &mut unknown),
        };
        (networks, unknown)
    }
}

fn four(range: &Range) -> Option<Network<V4>> {
    match range.address {
        IpAddr::V4(address) => Some(Network::new(address.into(), range.length)),
        IpAddr::V6(_) => None,
    }
}

fn six(range: &Range) -> Option<Network<V6>> {
    match range.address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(Network::new(address.into(), range.length)),
    }
}

fn list<A: Addr>(
    kind: RangeKind,
    ranges: &[Range],
    of_family: impl Fn(&Range) -> Option<Network<A>>,
    unknown: &mut Vec<UnknownRanges>,
) -> NetworkList<A> {
    let mine = ranges.iter().filter(|range| of_family(range).is_some());
    let ranges = merged(mine);
    if ranges.len() <= NETWORKS {
        return NetworkList::of(ranges.iter().filter_map(of_family));
    }
    unknown.push(UnknownRanges {
        kind,
        family: A::FAMILY,
        ranges,
    });
    NetworkList::default()
}

/// The fewest ranges that hold the same addresses.
fn merged<'a>(ranges: impl Iterator<Item = &'a Range>) -> Vec<Range> {
    let networks = ranges.filter_map(|range| IpNet::new(range.address, range.length).ok());
    let networks = IpNet::aggregate(&networks.collect());
    networks
        .iter()
        .map(|network| Range::new(network.network(), network.prefix_len()))
        .collect()
}

impl Planner {
    /// From the ranges that the map holds to these.
    pub fn set_networks(&mut self, networks: Networks) -> Plan {
        if networks == self.networks {
            return Plan::default();
        }
        self.networks = networks;
        Plan {
            operations: vec![Operation::PutNetworks(Box::new(networks))],
            ..Plan::default()
        }
    }

    /// In what the map differs from what it should hold.
    pub fn network_differences(&self, found: &Networks) -> Vec<Difference> {
        differences(found, &self.networks)
    }
}

/// In what the map differs from what it should hold.
pub(super) fn differences(found: &Networks, wanted: &Networks) -> Vec<Difference> {
    if found == wanted {
        return Vec::new();
    }
    let found_ranges = by_subject(found);
    let mut differences = Vec::new();
    for ((subject, wanted), (_, found)) in by_subject(wanted).into_iter().zip(found_ranges) {
        let missing = wanted.difference(&found).map(|range| (range, "is missing"));
        let strays = found
            .difference(&wanted)
            .map(|range| (range, "should not be there"));
        differences.extend(missing.chain(strays).map(|(range, what)| Difference {
            subject: subject.to_owned(),
            map: MAP,
            problem: format!("{range} {what}"),
        }));
    }
    if differences.is_empty() {
        differences.push(Difference {
            subject: "ranges of addresses".to_owned(),
            map: MAP,
            problem: "it does not hold its ranges as it should".to_owned(),
        });
    }
    differences
}

const MAP: &str = "NETWORKS";

fn by_subject(networks: &Networks) -> [(&'static str, BTreeSet<Range>); 4] {
    [
        ("ServiceCIDRs (IPv4)", ranges_of(&networks.service4)),
        ("ServiceCIDRs (IPv6)", ranges_of(&networks.service6)),
        ("this node's pods (IPv4)", ranges_of(&networks.local4)),
        ("this node's pods (IPv6)", ranges_of(&networks.local6)),
    ]
}

/// The ranges in a list.
pub fn ranges_of<A: Addr>(list: &NetworkList<A>) -> BTreeSet<Range>
where
    IpAddr: From<A>,
{
    list.iter()
        .map(|network| Range::new(network.address.into(), network.length()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Range> {
        let range = |text: &&str| {
            let (address, length) = text.split_once('/').unwrap();
            Range::new(address.parse().unwrap(), length.parse().unwrap())
        };
        texts.iter().map(range).collect()
    }

    fn of_services(texts: &[&str]) -> (Networks, Vec<UnknownRanges>) {
        let ranges = Ranges {
            service: ranges(texts),
            local: Vec::new(),
        };
        ranges.networks()
    }

    #[test]
    fn each_family_has_its_own() {
        let ranges = Ranges {
            service: ranges(&["10.1.0.0/16", "fd00::/64", "10.3.0.0/16"]),
            local: ranges(&["10.244.1.0/24"]),
        };
        let (networks, unknown) = ranges.networks();
        assert_eq!(unknown, []);
        assert_eq!((networks.service4.count, networks.service6.count), (2, 1));
        assert_eq!((networks.local4.count, networks.local6.count), (1, 0));
        let inside: std::net::Ipv4Addr = "10.244.1.9".parse().unwrap();
        assert_eq!(networks.local4.contains(&inside.into()), Some(true));
    }

    #[test]
    fn neighbours_and_what_others_hold_take_no_room() {
        let (networks, unknown) = of_services(&[
            "10.96.0.0/16",
            "10.97.0.0/16",
            "10.100.0.0/16",
            "10.100.7.0/24",
            "10.101.0.0/17",
            "10.101.128.0/17",
            "10.110.0.0/16",
            "10.120.0.0/16",
        ]);
        assert_eq!(unknown, []);
        assert_eq!(
            ranges_of(&networks.service4),
            ranges(&["10.96.0.0/15", "10.100.0.0/15", "10.110.0.0/16", "10.120.0.0/16"])
                .into_iter()
                .collect()
        );
    }

    #[test]
    fn of_more_than_there_is_room_for_none_is_known() {
        let texts = [
            "10.0.0.0/16",
            "10.2.0.0/16",
            "10.4.0.0/16",
            "10.6.0.0/16",
            "10.8.0.0/16",
        ];
        let (networks, unknown) = of_services(&[&texts[..], &["fd00::/64"]].concat());
        let inside: std::net::Ipv4Addr = "10.0.0.9".parse().unwrap();
        assert_eq!(networks.service4.contains(&inside.into()), None);
        assert_eq!(networks.service6.count, 1, "the other family has room");
        let [unknown] = &unknown[..] else {
            panic!("{unknown:?}")
        };
        assert_eq!((unknown.kind, unknown.family), (RangeKind::Service, Family::V4));
        assert_eq!(
            unknown.to_string(),
            "5 IPv4 ranges, 10.0.0.0/16, 10.2.0.0/16, 10.4.0.0/16, 10.6.0.0/16, 10.8.0.0/16, and the programs know 4 of \
             a family"
        );
    }

    #[test]
    fn each_range_that_differs_is_named() {
        let (found, _) = of_services(&["10.96.0.0/16", "10.98.0.0/16"]);
        let (wanted, _) = of_services(&["10.96.0.0/16", "fd00:96::/112"]);
        let texts: Vec<String> = differences(&found, &wanted)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "ServiceCIDRs (IPv4): NETWORKS: 10.98.0.0/16 should not be there",
                "ServiceCIDRs (IPv6): NETWORKS: fd00:96::/112 is missing"
            ]
        );
        assert_eq!(differences(&found, &found), []);
        let mut odd = found;
        odd.service4.pad = 1;
        assert_eq!(differences(&odd, &found).len(), 1);
    }
}
