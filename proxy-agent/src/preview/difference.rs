//! The difference between the service ports of a node now and after.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proxy_common::layout::FrontendKind;

use super::report::{AffinityChange, BackendChange, FrontendChange, Moved, Preview};
use crate::explain::kind_name;
use crate::name::ObjectName;
use crate::plan::{Frontend, List, PortKey, ServicePort};

/// Every Service with its ports, in the order of names.
pub(super) type Services = [(ObjectName, Vec<ServicePort>)];

/// The Services that are not the same, with their ports after; none: it is gone.
pub(super) fn changed(now: &Services, after: &Services) -> Vec<(ObjectName, Vec<ServicePort>)> {
    let by_name = |services| -> BTreeMap<&ObjectName, &[ServicePort]> {
        let services: &Services = services;
        services.iter().map(|(name, ports)| (name, &**ports)).collect()
    };
    let (old, new) = (by_name(now), by_name(after));
    let names: BTreeSet<&ObjectName> = old.keys().chain(new.keys()).copied().collect();
    let changed = names.into_iter().filter(|name| old.get(name) != new.get(name));
    let ports = |name: &&ObjectName| new.get(*name).map(|ports| ports.to_vec()).unwrap_or_default();
    changed.map(|name| (name.clone(), ports(&name))).collect()
}

/// What changes of service ports.
pub(super) fn between(now: &Services, after: &Services) -> Preview {
    let (old, new) = (ports(now), ports(after));
    let keys: BTreeSet<&PortKey> = old.keys().chain(new.keys()).copied().collect();
    let mut difference = Preview::default();
    difference.add_frontends(&old, &new);
    for key in keys {
        let (before, later) = (old.get(key).copied(), new.get(key).copied());
        for list in LISTS {
            difference.add_list(key, list, before, later);
        }
        if let (Some(before), Some(later)) = (before, later)
            && before.affinity != later.affinity
        {
            difference.affinity.push(AffinityChange {
                service: key.to_string(),
                before: before.affinity,
                after: later.affinity,
            });
        }
    }
    difference
}

type Ports<'a> = BTreeMap<&'a PortKey, &'a ServicePort>;

fn ports(services: &Services) -> Ports<'_> {
    let ports = services.iter().flat_map(|(_, ports)| ports);
    ports.map(|port| (&port.key, port)).collect()
}

type Endpoints = BTreeSet<SocketAddr>;

/// One of a service port's lists, by its name.
type NamedList = (&'static str, fn(&ServicePort) -> &List);

const LISTS: [NamedList; 3] = [
    ("internal", |port| &port.internal),
    ("external", |port| &port.external),
    ("shortcut", |port| &port.shortcut),
];

/// Whether a frontend of the port leads to this list.
fn uses(port: &ServicePort, list: &str) -> bool {
    port.frontends.iter().any(|(_, kind)| leads(*kind, list))
}

fn leads(kind: FrontendKind, list: &str) -> bool {
    (kind == FrontendKind::ClusterIp) == (list == "internal")
}

fn members(port: &ServicePort, list: &List) -> Endpoints {
    let members = port.members(list);
    members
        .map(|endpoint| (endpoint.address, endpoint.port.number()).into())
        .collect()
}

/// The probability that a flow which is drawn among the one set and then among the other, as alike as can be, gets
/// another backend; in percent. All backends of a list are as likely.
fn share(before: &Endpoints, after: &Endpoints) -> f64 {
    let larger = before.len().max(after.len());
    if larger == 0 {
        return 0.0;
    }
    let common = before.intersection(after).count();
    let moved = 1.0 - common as f64 / larger as f64;
    (moved * 1000.0).round() / 10.0
}

type Owned<'a> = BTreeMap<Frontend, (&'a ServicePort, FrontendKind)>;

fn owners<'a>(ports: &Ports<'a>) -> Owned<'a> {
    let owned = ports.values().flat_map(|port| {
        port.frontends
            .iter()
            .map(move |(frontend, kind)| (*frontend, (*port, *kind)))
    });
    owned.collect()
}

impl Preview {
    fn add_list(
        &mut self,
        key: &PortKey,
        (name, of): NamedList,
        before: Option<&ServicePort>,
        later: Option<&ServicePort>,
    ) {
        let list = |port: Option<&ServicePort>| {
            port.filter(|port| uses(port, name))
                .map(|port| members(port, of(port)))
        };
        let (before, later) = (list(before), list(later));
        if before == later {
            return;
        }
        if let (Some(before), Some(later)) = (&before, &later) {
            self.moved.push(Moved {
                of: key.to_string(),
                list: name,
                percent: share(before, later),
            });
        }
        let (before, later) = (before.unwrap_or_default(), later.unwrap_or_default());
        let change = BackendChange {
            service: key.to_string(),
            list: name,
            added: later.difference(&before).copied().collect(),
            removed: before.difference(&later).copied().collect(),
        };
        if change.added.len() + change.removed.len() > 0 {
            self.backends.push(change);
        }
    }

    fn add_frontends(&mut self, old: &Ports<'_>, new: &Ports<'_>) {
        let (old, new) = (owners(old), owners(new));
        let all: BTreeSet<&Frontend> = old.keys().chain(new.keys()).collect();
        for frontend in all {
            let (before, after) = (old.get(frontend), new.get(frontend));
            let change = match (before, after) {
                (None, Some(_)) => "added",
                (Some(_), None) => "removed",
                (Some((before, _)), Some((after, _))) if before.key != after.key => "moved",
                (Some((old, before)), Some((new, after)))
                    if before != after || (is_guarded(*after) && old.source_ranges != new.source_ranges) =>
                {
                    "changed"
                }
                _ => continue,
            };
            if let (Some((before, _)), Some((after, kind)), "moved") = (before, after, change) {
                let lists = LISTS.iter().filter(|(name, _)| leads(*kind, name));
                self.moved.extend(lists.map(|(list, of)| Moved {
                    of: frontend.to_string(),
                    list,
                    percent: share(&members(before, of(before)), &members(after, of(after))),
                }));
            }
            let name =
                |owner: Option<&(&ServicePort, FrontendKind)>| owner.map(|(port, _)| port.key.to_string());
            let kind = after.or(before).map(|(_, kind)| *kind);
            self.frontends.push(FrontendChange {
                frontend: frontend.to_string(),
                change,
                before: name(before),
                after: name(after),
                kind: kind.map_or("", kind_name),
                guarded: kind.is_some_and(is_guarded),
            });
        }
    }
}

fn is_guarded(kind: FrontendKind) -> bool {
    kind == FrontendKind::GuardedLoadBalancer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: &[u16]) -> Endpoints {
        numbers
            .iter()
            .map(|number| SocketAddr::from(([10, 0, 0, 1], *number)))
            .collect()
    }

    #[test]
    fn the_share_is_what_must_move_and_no_more() {
        assert_eq!(share(&set(&[1, 2]), &set(&[1, 2, 3])), 33.3);
        assert_eq!(share(&set(&[1, 2, 3]), &set(&[1, 2])), 33.3);
        assert_eq!(share(&set(&[1, 2]), &set(&[1, 3])), 50.0);
        assert_eq!(share(&set(&[1]), &set(&[2])), 100.0);
        assert_eq!(share(&set(&[1]), &set(&[])), 100.0);
        assert_eq!(share(&set(&[]), &set(&[])), 0.0);
        assert_eq!(share(&set(&[1, 2]), &set(&[1, 2])), 0.0);
    }
}
