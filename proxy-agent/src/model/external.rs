//! Which of the addresses in `spec.externalIPs` are served.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Who writes a Service may name any address in `spec.externalIPs`, another's too, and get the traffic that this node's
/// pods send there (CVE-2020-8554). KEP-5707 turns them off in the end; until then they are kube-proxy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExternalIps {
    /// All are served.
    #[default]
    All,
    /// Those within one of the ranges are.
    Within(Vec<IpNet>),
}

impl ExternalIps {
    /// None is served.
    pub const NONE: Self = Self::Within(Vec::new());

    pub(super) fn allow(&self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Within(ranges) => ranges.iter().any(|range| range.contains(&address)),
        }
    }
}

impl FromStr for ExternalIps {
    type Err = String;

    /// `all`, `none`, or ranges with commas between.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::NONE),
            ranges => {
                let range = |text: &str| {
                    let text = text.trim();
                    text.parse().map_err(|_| {
                        format!("`{text}` is no range of addresses; write all, none, or ranges as 192.0.2.0/24,2001:db8::/64")
                    })
                };
                ranges
                    .split(',')
                    .map(range)
                    .collect::<Result<_, _>>()
                    .map(Self::Within)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_list_allows_its_ranges_of_either_family() {
        let list: ExternalIps = "192.0.2.0/24, 2001:db8::/64".parse().unwrap();
        for (address, is_allowed) in [
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("2001:db8::1", true),
            ("2001:db8:0:1::1", false),
        ] {
            assert_eq!(list.allow(ip(address)), is_allowed, "{address}");
            assert!(ExternalIps::All.allow(ip(address)));
            assert!(!ExternalIps::NONE.allow(ip(address)));
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_the_way_out() {
        assert_eq!("all".parse(), Ok(ExternalIps::All));
        assert_eq!("none".parse(), Ok(ExternalIps::NONE));
        for text in ["", "192.0.2.1", "192.0.2.0/24,", "some"] {
            let error = text.parse::<ExternalIps>().unwrap_err();
            assert!(error.contains("192.0.2.0/24"), "{error}");
        }
    }
}
