//! The difference between a node's state now and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use proxy_common::layout::FrontendKind;
use serde::Serialize;

use super::concerns::{self, PortRange};
use crate::explain::{World, kind_name};
use crate::name::ObjectName;
use crate::plan::{Frontend, List, PortKey, ServicePort};

/// What would change on a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Preview {
    /// Frontends that come, go, change their kind, or move to another Service.
    pub frontends: Vec<FrontendChange>,
    /// Lists of service ports whose backends change.
    pub backends: Vec<BackendChange>,
    /// Service ports whose session affinity changes.
    pub affinity: Vec<AffinityChange>,
    /// Frontends of these Services that several Services claim, after.
    pub conflicts: Vec<Conflict>,
    /// What would not be served as it is written, or not as somebody may expect.
    pub warnings: Vec<String>,
    /// How many of the new flows get another backend than they would get now.
    pub moved: Vec<Moved>,
    /// Writes to maps.
    pub writes: usize,
}

/// One frontend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrontendChange {
    /// Where.
    pub frontend: String,
    /// `added`, `removed`, `moved` (to another Service) or `changed` (its kind).
    pub change: &'static str,
    /// The service port that has it now.
    pub before: Option<String>,
    /// The service port that has it after.
    pub after: Option<String>,
    /// Its kind: after, or before if it goes.
    pub kind: &'static str,
    /// Whether it lets in loadBalancerSourceRanges alone.
    pub guarded: bool,
}

/// How long the clients of a service port keep their backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AffinityChange {
    /// The service port.
    pub service: String,
    /// Seconds now; 0: not at all.
    pub before: u32,
    /// Seconds after.
    pub after: u32,
}

/// One list of a service port.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackendChange {
    /// The service port.
    pub service: String,
    /// `internal`, `external` or `shortcut`.
    pub list: &'static str,
    /// Backends that come.
    pub added: Vec<SocketAddr>,
    /// Backends that go.
    pub removed: Vec<SocketAddr>,
}

/// A frontend that several Services claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conflict {
    /// Where.
    pub frontend: String,
    /// The Service that has it: the oldest.
    pub winner: String,
    /// Those that do without.
    pub losers: Vec<String>,
}

/// How many of the new flows to a list get another backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// The service port, or the frontend if it moves from one to another.
    pub of: String,
    /// `internal`, `external` or `shortcut`.
    pub list: &'static str,
    /// Percent of new flows, to a tenth.
    pub percent: f64,
}

type Endpoints = BTreeSet<SocketAddr>;

/// The difference for the Services that were named and those that changed with them.
pub(super) fn between(
    now: World,
    after: &World,
    named: &BTreeSet<ObjectName>,
    ephemeral: PortRange,
) -> Preview {
    let (old, new) = (ports(&now), ports(after));
    let keys: BTreeSet<&PortKey> = old.keys().chain(new.keys()).copied().collect();
    let mut affected = named.clone();
    let changed = keys.iter().filter(|key| old.get(*key) != new.get(*key));
    affected.extend(changed.map(|key| key.service.clone()));
    let (frontends, mut moved) = frontends(&old, &new);
    let mut backends = Vec::new();
    for key in &keys {
        for (name, of) in LISTS {
            let list = |port: Option<&&ServicePort>| {
                port.filter(|port| uses(port, name))
                    .map(|port| members(port, of(port)))
            };
            let (before, later) = (list(old.get(key)), list(new.get(key)));
            if before == later {
                continue;
            }
            if let (Some(before), Some(later)) = (&before, &later) {
                moved.push(Moved {
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
                backends.push(change);
            }
        }
    }
    let kept = keys.iter().filter_map(|key| old.get(*key).zip(new.get(*key)));
    let affinity = kept.filter(|(old, new)| old.affinity != new.affinity);
    let affinity = affinity.map(|(old, new)| AffinityChange {
        service: new.key.to_string(),
        before: old.affinity,
        after: new.affinity,
    });
    let affinity = affinity.collect();
    let conflicts = conflicts(after, &affected);
    let warnings = concerns::of(&now, after, &affected, ephemeral);
    let batch = now.changed_to(after);
    let writes = now.writes_to(&batch);
    Preview {
        frontends,
        backends,
        affinity,
        conflicts,
        warnings,
        moved,
        writes,
    }
}

/// One of a service port's lists.
type Pick = fn(&ServicePort) -> &List;

const LISTS: [(&str, Pick); 3] = [
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

fn ports(world: &World) -> BTreeMap<&PortKey, &ServicePort> {
    let ports = world.services.iter().flat_map(|(_, ports)| ports);
    ports.map(|port| (&port.key, port)).collect()
}

type Owned<'a> = BTreeMap<Frontend, (&'a ServicePort, FrontendKind)>;

fn owners<'a>(ports: &BTreeMap<&PortKey, &'a ServicePort>) -> Owned<'a> {
    let owned = ports.values().flat_map(|port| {
        port.frontends
            .iter()
            .map(move |(frontend, kind)| (*frontend, (*port, *kind)))
    });
    owned.collect()
}

fn frontends(
    old: &BTreeMap<&PortKey, &ServicePort>,
    new: &BTreeMap<&PortKey, &ServicePort>,
) -> (Vec<FrontendChange>, Vec<Moved>) {
    let (old, new) = (owners(old), owners(new));
    let all: BTreeSet<&Frontend> = old.keys().chain(new.keys()).collect();
    let (mut changes, mut moved) = (Vec::new(), Vec::new());
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
            moved.extend(lists.map(|(list, of)| Moved {
                of: frontend.to_string(),
                list,
                percent: share(&members(before, of(before)), &members(after, of(after))),
            }));
        }
        let name = |owner: Option<&(&ServicePort, FrontendKind)>| owner.map(|(port, _)| port.key.to_string());
        let kind = after.or(before).map(|(_, kind)| *kind);
        changes.push(FrontendChange {
            frontend: frontend.to_string(),
            change,
            before: name(before),
            after: name(after),
            kind: kind.map_or("", kind_name),
            guarded: kind.is_some_and(is_guarded),
        });
    }
    (changes, moved)
}

fn is_guarded(kind: FrontendKind) -> bool {
    kind == FrontendKind::GuardedLoadBalancer
}

fn conflicts(after: &World, affected: &BTreeSet<ObjectName>) -> Vec<Conflict> {
    let asked: BTreeSet<Frontend> = affected
        .iter()
        .flat_map(|name| after.model.asked_by(name))
        .collect();
    let contested = asked.iter().filter_map(|frontend| {
        let claimants = after.model.claimants(frontend);
        let (winner, losers) = claimants.split_first()?;
        (!losers.is_empty()).then(|| Conflict {
            frontend: frontend.to_string(),
            winner: winner.to_string(),
            losers: losers.iter().map(ToString::to_string).collect(),
        })
    });
    contested.collect()
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            frontends,
            backends,
            affinity,
            conflicts,
            warnings,
            moved,
            writes,
        } = self;
        if *writes == 0 {
            writeln!(f, "nothing changes on this node")?;
        }
        for change in frontends {
            let FrontendChange { frontend, kind, .. } = change;
            let before = change.before.as_deref().unwrap_or_default();
            let after = change.after.as_deref().unwrap_or_default();
            let guard = if change.guarded {
                ", open to its source ranges alone"
            } else {
                ""
            };
            match change.change {
                "moved" => writeln!(
                    f,
                    "frontend moved    {frontend} ({kind}): from {before} to {after}{guard}"
                )?,
                "removed" => writeln!(f, "frontend removed  {frontend} ({kind}): of {before}")?,
                change => writeln!(f, "frontend {change:<8} {frontend} ({kind}): of {after}{guard}")?,
            }
        }
        for BackendChange {
            service,
            list,
            added,
            removed,
        } in backends
        {
            write!(f, "backends          {service}, {list} list:")?;
            added.iter().try_for_each(|backend| write!(f, " +{backend}"))?;
            removed.iter().try_for_each(|backend| write!(f, " -{backend}"))?;
            writeln!(f)?;
        }
        for Moved { of, list, percent } in moved {
            writeln!(
                f,
                "flows that move   {percent} % of the new ones to {of}, {list} list"
            )?;
        }
        for AffinityChange {
            service,
            before,
            after,
        } in affinity
        {
            writeln!(f, "affinity          {service}: {before} s now, {after} s then")?;
        }
        for Conflict {
            frontend,
            winner,
            losers,
        } in conflicts
        {
            let losers = losers.join(", ");
            writeln!(
                f,
                "conflict          {frontend}: {winner} has it, as the oldest; {losers} without"
            )?;
        }
        for warning in warnings {
            writeln!(f, "warning           {warning}")?;
        }
        if *writes != 0 {
            writeln!(f, "writes to maps    {writes}")?;
        }
        Ok(())
    }
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
