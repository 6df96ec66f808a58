//! At which addresses of the node NodePorts answer (semantics A9). Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::layout::{CONFIG_NO_LOOPBACK4, CONFIG_NO_LOOPBACK6};

/// The addresses of the node at which NodePorts answer, a family at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePortAddresses {
    four: Chosen,
    six: Chosen,
}

/// Those of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Chosen {
    /// Every address, loopback among them.
    #[default]
    All,
    /// Those in these networks, and maybe the node's primary one.
    Some { networks: Vec<IpNet>, primary: bool },
}

/// Where NodePorts answer now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answering {
    /// At every address that the node has or will have.
    Everywhere,
    /// At these.
    At(BTreeSet<IpAddr>),
}

impl fmt::Display for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.write_str("all"),
            Self::At(addresses) => {
                let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

/// A text that chooses no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no network, nor `primary`, `localhost` or `all`; write a network as 192.0.2.0/24 or 2001:db8::/64"
)]
pub struct NodePortAddressesError(String);

fn loopback4() -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into()
}

fn loopback6() -> IpNet {
    Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into()
}

impl NodePortAddresses {
    /// From kube-proxy's list: networks, `primary`, `localhost` and `all`. No entry: all addresses. A family that no entry
    /// names has all its addresses; see [`Self::unnamed_family`].
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, NodePortAddressesError> {
        let mut networks = Vec::new();
        let (mut primary, mut all) = (false, texts.is_empty());
        for text in texts.iter().map(AsRef::as_ref) {
            match text.trim() {
                "primary" => primary = true,
                "all" => all = true,
                "localhost" => networks.extend([loopback4(), loopback6()]),
                text => match text.parse::<IpNet>() {
                    Ok(network) => networks.push(network.trunc()),
                    Err(_) => return Err(NodePortAddressesError(text.to_owned())),
                },
            }
        }
        let choose = |is_mine: fn(&IpNet) -> bool| {
            let mut mine: Vec<IpNet> = networks.iter().copied().filter(is_mine).collect();
            mine.sort_unstable();
            mine.dedup();
            let is_everything = mine.iter().any(|network| network.prefix_len() == 0);
            if all || is_everything || (mine.is_empty() && !primary) {
                Chosen::All
            } else {
                Chosen::Some {
                    networks: mine,
                    primary,
                }
            }
        };
        Ok(Self {
            four: choose(|network| network.addr().is_ipv4()),
            six: choose(|network| network.addr().is_ipv6()),
        })
    }

    /// The family that has all its addresses only because no entry names it, in a list that does name the other.
    pub fn unnamed_family<T: AsRef<str>>(texts: &[T]) -> Option<&'static str> {
        let names = |text: &str, family: char| match text.trim() {
            "primary" | "all" | "localhost" => true,
            text => text.contains(':') == (family == '6'),
        };
        let named = |family| texts.iter().any(|text| names(text.as_ref(), family));
        match (named('4'), named('6')) {
            (true, false) => Some("IPv6"),
            (false, true) => Some("IPv4"),
            _ => None,
        }
    }

    /// Whether every address answers.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn of(&self, address: IpAddr) -> &Chosen {
        if address.is_ipv4() { &self.four } else { &self.six }
    }

    /// Whether NodePorts answer at an address of the node. `is_primary`: it is the primary one of its family.
    pub fn has(&self, address: IpAddr, is_primary: bool) -> bool {
        match self.of(address) {
            Chosen::All => true,
            Chosen::Some { networks, primary } => {
                (*primary && is_primary) || networks.iter().any(|network| network.contains(&address))
            }
        }
    }

    /// Whether NodePorts answer at loopback addresses of a family: where a network shares an address with 127.0.0.0/8 or
    /// is one of ::1.
    fn has_loopback(&self, loopback: IpNet) -> bool {
        match self.of(loopback.addr()) {
            Chosen::All => true,
            Chosen::Some { networks, .. } => networks
                .iter()
                .any(|network| network.contains(&loopback) || loopback.contains(network)),
        }
    }

    /// The loopback networks at which they answer.
    pub fn loopback(&self) -> impl Iterator<Item = IpAddr> {
        let four = self
            .has_loopback(loopback4())
            .then_some(Ipv4Addr::LOCALHOST.into());
        let six = self
            .has_loopback(loopback6())
            .then_some(Ipv6Addr::LOCALHOST.into());
        four.into_iter().chain(six)
    }

    /// What of it stands in CONFIG's flags.
    pub fn config_flags(&self) -> u32 {
        let flag = |network, flag| if self.has_loopback(network) { 0 } else { flag };
        flag(loopback4(), CONFIG_NO_LOOPBACK4) | flag(loopback6(), CONFIG_NO_LOOPBACK6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> NodePortAddresses {
        NodePortAddresses::parse(texts).unwrap()
    }

    /// At which of these addresses NodePorts answer; the first of each family is the primary one.
    fn answering(texts: &[&str]) -> Vec<&'static str> {
        let chosen = parse(texts);
        let addresses = [
            "192.0.2.10",
            "192.0.2.11",
            "10.0.0.1",
            "2001:db8::10",
            "2001:db8::11",
            "fd00::1",
        ];
        let has = |text: &&&str| chosen.has(text.parse().unwrap(), text.ends_with("10"));
        addresses.iter().filter(has).copied().collect()
    }

    const FOUR: [&str; 3] = ["192.0.2.10", "192.0.2.11", "10.0.0.1"];
    const SIX: [&str; 3] = ["2001:db8::10", "2001:db8::11", "fd00::1"];

    #[test]
    fn each_form_chooses_its_addresses() {
        let all = [FOUR, SIX].concat();
        assert_eq!(answering(&[]), all);
        assert_eq!(answering(&["all"]), all);
        assert_eq!(answering(&["10.0.0.0/8", "all"]), all);
        assert_eq!(answering(&["0.0.0.0/0", "::/0"]), all);
        assert_eq!(answering(&["primary"]), ["192.0.2.10", "2001:db8::10"]);
        assert_eq!(answering(&["localhost"]), [""; 0]);
        assert_eq!(
            answering(&["primary", "localhost"]),
            ["192.0.2.10", "2001:db8::10"]
        );
        assert_eq!(
            answering(&["primary", "fd00::/8"]),
            ["192.0.2.10", "2001:db8::10", "fd00::1"]
        );
        assert_eq!(
            answering(&["10.0.0.0/8", "2001:db8::11/128"]),
            ["10.0.0.1", "2001:db8::11"]
        );
    }

    #[test]
    fn a_family_that_no_entry_names_has_all_its_addresses() {
        assert_eq!(answering(&["10.9.9.9/8"]), [&["10.0.0.1"][..], &SIX].concat());
        assert_eq!(answering(&["fd00::/8"]), [&FOUR[..], &["fd00::1"]].concat());
        assert_eq!(NodePortAddresses::unnamed_family(&["10.0.0.0/8"]), Some("IPv6"));
        assert_eq!(
            NodePortAddresses::unnamed_family(&["fd00::/8", "::/0"]),
            Some("IPv4")
        );
        for both in [
            &[][..],
            &["primary"],
            &["localhost"],
            &["all"],
            &["10.0.0.0/8", "fd00::/8"],
        ] {
            assert_eq!(NodePortAddresses::unnamed_family(both), None, "{both:?}");
        }
    }

    #[test]
    fn loopback_answers_where_an_entry_has_it() {
        let of = |texts: &[&str]| {
            let chosen = parse(texts);
            let addresses: Vec<String> = chosen.loopback().map(|address| address.to_string()).collect();
            (addresses.join(" "), chosen.config_flags())
        };
        let both = ("127.0.0.1 ::1".to_owned(), 0);
        for texts in [
            &[][..],
            &["all"],
            &["localhost"],
            &["primary", "localhost"],
            &["127.0.0.0/8", "::1/128"],
        ] {
            assert_eq!(of(texts), both, "{texts:?}");
        }
        assert_eq!(
            of(&["primary"]),
            (String::new(), CONFIG_NO_LOOPBACK4 | CONFIG_NO_LOOPBACK6)
        );
        assert_eq!(
            of(&["127.0.0.1/32", "fd00::/8"]),
            ("127.0.0.1".to_owned(), CONFIG_NO_LOOPBACK6)
        );
        // The other family has all of its addresses.
        assert_eq!(of(&["10.0.0.0/8"]), ("::1".to_owned(), CONFIG_NO_LOOPBACK4));
    }

    #[test]
    fn what_is_no_choice_is_refused_by_name() {
        for wrong in ["eth0", "10.0.0.0", "10.0.0.0/33", "Primary", ""] {
            let error = NodePortAddresses::parse(&["primary", wrong])
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(&format!("`{wrong}`")) && error.contains("192.0.2.0/24"),
                "{error}"
            );
        }
        assert!(parse(&[]).is_all() && parse(&["all"]).is_all() && !parse(&["primary"]).is_all());
    }
}
