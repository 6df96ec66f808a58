//! Which endpoints are pods at addresses of their own, that no node masquerades towards: by ranges that the operator gives. An
//! EndpointSlice tells of a pod, but not whether its address is its node's.

use std::net::IpAddr;

use ipnet::IpNet;
use proxy_common::layout::{BACKEND_POD, Backend};

use super::error::DatapathError;
use super::memory::Backends;

/// Ranges of the pods of all nodes; none: nothing is known of pods of other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodNetworks(pub Vec<IpNet>);

impl PodNetworks {
    /// A backend with the flag that says whether it is in the pods' network.
    pub(super) fn marked(&self, backend: &Backend) -> Backend {
        let address = IpAddr::from(backend.address);
        let is_pod = self.0.iter().any(|network| network.contains(&address));
        Backend {
            flags: backend.flags & !BACKEND_POD | if is_pod { BACKEND_POD } else { 0 },
            ..*backend
        }
    }

    /// Marks what an agent that knew other ranges has left. A program that reads meanwhile takes either.
    pub(super) fn mark_all(&self, backends: &Backends) -> Result<(), DatapathError> {
        let alive = backends
            .used()
            .into_iter()
            .filter(|(_, backend)| backend.is_alive());
        for (id, backend) in alive {
            let marked = self.marked(&backend);
            if marked != backend {
                backends
                    .put(id, &marked)
                    .map_err(super::apply::beyond(proxy_common::layout::names::BACKENDS))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::layout::{BACKEND_LOCAL, MappedAddress};

    use super::*;

    #[test]
    fn a_backend_is_a_pod_if_its_address_is_in_a_range() {
        let networks = PodNetworks(vec![
            "10.244.0.0/16".parse().unwrap(),
            "fd00:244::/32".parse().unwrap(),
        ]);
        for (address, is_pod) in [
            ("10.244.3.7", true),
            ("10.245.0.1", false),
            ("192.168.10.2", false),
            ("fd00:244:2::5", true),
            ("fd00:10::2", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            for flags in [0, BACKEND_LOCAL, BACKEND_POD, BACKEND_LOCAL | BACKEND_POD] {
                let backend = Backend {
                    address: MappedAddress::from(address),
                    flags,
                    life: 3,
                    ..Backend::default()
                };
                let marked = networks.marked(&backend);
                assert_eq!(marked.is_pod(), is_pod, "{address}");
                assert_eq!((marked.is_local(), marked.life), (backend.is_local(), 3));
                assert!(!PodNetworks::default().marked(&backend).is_pod());
            }
        }
    }
}
