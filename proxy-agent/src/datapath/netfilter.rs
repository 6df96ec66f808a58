//! What tables and chains netfilter has in the calling thread's network namespace: read, never changed.

use std::io;

use super::error::{CallError, Context};
use super::netlink::{Body, Netlink, attributes, text};
use super::sys;

/// Names of tables and chains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Tables of nftables, once each.
    pub(super) tables: Vec<String>,
    /// Chains of nftables (where today's iptables has its own too), and of the older iptables.
    pub(super) chains: Vec<String>,
}

/// All names. A kernel without nftables has none of its; one without the older iptables none of those.
pub(super) fn names() -> Result<Names, CallError> {
    let mut names = nftables().call("NFT_MSG_GETCHAIN", "the chains of nftables")?;
    for legacy in Legacy::BOTH {
        let chains = legacy.chains();
        names.chains.extend(chains.call("getsockopt", legacy.what())?);
    }
    Ok(names)
}

fn nftables() -> io::Result<Names> {
    const SUBSYSTEM: u16 = 10;
    const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
    const CHAIN_TABLE: u16 = 1;
    const CHAIN_NAME: u16 = 3;
    // struct nfgenmsg: all families.
    let request = Body::new(&[0; 4]);
    let answers = match Netlink::netfilter().and_then(|mut netlink| netlink.dump(GET_CHAIN, &request)) {
        Ok(answers) => answers,
        Err(error) if is_without(&error) => return Ok(Names::default()),
        Err(error) => return Err(error),
    };
    let mut names = Names::default();
    for message in &answers {
        for (kind, value) in attributes(message.body.get(4..).unwrap_or_default()) {
            match kind {
                CHAIN_TABLE => names.tables.push(text(value)),
                CHAIN_NAME => names.chains.push(text(value)),
                _ => {}
            }
        }
    }
    names.tables.sort_unstable();
    names.tables.dedup();
    Ok(names)
}

/// Whether an error says that the kernel has no such thing.
fn is_without(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOENT | libc::ENOPROTOOPT)
    )
}

/// iptables before nftables, in a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Legacy {
    V4,
    V6,
}

impl Legacy {
    const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn what(self) -> &'static str {
        match self {
            Self::V4 => "the chains of iptables-legacy",
            Self::V6 => "the chains of ip6tables-legacy",
        }
    }

    fn chains(self) -> io::Result<Vec<String>> {
        let (list, is_six) = match self {
            Self::V4 => ("/proc/thread-self/net/ip_tables_names", false),
            Self::V6 => ("/proc/thread-self/net/ip6_tables_names", true),
        };
        let tables = match std::fs::read_to_string(list) {
            Ok(tables) => tables,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut chains = Vec::new();
        for table in tables.lines() {
            let entries = sys::legacy_rules(is_six, table)?;
            chains.extend(user_chains(&entries, is_six));
        }
        Ok(chains)
    }
}

/// Names of the chains in the entries of a table (linux/netfilter_ipv4/ip_tables.h, ip6_tables.h): each begins with an entry whose
/// target is ERROR and says its name.
fn user_chains(entries: &[u8], is_six: bool) -> Vec<String> {
    // Where an entry says how far its target and the next entry are.
    let place = if is_six { 140 } else { 88 };
    let half = |at: usize| {
        let bytes = entries.get(at..at + 2)?;
        Some(usize::from(u16::from_ne_bytes(bytes.try_into().ok()?)))
    };
    let name = |at: usize, length: usize| entries.get(at..at + length).map(text);
    let (mut chains, mut at) = (Vec::new(), 0);
    while let (Some(target), Some(next)) = (half(at + place), half(at + place + 2)) {
        // struct xt_error_target: length, name of the target, revision; then the chain's.
        if name(at + target + 2, 29).is_some_and(|target| target == "ERROR") {
            chains.extend(name(at + target + 32, 30).filter(|name| name != "ERROR"));
        }
        if next == 0 {
            break;
        }
        at += next;
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::testing::Namespace;

    #[test]
    fn chains_of_every_kind_are_read() {
        let node = Namespace::new();
        assert_eq!(node.run(|| names().unwrap()), Names::default());
        node.command("nft", "add table inet calico");
        node.command("nft", "add chain inet calico filter-cali-FORWARD");
        node.command("iptables-nft", "-N KUBE-POD-FW-67NZLRHBNDSAWJRO");
        let found = node.run(|| names().unwrap());
        assert!(found.tables.contains(&"calico".to_owned()), "{found:?}");
        for chain in ["filter-cali-FORWARD", "KUBE-POD-FW-67NZLRHBNDSAWJRO"] {
            assert!(found.chains.contains(&chain.to_owned()), "{found:?}");
        }
    }

    #[test]
    fn chains_of_the_older_iptables_are_read() {
        let node = Namespace::new();
        for (program, chain) in [
            ("iptables-legacy", "WEAVE-NPC"),
            ("ip6tables-legacy", "cali-FORWARD"),
        ] {
            node.command(program, &format!("-N {chain}"));
            node.command(program, &format!("-A {chain} -j ACCEPT"));
            node.command(program, &format!("-A FORWARD -p tcp -j {chain}"));
            let found = node.run(|| names().unwrap());
            assert!(found.chains.contains(&chain.to_owned()), "{program}: {found:?}");
        }
    }

    #[test]
    fn what_is_cut_off_ends_the_reading() {
        for length in 0..300 {
            assert!(user_chains(&vec![0; length], false).is_empty());
            assert!(user_chains(&vec![0xff; length], true).is_empty());
        }
    }
}
