//! Which of Debian's two sets of iptables' programs kube-proxy finds.

/// Two sets of programs of the same names: their rules are in tables that know nothing of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Iptables {
    /// Those that make rules of nf_tables: what `iptables` is in Debian.
    #[default]
    Nft,
    /// Those of the older tables.
    Legacy,
}

/// In a tree that can be written, as a pod's is: links to the one program that is all of them, by the name that it has. They
/// come first in PATH.
const LEGACY: &str = "set -e\n\
    mkdir -p /run/iptables-legacy\n\
    for family in ip ip6; do\n\
      for name in tables tables-restore tables-save; do\n\
        ln -sf /usr/sbin/xtables-legacy-multi /run/iptables-legacy/$family$name\n\
      done\n\
    done\n\
    PATH=/run/iptables-legacy:$PATH\n\
    export PATH\n\
    exec \"$0\" \"$@\"";

impl Iptables {
    /// A command that starts a program which finds these; its arguments follow.
    pub(crate) fn command(self, program: &str) -> Vec<String> {
        let words = match self {
            Self::Nft => vec![program],
            Self::Legacy => vec!["/bin/sh", "-c", LEGACY, program],
        };
        words.into_iter().map(ToOwned::to_owned).collect()
    }

    /// What `iptables --version` says of itself.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => "nf_tables",
            Self::Legacy => "legacy",
        }
    }
}
