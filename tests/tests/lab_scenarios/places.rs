//! A scenario's addresses and names as the lab has them.
//!
//! ```text
//! here, 10.1.0.1, fd01::1          n1                  10.4.0.N, fd04::N    a pod of n1
//! there                            n2                  10.5.0.N, fd05::N    a pod of n2
//! 10.6.0.1, fd06::1                n1, its second      10.96.0.N, fd60::N   cluster addresses
//! 10.1.0.N, fd01::N, N > 31        clients outside
//!                                                      10.97.0.N, fd61::N   addresses that are routed to n1
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use lab::address::{self, Family, Pair};
use lab::{Lab, Place};

/// Pods by their address's last number, and their nodes.
const PODS: [(u8, &[u16]); 2] = [(1, &[1, 2, 3, 4, 9]), (2, &[1, 2, 9])];
/// An address of n1 beside its first.
const SECOND: Pair = address::node(101);
/// Addresses of clients by their last number, in both families.
const CLIENTS: [u16; 2] = [0x20, 0x21];
/// Ranges of those who are nobody, here and there.
const NOBODYS: Pair = Pair {
    v4: Ipv4Addr::new(192, 0, 2, 0),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
};
/// Where the endpoints of scenarios that have UDP listen.
pub(crate) const DATAGRAM_PORT: u16 = 5353;

/// What stands for what.
pub(crate) struct Places {
    /// The scenario's addresses that the lab has, each with the lab's own.
    addresses: BTreeMap<IpAddr, IpAddr>,
    /// The place that has one of the lab's addresses.
    names: BTreeMap<IpAddr, String>,
}

/// The lab's pods, clients and routes for it.
pub(crate) fn build(lab: &mut Lab) -> Result<Places> {
    let mut places = Places {
        addresses: BTreeMap::new(),
        names: BTreeMap::new(),
    };
    places.add(1, 1, address::node(1), "n1");
    places.add(6, 1, SECOND, "n1");
    lab.host(1).namespace().ip(&[
        format!("address add {}/32 dev eth0", SECOND.v4),
        format!("address add {}/128 dev eth0 nodad", SECOND.v6),
    ])?;
    for (node, numbers) in PODS {
        for number in numbers {
            let name = format!("p{node}{number}");
            lab.add_pod(&name, node)?.serve(DATAGRAM_PORT)?;
            places.add(3 + node, *number, lab.pod(&name).address, &name);
        }
    }
    for number in CLIENTS {
        let pair = client(number);
        places.add(1, number, pair, "client");
        lab.client.namespace().ip(&[
            format!("address add {}/32 dev eth0", pair.v4),
            format!("address add {}/128 dev eth0 nodad", pair.v6),
        ])?;
        lab.network().ip(&[
            format!("route add {}/32 via {}", pair.v4, address::CLIENT.v4),
            format!("route add {}/128 via {}", pair.v6, address::CLIENT.v6),
        ])?;
    }
    for number in 1..=9 {
        places.add(0x60, number, address::cluster(number as u8), "");
        places.add(0x61, number, balancer(number), "");
    }
    places
        .addresses
        .insert(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into());
    places
        .addresses
        .insert(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    for loopback in Family::BOTH.map(|family| address::LOOPBACK.of(family)) {
        places.names.insert(loopback, "n1".to_owned());
    }
    // From the client alone: what a node loses still finds no way to a cluster address.
    let to_cluster = Family::BOTH.map(|family| {
        let network = if family == Family::V4 {
            "10.96.0.0/16"
        } else {
            "fd00:96::/64"
        };
        format!(
            "route add {network} via {} table 100",
            address::node(1).of(family)
        )
    });
    lab.network().ip(&to_cluster)?;
    for option in ["-4", "-6"] {
        let mut command = std::process::Command::new("ip");
        command.args([option, "rule", "add", "iif", "client", "lookup", "100"]);
        let output = lab.network().run(|| command.output().context("starting ip"))?;
        ensure!(output.status.success(), "{command:?}: {output:?}");
    }
    Ok(places)
}

fn client(number: u16) -> Pair {
    Pair {
        v4: Ipv4Addr::new(192, 168, 20, number as u8),
        v6: Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, number),
    }
}

fn balancer(number: u16) -> Pair {
    Pair {
        v4: Ipv4Addr::new(203, 0, 113, number as u8),
        v6: Ipv6Addr::new(0xfd00, 0x203, 0, 0, 0, 0, 0, number),
    }
}

/// An address of a scenario: 10.N.0.last or fdN::last. IPv4's networks are written in decimal, IPv6's in hexadecimal digits
/// of the same number.
fn scenario(network: u8, number: u16) -> Pair {
    Pair {
        v4: Ipv4Addr::new(10, network, 0, number as u8),
        v6: Ipv6Addr::new(0xfd00 + u16::from(network), 0, 0, 0, 0, 0, 0, number),
    }
}

impl Places {
    fn add(&mut self, network: u8, number: u16, here: Pair, name: &str) {
        let there = scenario(network, number);
        for family in Family::BOTH {
            self.addresses.insert(there.of(family), here.of(family));
            if !name.is_empty() {
                self.names.insert(here.of(family), name.to_owned());
            }
        }
    }

    /// The lab's address for a scenario's.
    pub(crate) fn address(&self, address: IpAddr) -> Option<IpAddr> {
        self.addresses.get(&address).copied()
    }

    /// The same with its port.
    pub(crate) fn socket(&self, address: SocketAddr) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address(address.ip())?, address.port()))
    }

    /// The name of who has one of the lab's addresses.
    pub(crate) fn name(&self, address: IpAddr) -> Option<&str> {
        self.names.get(&address).map(String::as_str)
    }

    /// Who has it.
    pub(crate) fn place<'a>(&self, lab: &'a Lab, address: IpAddr) -> Result<&'a Place> {
        let name = self
            .name(address)
            .with_context(|| format!("nobody has {address}"))?;
        lab.place(name)
    }

    /// A list of networks and words of nodePortAddresses: of networks, that of the node's second address.
    pub(crate) fn networks(&self, list: &str) -> Result<String> {
        let item = |item: &str| {
            let Some((address, _)) = item.split_once('/') else {
                return Ok(item.to_owned());
            };
            let address: IpAddr = address.parse()?;
            let second = Family::BOTH
                .into_iter()
                .find(|family| scenario(6, 0).of(*family) == address);
            match second {
                Some(Family::V4) => Ok(format!("{}/32", SECOND.v4)),
                Some(Family::V6) => Ok(format!("'{}/128'", SECOND.v6)),
                None => bail!("the lab has nothing for {item}"),
            }
        };
        let items = list.split(',').map(item).collect::<Result<Vec<_>>>()?;
        Ok(items.join(", "))
    }

    /// A manifest with the lab's names and addresses; an error if it has an address that the lab does not have.
    pub(crate) fn manifest(&self, text: &str) -> Result<String> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || ".:-".contains(c);
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(is_word) {
            let (between, from) = rest.split_at(start);
            let end = from.find(|c| !is_word(c)).unwrap_or(from.len());
            let (word, after) = from.split_at(end);
            out += between;
            out += &self.word(word, after)?;
            rest = after;
        }
        Ok(out + rest)
    }

    fn word(&self, word: &str, after: &str) -> Result<String> {
        // An address may end with colons, a key ends with one.
        let Ok(address) = word.parse::<IpAddr>() else {
            return Ok(match word {
                "here" => "n1".to_owned(),
                "there" => "n2".to_owned(),
                other => other.to_owned(),
            });
        };
        if let Some(network) = after.starts_with('/').then(|| network(address)).flatten() {
            return Ok(network);
        }
        if after.starts_with('/') && Family::BOTH.map(|family| NOBODYS.of(family)).contains(&address) {
            return Ok(word.to_owned());
        }
        let found = self.address(address);
        Ok(found
            .with_context(|| format!("the lab has nothing for {address}"))?
            .to_string())
    }
}

/// The beginning of a range of all pods of a node, or of all nodes and clients; these are two networks here, of which the
/// first is closed and the second is left to be ended as the scenario ends its one.
fn network(address: IpAddr) -> Option<String> {
    let is = |network| {
        Family::BOTH
            .into_iter()
            .find(|family| scenario(network, 0).of(*family) == address)
    };
    let pods = (1..=2).find_map(|node| Some(address::pod(node, 0).of(is(3 + node)?).to_string()));
    pods.or_else(|| {
        Some(match is(1)? {
            Family::V4 => "192.168.10.0/24, 192.168.20.0".to_owned(),
            Family::V6 => "fd00:10::/64', 'fd00:20::".to_owned(),
        })
    })
}
