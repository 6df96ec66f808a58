//! The state now by the maps of an agent, with nothing besides.
//!
//! The maps say which frontends there are, whose they are, which endpoints serve and which of them take new calls. What
//! they do not say (policies, conditions, hints, who else claims a frontend) is needed only of the Services that
//! are named, and is told by name where the answer depends on it.

mod lists;
mod objects;
mod request;
mod state;
mod unknown;

use std::collections::{BTreeMap, BTreeSet};

pub use state::InstalledServices;

use self::request::{Request, Requests};
use self::unknown::Unknown;
use super::report::{Conflict, Preview};
use super::{Intent, PortRange, affected, concerns, conflicts, difference};
use crate::explain::{Place, World};
use crate::name::ObjectName;
use crate::plan::{Frontend, ServicePort};
use crate::source::{Change, Object};

/// What an intent would change on the node of these maps.
pub fn preview_installed(
    mut now: InstalledServices,
    place: &Place,
    intent: Intent<Object>,
    ephemeral: PortRange,
) -> Preview {
    let mut unknown = Unknown::default();
    let mut requests = Requests::of(intent, place, &mut unknown);
    let mut objects: Vec<Change> = requests.others.iter().cloned().map(Change::Upsert).collect();
    for (name, request) in &mut requests.of {
        let built = request.objects(
            name,
            now.ports_of(name),
            now.uid_of(name),
            &place.node,
            &mut unknown,
        );
        objects.extend(built.into_iter().map(Change::Upsert));
    }
    let mut after = World::of(objects, place);
    let mut services = std::mem::take(&mut after.services);
    let taken = take_owned_away(&mut services, &now, &requests.of);
    for (name, ports) in &mut services {
        if let Some(request) = requests.of.get(name) {
            request.settle(now.ports_of(name), ports, &mut unknown);
        }
    }
    services.retain(|(_, ports)| !ports.is_empty());
    let others = now.services.iter();
    services.extend(
        others
            .filter(|(name, _)| !requests.of.contains_key(name))
            .cloned(),
    );
    services.sort_by(|(one, _), (other, _)| one.cmp(other));
    after.services = services;

    let batch = difference::changed(&now.services, &after.services);
    let affected = affected(requests.of.keys().cloned().collect(), &batch);
    let mut preview = difference::between(&now.services, &after.services);
    preview.conflicts = conflicts::of(&after, &affected);
    unknown.ages(&taken, &preview.conflicts, &now, &requests.of);
    preview.conflicts.extend(taken.into_iter().map(Taken::conflict));
    unknown.other_claims(&preview.frontends);
    let misplaced = requests.misplaced(&now, &place.node);
    let snat = now.snat;
    let plan = now.planner.apply(&batch);
    preview.writes = plan.operations.len();
    after.failed = plan.failed;
    let ports = concerns::TakenPorts { ephemeral, snat };
    preview.warnings = concerns::of(&[], &after, &affected, ports);
    preview.warnings.extend(misplaced);
    if unknown.has_no_zone() {
        // Its hints are not followed for want of the zone, which is told as unknown.
        preview.warnings.retain(|warning| !warning.contains(NO_ZONE));
    }
    preview.unknown = unknown.told();
    preview
}

/// Part of the warning about hints where a node has no zone.
const NO_ZONE: &str = "the node has no label topology.kubernetes.io/zone";

/// A frontend that a Service asks for, and another has.
#[derive(Debug)]
struct Taken {
    frontend: Frontend,
    winner: ObjectName,
    loser: ObjectName,
}

impl Taken {
    fn conflict(self) -> Conflict {
        Conflict {
            frontend: self.frontend.to_string(),
            winner: self.winner.to_string(),
            losers: vec![self.loser.to_string()],
        }
    }
}

/// What a Service that is not named has in the maps stays its own.
fn take_owned_away(
    services: &mut [(ObjectName, Vec<ServicePort>)],
    now: &InstalledServices,
    named: &BTreeMap<ObjectName, Request>,
) -> Vec<Taken> {
    let mut taken = Vec::new();
    for (name, ports) in services {
        for port in ports.iter_mut() {
            port.frontends.retain(|(frontend, _)| {
                let owner = now.owner_of(frontend);
                let owner = owner.filter(|owner| *owner != name && !named.contains_key(owner));
                taken.extend(owner.map(|owner| Taken {
                    frontend: *frontend,
                    winner: owner.clone(),
                    loser: name.clone(),
                }));
                owner.is_none()
            });
        }
        ports.retain(|port| !port.frontends.is_empty());
    }
    taken
}

/// Names in a row.
fn join(texts: impl IntoIterator<Item = impl ToString>) -> String {
    let texts: BTreeSet<String> = texts.into_iter().map(|text| text.to_string()).collect();
    texts.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
