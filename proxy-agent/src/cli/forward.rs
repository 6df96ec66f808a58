//! How packets from outside go to endpoints of other nodes, by arguments.

use std::collections::BTreeSet;

use clap::Args;
use ipnet::IpNet;

use crate::plan::{Forwarding, Range};

/// How this node forwards.
#[derive(Clone, Debug, Default, Args)]
pub struct ForwardingArguments {
    /// How packets from outside go to endpoints of other nodes, where a Service's annotation shunt.dev/forwarding says nothing
    /// else: in this node's name (snat), or whole in an outer header, so that the endpoint's node answers the client (dsr).
    #[arg(long, value_enum, default_value_t)]
    pub forwarding: Forwarding,
    /// Clients whose packets never go whole, whatever a Service says: ranges of addresses.
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = range)]
    dsr_exclude: Vec<IpNet>,
}

impl ForwardingArguments {
    /// An argument that was given.
    pub fn given(&self) -> Option<&'static str> {
        let is_given = [
            (self.forwarding != Forwarding::default(), "forwarding"),
            (!self.dsr_exclude.is_empty(), "dsr-exclude"),
        ];
        is_given
            .into_iter()
            .find_map(|(is_given, name)| is_given.then_some(name))
    }

    /// The ranges of clients whose packets never go whole.
    pub fn exempt(&self) -> BTreeSet<Range> {
        let ranges = self.dsr_exclude.iter();
        ranges
            .map(|net| Range::new(net.network(), net.prefix_len()))
            .collect()
    }
}

pub(super) fn range(text: &str) -> Result<IpNet, String> {
    let way_out = "it is no range of addresses; write ranges as 192.0.2.0/24,2001:db8::/64";
    text.trim().parse().map_err(|_| way_out.to_owned())
}
