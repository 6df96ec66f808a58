//! What a Service needs, reserved as a whole before anything is written.

use std::sync::Arc;

use proxy_common::layout::{AffinityWord, BackendId, ChoiceRule, ListWord, Service, ServiceId, When, names};

use super::installed::{Listed, PortIdentity, fingerprint, service_of};
use super::planner::FrontendCounts;
use super::rule::Table;
use super::slots::Run;
use super::{Endpoint, Forwarding, List, PlanError, Planner, Range, ServicePort, Weight};
use crate::name::ObjectName;

/// What a service port will be.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) id: ServiceId,
    pub(super) identity: PortIdentity,
    pub(super) origin: Origin,
    /// In the order of endpoints.
    pub(super) backends: Vec<(Endpoint, BackendId)>,
    pub(super) new_backends: Vec<(Endpoint, BackendId)>,
    pub(super) lists: [Listed; 3],
    pub(super) new_runs: Vec<(Run, Vec<BackendId>)>,
    pub(super) words: Service,
}

/// Where a service id comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Installed,
    Resting,
    Fresh,
}

/// What was taken for a Service so far.
#[derive(Debug, Default)]
struct Reservation {
    ranges: FrontendCounts,
    services: Vec<u32>,
    backends: Vec<BackendId>,
    runs: Vec<Run>,
}

/// A map without room.
struct Full {
    map: &'static str,
    needed: u32,
    capacity: u32,
}

impl Planner {
    /// Reserves all that a Service needs, or nothing.
    pub(super) fn reserve(
        &mut self,
        name: &ObjectName,
        ports: &[ServicePort],
    ) -> Result<Vec<Draft>, PlanError> {
        let identities = self.claim(name, ports);
        let mut reservation = Reservation::default();
        let drafts = self.check_frontends(ports).and_then(|()| {
            let ports = ports.iter().zip(identities);
            let drafts = ports.map(|(port, identity)| self.draft(port, identity, &mut reservation));
            drafts.collect::<Result<Vec<_>, _>>()
        });
        drafts.map_err(
            |Full {
                 map,
                 needed,
                 capacity,
             }| {
                self.cancel(reservation);
                PlanError {
                    service: name.clone(),
                    uid: ServicePort::uid_of(ports),
                    map,
                    needed,
                    capacity,
                }
            },
        )
    }

    /// Leaves what is installed of these Services as it is: it is not pruned.
    pub fn keep(&mut self, batch: &[(ObjectName, Vec<ServicePort>)]) {
        for (name, ports) in batch {
            self.claim(name, ports);
        }
    }

    /// Whether endpoints of one of these service ports are installed.
    pub fn has_endpoints(&self, ports: &[ServicePort]) -> bool {
        ports.iter().any(|port| {
            let id = self.by_identity.get(&PortIdentity::of(port).key);
            let installed = id.and_then(|id| self.installed.get(id));
            installed.is_some_and(|installed| !installed.backends.is_empty())
        })
    }

    /// Notes that a Service asks for what a restart found, so that it is not pruned. Gives the ports' identities.
    fn claim(&mut self, name: &ObjectName, ports: &[ServicePort]) -> Vec<PortIdentity> {
        let identities: Vec<PortIdentity> = ports.iter().map(PortIdentity::of).collect();
        for identity in &identities {
            let Some(id) = self.by_identity.get(&identity.key) else {
                continue;
            };
            let installed = self.installed.get_mut(id);
            let Some(installed) = installed.filter(|installed| !installed.claimed) else {
                continue;
            };
            installed.claimed = true;
            self.by_service.entry(name.clone()).or_default().push(*id);
        }
        identities
    }

    fn check_frontends(&self, ports: &[ServicePort]) -> Result<(), Full> {
        let mut new = FrontendCounts::default();
        for (frontend, _) in ports.iter().flat_map(|port| &port.frontends) {
            if !self.owners.has(frontend) && !self.stray_frontends.contains(frontend) {
                *new.of(frontend) += 1;
            }
        }
        let fits = |map, count: u32, needed: u32, capacity: u32| {
            let full = Full {
                map,
                needed,
                capacity,
            };
            if needed == 0 || count + needed <= capacity {
                Ok(())
            } else {
                Err(full)
            }
        };
        fits(
            names::FRONTENDS4,
            self.frontend_counts.v4,
            new.v4,
            self.capacity.frontends4,
        )?;
        fits(
            names::FRONTENDS6,
            self.frontend_counts.v6,
            new.v6,
            self.capacity.frontends6,
        )
    }

    fn check_ranges(
        &self,
        port: &ServicePort,
        draft: &Draft,
        reservation: &mut Reservation,
    ) -> Result<(), Full> {
        let installed = self.installed.get(&draft.id);
        let is_new = |range: &&Range| installed.is_none_or(|installed| !installed.ranges.contains(range));
        for range in port.source_ranges.iter().filter(is_new) {
            *reservation.ranges.of_address(&range.address) += 1;
        }
        let FrontendCounts { v4, v6 } = reservation.ranges;
        for (map, count, needed, capacity) in [
            (
                names::SOURCE_RANGES4,
                self.range_counts.v4,
                v4,
                self.capacity.ranges4,
            ),
            (
                names::SOURCE_RANGES6,
                self.range_counts.v6,
                v6,
                self.capacity.ranges6,
            ),
        ] {
            if needed != 0 && count + needed > capacity {
                return Err(Full {
                    map,
                    needed,
                    capacity,
                });
            }
        }
        Ok(())
    }

    fn cancel(&mut self, reservation: Reservation) {
        for id in reservation.services.into_iter().rev() {
            self.ids.untake(id);
        }
        for id in reservation.backends.into_iter().rev() {
            self.backends.untake(id);
        }
        for run in reservation.runs {
            self.slots.give_back(run);
        }
    }

    fn draft(
        &mut self,
        port: &ServicePort,
        identity: PortIdentity,
        reservation: &mut Reservation,
    ) -> Result<Draft, Full> {
        let (id, identity, origin) = self.service_id(identity, reservation)?;
        let mut draft = Draft {
            id,
            identity,
            origin,
            backends: Vec::with_capacity(port.endpoints.len()),
            new_backends: Vec::new(),
            lists: Default::default(),
            new_runs: Vec::new(),
            words: Service::default(),
        };
        self.draft_backends(port, &mut draft, reservation)?;
        self.draft_lists(port, &mut draft, reservation)?;
        self.check_ranges(port, &draft, reservation)?;
        draft.backends.sort_unstable();
        Ok(draft)
    }

    fn service_id(
        &mut self,
        identity: PortIdentity,
        reservation: &mut Reservation,
    ) -> Result<(ServiceId, PortIdentity, Origin), Full> {
        let key = identity.key;
        if let Some(id) = self.by_identity.get(&key)
            && let Some(installed) = self.installed.get(id)
        {
            return Ok((*id, installed.identity, Origin::Installed));
        }
        if let Some((id, identity)) = self.retired.find(&key) {
            return Ok((id, identity, Origin::Resting));
        }
        let full = Full {
            map: names::SERVICES,
            needed: 1,
            capacity: self.capacity.services,
        };
        let id = self.ids.take().ok_or(full)?;
        reservation.services.push(id);
        Ok((ServiceId(id), identity, Origin::Fresh))
    }

    fn draft_backends(
        &mut self,
        port: &ServicePort,
        draft: &mut Draft,
        reservation: &mut Reservation,
    ) -> Result<(), Full> {
        let installed = self.installed.get(&draft.id);
        for endpoint in &port.endpoints {
            let id = match installed.and_then(|installed| installed.backend(endpoint)) {
                Some(id) => id,
                None => {
                    let needed = (port.endpoints.len() - draft.backends.len()) as u32;
                    let full = Full {
                        map: names::BACKENDS,
                        needed,
                        capacity: self.capacity.backends,
                    };
                    let id = self.backends.take().ok_or(full)?;
                    reservation.backends.push(id);
                    draft.new_backends.push((*endpoint, id));
                    id
                }
            };
            draft.backends.push((*endpoint, id));
        }
        Ok(())
    }

    /// A list whose content stands in SLOTS already keeps its run; others get fresh ones, since readers may hold the
    /// old.
    fn draft_lists(
        &mut self,
        port: &ServicePort,
        draft: &mut Draft,
        reservation: &mut Reservation,
    ) -> Result<(), Full> {
        let tag = draft.identity.tag;
        let mut words = [ListWord::default(); 3];
        for (index, list) in [&port.internal, &port.external, &port.shortcut]
            .into_iter()
            .enumerate()
        {
            let content = content(port, list, &draft.backends);
            draft.lists[index] = self.listed(content, draft, index, reservation)?;
            words[index] = word(&draft.lists[index], list.when_empty, tag);
        }
        let installed = self.installed.get(&draft.id);
        let before = installed.map_or(AffinityWord::OFF, |installed| installed.words.affinity);
        let affinity = affinity(port.affinity, before, tag);
        let hands_on = port.forwarding == Forwarding::Dsr;
        draft.words = service_of(words, affinity.with_hand_on(hands_on));
        Ok(())
    }

    fn listed(
        &mut self,
        content: Content,
        draft: &mut Draft,
        index: usize,
        reservation: &mut Reservation,
    ) -> Result<Listed, Full> {
        let Content { rule, slots, count } = content;
        let (members, table) = slots.split_at(count);
        if members.is_empty() {
            return Ok(Listed::default());
        }
        let table = fingerprint(table);
        let installed = self
            .installed
            .get(&draft.id)
            .map(|installed| &installed.lists[..])
            .unwrap_or_default();
        let same = |list: &&Listed| {
            list.run.is_some() && list.rule == rule && list.table == table && *list.members == *members
        };
        if let Some(list) = installed.iter().chain(&draft.lists[..index]).find(same) {
            return Ok(list.clone());
        }
        let length = slots.len() as u32;
        let full = Full {
            map: names::SLOTS,
            needed: length,
            capacity: self.capacity.slots,
        };
        let run = self.slots.take(length).ok_or(full)?;
        reservation.runs.push(run);
        let members: Arc<[BackendId]> = members.into();
        draft.new_runs.push((run, slots));
        Ok(Listed {
            run: Some(run),
            rule,
            members,
            table,
        })
    }
}

/// What a list's run of slots holds.
struct Content {
    rule: ChoiceRule,
    /// Its backends, and what stands behind them.
    slots: Vec<BackendId>,
    /// How many backends.
    count: usize,
}

fn content(port: &ServicePort, list: &List, backends: &[(Endpoint, BackendId)]) -> Content {
    let weight = |member: u32| port.weights.get(member as usize).copied().unwrap_or(Weight::MIN);
    let found = list.members.iter().filter_map(|member| {
        let (endpoint, id) = backends.get(*member as usize)?;
        Some((*id, (*endpoint, weight(*member))))
    });
    let mut found: Vec<_> = found.collect();
    found.sort_unstable_by_key(|(id, _)| *id);
    let (mut slots, members): (Vec<BackendId>, Vec<_>) = found.into_iter().unzip();
    let count = slots.len();
    if count == 0 {
        return Content {
            rule: ChoiceRule::Random,
            slots,
            count,
        };
    }
    let Table { rule, entries } = Table::new(port.rule, port.key.protocol, &members);
    if rule != ChoiceRule::Random {
        let entries = entries.iter().filter_map(|place| slots.get(*place as usize));
        let table: Vec<BackendId> = entries.copied().collect();
        slots.push(BackendId(table.len() as u32));
        slots.extend(table);
    }
    Content { rule, slots, count }
}

/// A new epoch begins when affinity is switched on: what clients kept before it was off is forgotten.
fn affinity(seconds: u32, before: AffinityWord, tag: u16) -> AffinityWord {
    let is_new = seconds != 0 && !before.is_on();
    AffinityWord::new(seconds, before.epoch().wrapping_add(u16::from(is_new)), tag)
}

fn word(list: &Listed, when_empty: When, tag: u16) -> ListWord {
    match list.run {
        Some(run) => ListWord::new(run.first, list.members.len() as u32, tag).with_rule(list.rule),
        None => ListWord::empty(when_empty, tag),
    }
}
