//! Which service port has which frontend.

use std::collections::hash_map::Entry;
use std::net::IpAddr;

use foldhash::HashMap;
use proxy_common::layout::ServiceId;

use super::Frontend;

/// The service ports of all frontends, to be found by frontend and by address.
#[derive(Debug, Default)]
pub(super) struct Owners {
    ids: HashMap<Frontend, ServiceId>,
    /// But for NodePorts, which have no address of their own.
    by_address: HashMap<IpAddr, Ends>,
}

/// The frontends of an address. Most addresses have one.
#[derive(Debug)]
enum Ends {
    One(Frontend),
    Several(Vec<Frontend>),
}

impl Ends {
    fn all(&self) -> &[Frontend] {
        match self {
            Self::One(frontend) => std::slice::from_ref(frontend),
            Self::Several(frontends) => frontends,
        }
    }

    fn add(&mut self, frontend: Frontend) {
        match self {
            Self::One(other) => *self = Self::Several(vec![*other, frontend]),
            Self::Several(frontends) => frontends.push(frontend),
        }
    }

    /// Whether another one is left.
    fn remove(&mut self, frontend: &Frontend) -> bool {
        match self {
            Self::One(other) => other != frontend,
            Self::Several(frontends) => {
                frontends.retain(|other| other != frontend);
                !frontends.is_empty()
            }
        }
    }
}

impl Owners {
    /// Makes room for this many more.
    pub(super) fn reserve(&mut self, frontends: usize) {
        self.ids.reserve(frontends);
        self.by_address.reserve(frontends);
    }

    pub(super) fn get(&self, frontend: &Frontend) -> Option<ServiceId> {
        self.ids.get(frontend).copied()
    }

    pub(super) fn has(&self, frontend: &Frontend) -> bool {
        self.ids.contains_key(frontend)
    }

    /// Gives a frontend to a service port; who had it before.
    pub(super) fn insert(&mut self, frontend: Frontend, id: ServiceId) -> Option<ServiceId> {
        let before = self.ids.insert(frontend, id);
        if before.is_none() && !frontend.address.is_unspecified() {
            match self.by_address.entry(frontend.address) {
                Entry::Occupied(entry) => entry.into_mut().add(frontend),
                Entry::Vacant(entry) => _ = entry.insert(Ends::One(frontend)),
            }
        }
        before
    }

    pub(super) fn remove(&mut self, frontend: &Frontend) {
        self.ids.remove(frontend);
        if let Entry::Occupied(mut entry) = self.by_address.entry(frontend.address)
            && !entry.get_mut().remove(frontend)
        {
            entry.remove();
        }
    }

    /// The frontends of an address, and who has them.
    pub(super) fn at(&self, address: IpAddr) -> impl Iterator<Item = (&Frontend, ServiceId)> {
        let ends = self.by_address.get(&address).map(Ends::all).unwrap_or_default();
        ends.iter()
            .filter_map(|frontend| Some((frontend, self.get(frontend)?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proxy_common::layout::{Port, protocol};

    use super::*;

    proptest! {
        #[test]
        fn all_frontends_of_an_address_are_found(
            steps in prop::collection::vec((0..3_u8, 1..4_u16, prop::option::of(1..9_u32)), 1..60),
        ) {
            let (mut owners, mut naive) = (Owners::default(), BTreeMap::new());
            let address = |last: u8| IpAddr::from([10, 96, 0, last]);
            for (last, port, id) in steps {
                let frontend = Frontend { address: address(last), port: Port::new(port), protocol: protocol::TCP };
                match id.map(ServiceId) {
                    Some(id) => prop_assert_eq!(owners.insert(frontend, id), naive.insert(frontend, id)),
                    None => {
                        owners.remove(&frontend);
                        naive.remove(&frontend);
                    }
                }
                for last in 0..3 {
                    let found: BTreeMap<Frontend, ServiceId> =
                        owners.at(address(last)).map(|(frontend, id)| (*frontend, id)).collect();
                    let mut wanted = naive.clone();
                    wanted.retain(|frontend, _| frontend.address == address(last));
                    prop_assert_eq!(found, wanted);
                }
            }
        }
    }

    #[test]
    fn node_ports_have_no_address() {
        let mut owners = Owners::default();
        let frontend = Frontend {
            address: IpAddr::from([0, 0, 0, 0]),
            port: Port::new(30080),
            protocol: protocol::TCP,
        };
        owners.insert(frontend, ServiceId(1));
        assert_eq!(owners.get(&frontend), Some(ServiceId(1)));
        assert_eq!(owners.at(frontend.address).count(), 0);
        owners.remove(&frontend);
        assert!(!owners.has(&frontend));
    }
}
