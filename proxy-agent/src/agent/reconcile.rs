//! From batches of changes to maps, with what failed tried again.

mod audit;
mod done;
mod recover;
mod room;
mod slow_start;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use done::Done;

use self::slow_start::SlowStart;
use super::{Failure, MapWriter};
use crate::model::{DetectLocal, ExternalIps, HealthCheck, Model, Warning};
use crate::name::ObjectName;
use crate::plan::{
    Forwarding, Mortal, Plan, PlanError, Planner, Range, ServicePort, Snapshot, Token, UnknownRanges,
};
use crate::source::Change;

/// First pause before a Service that failed is tried again; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause before a Service that failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often in one go maps grow: a Service that found room in one may find none in the next.
const MOST_GROWTHS: usize = 8;
/// Services compiled and planned in one go.
const SLICE: usize = 64;

/// Why the maps can't be kept as they should be: they can't be read, or refuse write after write.
#[derive(Debug, thiserror::Error)]
#[error("can't keep the maps as they should be: {0}")]
pub struct MapsFailed<E: std::error::Error>(#[source] pub E);

/// The state of the agent between two events.
#[derive(Debug)]
pub struct Reconciler<M> {
    maps: M,
    model: Model,
    planner: Planner,
    /// Services to compile again when there is time.
    later: BTreeSet<ObjectName>,
    /// Services that failed.
    failed: BTreeMap<ObjectName, Retry>,
    /// Services that keep what they have until the whole source is known.
    held: BTreeSet<ObjectName>,
    /// What load balancers hear of Services.
    health_checks: BTreeMap<ObjectName, HealthCheck>,
    /// Services of which they must hear something else.
    health_check_changes: BTreeSet<ObjectName>,
    /// Service ports whose connections end with their endpoints, as the maps were told.
    mortal: BTreeMap<ObjectName, Vec<Mortal>>,
    /// Services of which they may have to be told something else.
    mortal_changes: BTreeSet<ObjectName>,
    /// Ports of Services whose topology hints are not followed.
    hint_fallbacks: BTreeMap<ObjectName, Vec<Warning>>,
    /// Ranges of addresses for which the maps have no room.
    unknown_ranges: Vec<UnknownRanges>,
    /// Not served as asked, and not told yet.
    warnings: Vec<Warning>,
    /// Services that failed, and not told yet.
    failures: Vec<Failure>,
    /// What Services found no room for since maps were last asked to grow.
    shortages: Vec<PlanError>,
    /// Endpoints that get their share step by step.
    slow_start: SlowStart,
    /// Clients whose packets are never handed on whole.
    exempt: BTreeSet<Range>,
    /// The audit that is under way.
    audit: Option<audit::Progress>,
    /// Whether the whole source was known once, so that what nobody asked for was taken away.
    is_synced: bool,
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
}

type Ports = (ObjectName, Vec<ServicePort>);

impl<M: MapWriter> Reconciler<M> {
    /// Goes on from what the maps hold.
    pub fn start(node_name: &str, mut maps: M) -> Result<Self, MapsFailed<M::Error>> {
        let snapshot = read_back(&mut maps)?;
        let (planner, repairs) = Planner::adopt(&snapshot, maps.capacity());
        maps.apply(&repairs).map_err(MapsFailed)?;
        Ok(Self {
            maps,
            model: Model::new(node_name),
            planner,
            later: BTreeSet::new(),
            failed: BTreeMap::new(),
            held: BTreeSet::new(),
            health_checks: BTreeMap::new(),
            health_check_changes: BTreeSet::new(),
            mortal: BTreeMap::new(),
            mortal_changes: BTreeSet::new(),
            hint_fallbacks: BTreeMap::new(),
            unknown_ranges: Vec::new(),
            warnings: Vec::new(),
            failures: Vec::new(),
            shortages: Vec::new(),
            slow_start: SlowStart::default(),
            exempt: BTreeSet::new(),
            audit: None,
            is_synced: false,
        })
    }

    /// Tells pods of this node from others by this; to be said before the first changes.
    pub fn with_detect_local(self, detect_local: DetectLocal) -> Self {
        Self {
            model: self.model.with_detect_local(detect_local),
            ..self
        }
    }

    /// Serves no more of the Services' external addresses than these; to be said before the first changes.
    pub fn with_external_ips(self, external_ips: ExternalIps) -> Self {
        Self {
            model: self.model.with_external_ips(external_ips),
            ..self
        }
    }

    /// Forwards so, where Services say nothing else; to be said before the first changes.
    pub fn with_forwarding(self, forwarding: Forwarding) -> Self {
        Self {
            model: self.model.with_forwarding(forwarding),
            ..self
        }
    }

    /// Never hands on what these clients send; to be said before the first changes.
    pub fn with_exempt(self, exempt: BTreeSet<Range>) -> Self {
        Self { exempt, ..self }
    }

    /// Takes changes over into the maps. The first changes are everything that there is, but for what can't be read
    /// yet: until that is known, nothing is taken away that a restart found, nor is a Service emptied.
    pub fn take(&mut self, changes: Vec<Change>, has_unread: bool) -> Result<Done, MapsFailed<M::Error>> {
        let touched = self.model.apply(changes);
        let warnings = touched.warnings.len();
        for warning in &touched.warnings {
            tracing::warn!(%warning, "not served as asked");
        }
        self.warnings.extend(touched.warnings);
        self.later.extend(touched.later);
        // Before any Service that hands on.
        let plan = self.planner.set_exempt(&self.exempt);
        let mut done = self.carry_out(plan)?;
        done.add(self.install(touched.services)?);
        done.warnings = warnings;
        if !self.is_synced && has_unread {
            tracing::warn!(
                "files can't be read: what the maps hold and the others do not name is kept until they can"
            );
        }
        if !self.is_synced && !has_unread {
            self.is_synced = true;
            let held = std::mem::take(&mut self.held);
            done.add(self.install(held.into_iter().collect())?);
            let plan = self.planner.prune();
            done.add(self.carry_out(plan)?);
        }
        if self.is_synced {
            // Not before all Services are there: the others' addresses would be taken for nobody's.
            let (networks, unknown) = self.model.ranges().networks();
            done.warnings += self.check_ranges(unknown);
            let plan = self.planner.set_networks(networks);
            done.add(self.carry_out(plan)?);
        }
        Ok(done)
    }

    /// Whether there are Services to compile again when there is time.
    pub fn has_more(&self) -> bool {
        !self.later.is_empty()
    }

    /// Whether the whole source is known, and all of it was taken on.
    pub fn is_settled(&self) -> bool {
        self.is_synced && !self.has_more()
    }

    /// Compiles some of those Services again.
    pub fn go_on(&mut self) -> Result<Done, MapsFailed<M::Error>> {
        let slice = std::iter::from_fn(|| self.later.pop_first())
            .take(SLICE)
            .collect();
        self.install(slice)
    }

    /// What has changed for load balancers since the last call.
    pub fn health_check_changes(&mut self) -> Vec<(ObjectName, Option<HealthCheck>)> {
        let changes = std::mem::take(&mut self.health_check_changes).into_iter();
        changes
            .map(|name| {
                let health_check = self.health_checks.get(&name).copied();
                (name, health_check)
            })
            .collect()
    }

    fn check_health(&mut self, name: &ObjectName) {
        let new = self.model.health_check(name);
        let old = match new {
            Some(new) => self.health_checks.insert(name.clone(), new),
            None => self.health_checks.remove(name),
        };
        if old != new {
            self.health_check_changes.insert(name.clone());
        }
    }

    /// Tells the maps whose connections end with their endpoints. Not before the whole source is known: what is not known
    /// of is not gone.
    pub fn end_connections(&mut self) {
        if !self.is_synced {
            return;
        }
        for name in std::mem::take(&mut self.mortal_changes) {
            let ports = self.model.mortal(&name);
            let before = match ports.is_empty() {
                true => self.mortal.remove(&name),
                false => self.mortal.insert(name.clone(), ports.clone()),
            };
            if before.unwrap_or_default() != ports {
                self.maps.end_with_endpoints(&name, ports);
            }
        }
    }

    /// The maps.
    pub fn maps(&mut self) -> &mut M {
        &mut self.maps
    }

    /// How many ports of Services have topology hints that are not followed.
    pub fn hint_fallbacks(&self) -> usize {
        self.hint_fallbacks.values().map(Vec::len).sum()
    }

    /// Tells of hints that are no longer followed; what was told stands until they are again.
    fn check_hints(&mut self, name: &ObjectName) {
        let new = self.model.hint_fallbacks(name);
        let old = if new.is_empty() {
            self.hint_fallbacks.remove(name)
        } else {
            self.hint_fallbacks.insert(name.clone(), new.clone())
        };
        let old = old.unwrap_or_default();
        let news = new.into_iter().filter(|fallback| !old.contains(fallback));
        for fallback in news {
            tracing::warn!(warning = %fallback, "not served as asked");
            self.warnings.push(fallback);
        }
    }

    /// How many lists of ranges have no room, so that none of them is known to the programs.
    pub fn unknown_ranges(&self) -> usize {
        self.unknown_ranges.len()
    }

    /// Tells of ranges that are no longer known; what was told stands until they are again. How many are told.
    fn check_ranges(&mut self, unknown: Vec<UnknownRanges>) -> usize {
        let told = self.warnings.len();
        let news = unknown
            .iter()
            .filter(|ranges| !self.unknown_ranges.contains(ranges));
        for ranges in news {
            let warning = Warning::RangesNotKnown {
                ranges: ranges.clone(),
            };
            tracing::warn!(%warning, "not served as asked");
            self.warnings.push(warning);
        }
        self.unknown_ranges = unknown;
        self.warnings.len() - told
    }

    /// How many Services stay as they were.
    pub fn failed_services(&self) -> usize {
        self.failed.len()
    }

    /// What is not served as its object asks, found since the last time that this was asked.
    pub fn warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// The UID of a Service, while it is there.
    pub fn uid(&self, service: &ObjectName) -> Option<&Arc<str>> {
        self.model.uid(service)
    }

    /// Services that stay as they were, found since the last time that this was asked.
    pub fn failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// When a Service is to be compiled again: it failed, or an endpoint of it gets more.
    pub fn next_retry(&self) -> Option<Instant> {
        let failed = self.failed.values().map(|retry| retry.at);
        failed.chain(self.slow_start.next()).min()
    }

    /// Compiles the Services again whose time has come. What found no room twice gets it by larger maps, if they may be.
    pub fn retry(&mut self, now: Instant) -> Result<Done, MapsFailed<M::Error>> {
        let failed = self.failed.iter().filter(|(_, retry)| retry.at <= now);
        let failed = failed.map(|(name, _)| name);
        let due: Vec<ObjectName> = failed.chain(self.slow_start.due(now)).cloned().collect();
        self.shortages.clear();
        let mut done = self.install(due)?;
        for _ in 0..MOST_GROWTHS {
            if !self.make_room()? {
                return Ok(done);
            }
            // Those whose time has not come, too: they share the maps.
            let failed = self.failed.keys().cloned().collect();
            done.add(self.install(failed)?);
        }
        self.tell_shortages("it has grown, and is full again");
        Ok(done)
    }

    /// A grace period has passed since the plan of this token: there may be room now for what failed.
    pub fn grace_passed(&mut self, token: Token) {
        self.planner.grace_passed(token);
        let now = Instant::now();
        self.failed.values_mut().for_each(|retry| retry.at = now);
    }

    /// The flow tables were swept after that grace period.
    pub fn swept(&mut self, token: Token) -> Result<Done, MapsFailed<M::Error>> {
        let operations = self.planner.swept(token);
        self.carry_out(Plan {
            operations,
            ..Plan::default()
        })
    }

    fn compile(&mut self, names: impl IntoIterator<Item = ObjectName>) -> Vec<Ports> {
        let now = Instant::now();
        let compile = |name: ObjectName| {
            let mut ports = self.model.compile(&name);
            self.slow_start.weigh(&name, &mut ports, now, self.is_synced);
            (name, ports)
        };
        names.into_iter().map(compile).collect()
    }

    fn install(&mut self, names: Vec<ObjectName>) -> Result<Done, MapsFailed<M::Error>> {
        if names.is_empty() {
            return Ok(Done::default());
        }
        let may_end = |name: &&ObjectName| self.model.is_mortal(name) || self.mortal.contains_key(*name);
        self.mortal_changes.extend(names.iter().filter(may_end).cloned());
        self.planner.make_room(names.len());
        let mut done = Done::default();
        // In parts, so that what is compiled and planned takes little memory however much changed at once.
        for part in names.chunks(SLICE) {
            let mut batch = self.compile(part.iter().cloned());
            batch.retain(|ports| !self.hold(ports));
            let plan = self.planner.put_all(&batch);
            for (name, _) in &batch {
                if !plan.failed.iter().any(|error| error.service == *name) {
                    self.failed.remove(name);
                }
            }
            done.services += part.len();
            done.add(self.note(&plan));
            if let Err(error) = self.write(&plan) {
                return self.recover(&error);
            }
            for name in part {
                self.check_health(name);
                self.check_hints(name);
            }
        }
        let rest = self.planner.take_rest_away();
        done.add(self.carry_out(rest)?);
        Ok(done)
    }

    /// Before the whole source is known, a Service without endpoints may have them in a file that can't be read:
    /// it keeps what a restart found.
    fn hold(&mut self, ports: &Ports) -> bool {
        let (name, desired) = ports;
        let is_empty = !desired.is_empty() && desired.iter().all(|port| port.endpoints.is_empty());
        if self.is_synced || !is_empty || !self.planner.has_endpoints(desired) {
            return false;
        }
        self.planner.keep(std::slice::from_ref(ports));
        self.held.insert(name.clone());
        true
    }

    fn carry_out(&mut self, plan: Plan) -> Result<Done, MapsFailed<M::Error>> {
        let done = self.note(&plan);
        match self.write(&plan) {
            Ok(()) => Ok(done),
            Err(error) => self.recover(&error),
        }
    }

    /// Notes which Services failed.
    fn note(&mut self, plan: &Plan) -> Done {
        self.note_failed(plan);
        Done {
            failed: plan.failed.len(),
            ..Done::of(plan)
        }
    }

    fn note_failed(&mut self, plan: &Plan) {
        for error in &plan.failed {
            tracing::warn!(service = %error.service, %error, "no room as yet; tried again");
            self.shortages.push(error.clone());
            self.fail(&error.service);
        }
    }

    fn write(&mut self, plan: &Plan) -> Result<(), M::Error> {
        if plan.operations.is_empty() {
            Ok(())
        } else {
            self.maps.apply(&plan.operations)
        }
    }

    fn fail(&mut self, name: &ObjectName) {
        let before = self.failed.get(name).map(|retry| retry.pause);
        let pause = before.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        self.failed.insert(
            name.clone(),
            Retry {
                at: Instant::now() + pause,
                pause,
            },
        );
    }
}

/// What the maps hold, once no reader holds what was taken away before.
fn read_back<M: MapWriter>(maps: &mut M) -> Result<Snapshot, MapsFailed<M::Error>> {
    maps.wait_for_readers().map_err(MapsFailed)?;
    maps.snapshot().map_err(MapsFailed)
}

#[cfg(test)]
mod growth_tests;
#[cfg(test)]
mod maps_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod work_tests;
