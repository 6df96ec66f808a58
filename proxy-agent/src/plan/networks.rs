//! Ranges of addresses that the programs know: NETWORKS.

use std::net::IpAddr;

use proxy_common::layout::{Addr, NETWORKS, Network, NetworkList, Networks, V4, V6};

use super::{Difference, Operation, Plan, Planner, Range};

/// Ranges of addresses, of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Of cluster addresses: ServiceCIDRs.
    pub service: Vec<Range>,
    /// Of pods that count as this node's own; none: their interface tells.
    pub local: Vec<Range>,
}

impl Ranges {
    /// As the map holds them, and those for which there is no room.
    pub fn networks(&self) -> (Networks, Vec<Range>) {
        let mut left = Vec::new();
        let networks = Networks {
            service4: list(&self.service, four, &mut left),
            service6: list(&self.service, six, &mut left),
            local4: list(&self.local, four, &mut left),
            local6: list(&self.local, six, &mut left),
        };
        (networks, left)
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
    ranges: &[Range],
    of_family: impl Fn(&Range) -> Option<Network<A>>,
    left: &mut Vec<Range>,
) -> NetworkList<A> {
    let mine = || ranges.iter().filter(|range| of_family(range).is_some());
    left.extend(mine().skip(NETWORKS));
    NetworkList::of(mine().filter_map(&of_family))
}

impl Planner {
    /// From the ranges that the map holds to these.
    pub fn set_ranges(&mut self, ranges: &Ranges) -> Plan {
        let (networks, left) = ranges.networks();
        if networks == self.networks {
            return Plan::default();
        }
        for range in left {
            tracing::warn!(
                range = %format_args!("{}/{}", range.address, range.length),
                "only {NETWORKS} ranges of a kind and family are known to the programs: this one is not"
            );
        }
        self.networks = networks;
        Plan {
            operations: vec![Operation::PutNetworks(Box::new(networks))],
            ..Plan::default()
        }
    }
}

impl Planner {
    /// Whether the map differs from what it should hold.
    pub fn network_difference(&self, found: &Networks) -> Option<Difference> {
        (*found != self.networks).then(|| Difference {
            subject: "ranges of addresses".to_owned(),
            map: "NETWORKS",
            problem: "it does not hold the ranges of ServiceCIDRs and of pods that it should".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        let (address, length) = text.split_once('/').unwrap();
        Range::new(address.parse().unwrap(), length.parse().unwrap())
    }

    #[test]
    fn each_family_has_its_own_and_what_does_not_fit_is_named() {
        let service = [
            "10.0.0.0/8",
            "fd00::/64",
            "10.1.0.0/16",
            "10.2.0.0/16",
            "10.3.0.0/16",
            "10.4.0.0/16",
        ];
        let ranges = Ranges {
            service: service.map(range).to_vec(),
            local: vec![range("10.244.1.0/24")],
        };
        let (networks, left) = ranges.networks();
        assert_eq!(left, [range("10.4.0.0/16")]);
        assert_eq!((networks.service4.count, networks.service6.count), (4, 1));
        assert_eq!((networks.local4.count, networks.local6.count), (1, 0));
        let inside: std::net::Ipv4Addr = "10.244.1.9".parse().unwrap();
        assert_eq!(networks.local4.contains(&inside.into()), Some(true));
    }
}
