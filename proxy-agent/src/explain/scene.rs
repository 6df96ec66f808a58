//! What decides about a call: the maps, and what else of the node the rules ask for.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::IpAddr;

use proxy_common::host::HostNode;
use proxy_common::layout::{Addr, Config, Counter, Family, ServiceId};
use proxy_common::rules::client;

use super::{NodeFacts, Store};
use crate::datapath::picture::Way;

/// A node, planned or running.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) store: Store,
    pub(super) facts: NodeFacts,
    pub(super) config: Config,
    /// Of a running node, the ways to the addresses that the answer speaks of; one without an entry has no way.
    pub(super) ways: Option<BTreeMap<IpAddr, Way>>,
}

impl Scene {
    /// Whether it was read from a node that runs.
    pub(super) fn is_running(&self) -> bool {
        self.ways.is_some()
    }

    /// Whether socket LB knows a network namespace with this address.
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        let known = self.store.namespaces.iter();
        known
            .filter(|known| client::is_believed(&self.config, known, self.store.clock))
            .any(|known| IpAddr::from(known.address) == address)
    }

    /// The way to an address, if it is known.
    pub(super) fn way(&self, address: IpAddr) -> Option<&Way> {
        self.ways.as_ref()?.get(&address)
    }

    /// The node as the rules see it, in one family.
    pub(super) fn node<A: Addr + Hash>(&self) -> HostNode<A> {
        let mut node = self.store.node::<A>(self.config);
        let is_ours = |address: &&IpAddr| address.is_ipv4() == (A::FAMILY == Family::V4);
        let address = |address: IpAddr| A::from_mapped(address.into());
        let addresses = self.facts.addresses.iter().filter(is_ours);
        node.node_addresses = addresses.map(|ip| address(*ip)).collect();
        let silent = self.facts.silent.iter().filter(is_ours);
        node.silent_addresses = silent.map(|ip| address(*ip)).collect();
        let Some(ways) = &self.ways else {
            let primary = address(self.facts.primary_or_unknown(A::FAMILY));
            node.primary = Some(primary);
            node.default_route = Ok(primary);
            return node;
        };
        node.primary = self.facts.primary(A::FAMILY).map(address);
        node.default_route = Err(Counter::NoRoute);
        let ways = ways.iter().filter(|(to, _)| is_ours(to));
        node.routes = ways
            .map(|(to, way)| (address(*to), way.source.map(address)))
            .collect();
        node
    }

    /// `namespace/name`, or `namespace/name:port`, of a service port.
    pub(super) fn name_of(&self, id: ServiceId) -> String {
        let identity = self.store.identities.get(&id);
        identity.map_or_else(
            || format!("(unknown, id {})", id.0),
            |identity| identity.name.as_str().to_owned(),
        )
    }
}
