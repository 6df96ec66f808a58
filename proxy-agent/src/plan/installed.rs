//! What the maps hold of one service port.

use std::hash::BuildHasher;
use std::sync::Arc;

use proxy_common::layout::{
    AffinityWord, BackendId, ChoiceRule, Family, FrontendKey, FrontendValue, HintFallback, Identity,
    ListWord, NameText, Service, ServiceId, V4, V6, protocol, uid_words,
};

use super::slots::Run;
use super::{Endpoint, Frontend, PortKey, Range, ServicePort};
use crate::name::ObjectName;

/// What tells one service port from another over a restart: uid and name hash.
pub(super) type IdentityKey = ([u64; 2], u64);

/// Who a service port is, without its name for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortIdentity {
    pub(super) key: IdentityKey,
    /// The tag that its lists and frontends carry.
    pub(super) tag: u16,
    /// Why its topology hints are not followed.
    pub(super) hints: Option<HintFallback>,
}

impl PortIdentity {
    /// With the tag that it would like.
    pub(super) fn of(port: &ServicePort) -> Self {
        let uid = uid_words(&port.uid);
        let name_hash = name_hash(&port.key);
        let mixed = (uid[0] ^ name_hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            key: (uid, name_hash),
            tag: ((mixed >> 48) as u16).max(1),
            hints: port.hints,
        }
    }

    /// As IDENTITY holds it.
    pub(super) fn value(self, key: &PortKey) -> Identity {
        let (uid, name_hash) = self.key;
        let (hint_fallback, without_hints) = HintFallback::to_fields(self.hints);
        Identity {
            uid,
            name_hash,
            service_tag: self.tag,
            hint_fallback,
            without_hints,
            pad: 0,
            name: NameText::new(&name_of(key)),
        }
    }
}

impl From<&Identity> for PortIdentity {
    fn from(identity: &Identity) -> Self {
        Self {
            key: (identity.uid, identity.name_hash),
            tag: identity.service_tag,
            hints: HintFallback::from_fields(identity.hint_fallback, identity.without_hints),
        }
    }
}

fn name_hash(key: &PortKey) -> u64 {
    let PortKey {
        service,
        port_name,
        protocol,
        family,
    } = key;
    // No name holds a slash, so that the text is another one for every key.
    let family = match family {
        Family::V4 => "V4",
        Family::V6 => "V6",
    };
    let other;
    let protocol = match *protocol {
        protocol::TCP => "6",
        protocol::UDP => "17",
        protocol::SCTP => "132",
        number => {
            other = number.to_string();
            &other
        }
    };
    let text = [
        &*service.namespace,
        &*service.name,
        &**port_name,
        protocol,
        family,
    ]
    .join("/");
    let [name_hash, _] = uid_words(&text);
    name_hash
}

impl PortKey {
    /// The service port that an identity stands for: its name is written there, protocol and family are those that have
    /// its hash.
    pub fn of(identity: &Identity) -> Option<Self> {
        let text = identity.name.as_str();
        let (service, port_name) = text.split_once(':').unwrap_or((text, ""));
        let (namespace, name) = service.split_once('/')?;
        let service = ObjectName::new(namespace, name);
        let port_name: Arc<str> = port_name.into();
        let protocols = [protocol::TCP, protocol::UDP, protocol::SCTP];
        let keys = protocols.into_iter().flat_map(|protocol| {
            [Family::V4, Family::V6].map(|family| Self {
                service: service.clone(),
                port_name: port_name.clone(),
                protocol,
                family,
            })
        });
        keys.into_iter().find(|key| name_hash(key) == identity.name_hash)
    }
}

/// `namespace/name` or `namespace/name:port`.
fn name_of(key: &PortKey) -> String {
    let ObjectName { namespace, name } = &key.service;
    match &*key.port_name {
        "" => [&**namespace, "/", name].concat(),
        port_name => [&**namespace, "/", name, ":", port_name].concat(),
    }
}

/// A list as it stands in SLOTS.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    /// None: an empty list.
    pub(super) run: Option<Run>,
    pub(super) rule: ChoiceRule,
    pub(super) members: Arc<[BackendId]>,
    /// [`fingerprint`] of what stands behind them.
    pub(super) table: u64,
}

/// What stands behind a list's backends, in one number: a table is long, and only ever compared.
pub(super) fn fingerprint(slots: &[BackendId]) -> u64 {
    foldhash::quality::FixedState::default().hash_one(slots)
}

/// One service port as it stands in the maps.
#[derive(Debug)]
pub(super) struct InstalledPort {
    pub(super) identity: PortIdentity,
    /// Whether a Service has asked for it since the restart.
    pub(super) claimed: bool,
    pub(super) protocol: u8,
    /// As SERVICES holds them.
    pub(super) words: Service,
    /// Internal, external, shortcut.
    pub(super) lists: [Listed; 3],
    /// In the order of endpoints.
    pub(super) backends: Vec<(Endpoint, BackendId)>,
    /// In the order of frontends, with the kind's byte.
    pub(super) frontends: Vec<(Frontend, u8)>,
    /// In order.
    pub(super) ranges: Vec<Range>,
}

impl InstalledPort {
    pub(super) fn new(identity: PortIdentity, words: Service) -> Self {
        Self {
            identity,
            claimed: false,
            protocol: 0,
            words,
            lists: Default::default(),
            backends: Vec::new(),
            frontends: Vec::new(),
            ranges: Vec::new(),
        }
    }

    pub(super) fn backend(&self, endpoint: &Endpoint) -> Option<BackendId> {
        let found = self
            .backends
            .binary_search_by_key(endpoint, |(endpoint, _)| *endpoint);
        found.ok().map(|index| self.backends[index].1)
    }

    pub(super) fn kind_of(&self, frontend: &Frontend) -> Option<u8> {
        let found = self
            .frontends
            .binary_search_by_key(frontend, |(frontend, _)| *frontend);
        found.ok().map(|index| self.frontends[index].1)
    }

    pub(super) fn remove_frontend(&mut self, frontend: &Frontend) {
        self.frontends.retain(|(other, _)| other != frontend);
    }

    pub(super) fn has_run(&self, run: Run) -> bool {
        self.lists.iter().any(|list| list.run == Some(run))
    }

    /// The runs of its lists, each once.
    pub(super) fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for run in self.lists.iter().filter_map(|list| list.run) {
            if !runs.contains(&run) {
                runs.push(run);
            }
        }
        runs
    }
}

/// A service port's words in an order: internal, external, shortcut.
pub(super) fn words(service: &Service) -> [ListWord; 3] {
    [service.internal, service.external, service.shortcut]
}

pub(super) fn service_of([internal, external, shortcut]: [ListWord; 3], affinity: AffinityWord) -> Service {
    Service {
        internal,
        external,
        shortcut,
        affinity,
    }
}

/// The value of a frontend that belongs to a service port.
pub(super) fn frontend_value(
    frontend: &Frontend,
    service: ServiceId,
    service_tag: u16,
    kind: u8,
) -> FrontendValue {
    let Frontend {
        address,
        port,
        protocol,
    } = *frontend;
    let tag = match address {
        std::net::IpAddr::V4(address) => FrontendKey::<V4>::new(address.into(), port, protocol).tag(),
        std::net::IpAddr::V6(address) => FrontendKey::<V6>::new(address.into(), port, protocol).tag(),
    };
    FrontendValue {
        service,
        tag,
        service_tag,
        kind,
        pad: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash stands in the maps of nodes that run: another one would give each of their Services a new id.
    #[test]
    fn a_name_has_one_hash_for_good() {
        let key = |port_name: &str, protocol, family| PortKey {
            service: ObjectName::new("shop", "web"),
            port_name: port_name.into(),
            protocol,
            family,
        };
        let [tcp, _] = uid_words("shop/web/http/6/V4");
        assert_eq!(name_hash(&key("http", protocol::TCP, Family::V4)), tcp);
        let [sctp, _] = uid_words("shop/web//132/V6");
        assert_eq!(name_hash(&key("", protocol::SCTP, Family::V6)), sctp);
    }
}
