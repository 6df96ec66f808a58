//! A look at the maps themselves: they hold what they should, or are mended. In slices, each of what the maps hold and
//! should hold at that moment: changes go first, and nothing is held of the whole.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proxy_common::layout::{BackendId, ServiceId};

use super::{Done, MapsFailed, Reconciler, SLICE};
use crate::agent::MapWriter;
use crate::name::ObjectName;
use crate::plan::{Audit, Difference, Endpoint, Part, ServicePort};

/// Differences that the log names one by one.
const MOST_TOLD: usize = 20;
/// Backends that are looked at in one go.
const BACKENDS: u32 = 8192;

/// What differed, and what was done about it.
type Audited = (Vec<Difference>, Done);

/// An audit that is under way.
#[derive(Debug)]
pub(super) struct Progress {
    stage: Stage,
    found: BTreeSet<Difference>,
    slices: u32,
    spent: Duration,
    longest: Duration,
}

impl Progress {
    fn new(services: Vec<ObjectName>) -> Self {
        Self {
            stage: Stage::Services(services),
            found: BTreeSet::new(),
            slices: 0,
            spent: Duration::ZERO,
            longest: Duration::ZERO,
        }
    }

    fn took(&mut self, time: Duration) {
        self.slices += 1;
        self.spent += time;
        self.longest = self.longest.max(time);
    }
}

/// What is next.
#[derive(Debug)]
enum Stage {
    /// These Services: do they have what they should?
    Services(Vec<ObjectName>),
    /// The backends from this one on: is each somebody's?
    Backends(u32),
    /// The same of frontends.
    Frontends,
    /// The same of source ranges.
    Ranges,
    /// What stands at the Services' addresses, and ranges of addresses.
    Addresses,
    Over,
}

impl<M: MapWriter> Reconciler<M> {
    /// Begins to compare all Services with the maps. Services that are known to stay as they were are passed over.
    pub fn begin_audit(&mut self) {
        if self.is_settled() && self.audit.is_none() {
            self.audit = Some(Progress::new(self.model.services().cloned().collect()));
        }
    }

    /// Whether an audit is under way, and the maps hold all that was taken on.
    pub fn is_auditing(&self) -> bool {
        self.audit.is_some() && self.is_settled()
    }

    /// The next slice of the audit. At its end, puts right what differs, and says what that was.
    pub fn go_on_with_audit(&mut self) -> Result<Option<Audited>, MapsFailed<M::Error>> {
        let Some(mut progress) = self.audit.take() else {
            return Ok(None);
        };
        let begin = Instant::now();
        progress.stage = match progress.stage {
            Stage::Services(mut names) => {
                let slice = names.split_off(names.len().saturating_sub(SLICE));
                progress.found.extend(self.differences_of(slice)?);
                match names.is_empty() {
                    true => Stage::Backends(0),
                    false => Stage::Services(names),
                }
            }
            Stage::Backends(first) => {
                progress.found.extend(self.stray_backends(first)?);
                match first.saturating_add(BACKENDS) {
                    next if next < self.maps.capacity().backends => Stage::Backends(next),
                    _ => Stage::Frontends,
                }
            }
            Stage::Frontends => {
                progress.found.extend(self.stray_frontends()?);
                Stage::Ranges
            }
            Stage::Ranges => {
                progress.found.extend(self.range_differences()?);
                Stage::Addresses
            }
            Stage::Addresses => {
                progress.found.extend(self.address_differences()?);
                Stage::Over
            }
            Stage::Over => return self.end_audit(progress).map(Some),
        };
        progress.took(begin.elapsed());
        self.audit = Some(progress);
        Ok(None)
    }

    /// All of it at once.
    #[cfg(test)]
    pub fn audit(&mut self) -> Result<Audited, MapsFailed<M::Error>> {
        self.begin_audit();
        while self.audit.is_some() {
            if let Some(end) = self.go_on_with_audit()? {
                return Ok(end);
            }
        }
        Ok(Default::default())
    }

    fn end_audit(&mut self, progress: Progress) -> Result<Audited, MapsFailed<M::Error>> {
        let Progress {
            found,
            slices,
            spent,
            longest,
            ..
        } = progress;
        tracing::debug!(differences = found.len(), slices, ?spent, ?longest, "audited");
        if found.is_empty() {
            return Ok(Default::default());
        }
        for difference in found.iter().take(MOST_TOLD) {
            tracing::error!(%difference, "the maps are not as they should be");
        }
        let more = found.len().saturating_sub(MOST_TOLD);
        tracing::error!(
            more,
            "every Service is compared with the maps, and the maps are mended"
        );
        let done = self.compare_with_maps()?;
        Ok((found.into_iter().collect(), done))
    }

    fn differences_of(&mut self, names: Vec<ObjectName>) -> Result<Vec<Difference>, MapsFailed<M::Error>> {
        let names = names.into_iter().filter(|name| !self.failed.contains_key(name));
        let names: Vec<ObjectName> = names.collect();
        let compiled = self.compile(names).into_iter();
        let ports: Vec<ServicePort> = compiled.flat_map(|(_, ports)| ports).collect();
        let part = self.planner.part_of(&ports);
        let mut snapshot = self.maps.part(&part).map_err(MapsFailed)?;
        // A map of prefixes can't be asked for one: the planner's are compared with all that there are at the end.
        snapshot.ranges = self.planner.ranges_of(&part.services);
        let mut audit = Audit::of(&snapshot);
        ports.iter().for_each(|port| audit.check(port));
        Ok(audit.finish())
    }

    fn stray_backends(&mut self, first: u32) -> Result<Vec<Difference>, MapsFailed<M::Error>> {
        let ids = BackendId(first)..BackendId(first.saturating_add(BACKENDS));
        let mut backends = self.maps.backends(ids).map_err(MapsFailed)?;
        backends.retain(|(id, backend)| backend.is_alive() && !self.planner.has_backend(*id, backend));
        let difference = |(_, backend): (BackendId, proxy_common::layout::Backend)| {
            let problem = format!("{} should not be there", Endpoint::of(&backend));
            self.difference(backend.service, "BACKENDS", problem)
        };
        backends.into_iter().map(difference).collect()
    }

    fn stray_frontends(&mut self) -> Result<Vec<Difference>, MapsFailed<M::Error>> {
        let mut frontends = self.maps.frontends().map_err(MapsFailed)?;
        frontends.retain(|(frontend, _)| !self.planner.has_frontend(frontend));
        let difference = |(frontend, _): (crate::plan::Frontend, _)| Difference {
            subject: frontend.to_string(),
            map: "FRONTENDS",
            problem: "no Service asks for it".to_owned(),
        };
        Ok(frontends.into_iter().map(difference).collect())
    }

    fn range_differences(&mut self) -> Result<Vec<Difference>, MapsFailed<M::Error>> {
        let found: BTreeSet<_> = self.maps.ranges().map_err(MapsFailed)?.into_iter().collect();
        let wanted = self.planner.all_ranges();
        let missing = wanted.difference(&found).map(|range| (range, "is missing"));
        let strays = found
            .difference(&wanted)
            .map(|range| (range, "should not be there"));
        let differences = missing.chain(strays).map(|((id, range, _), what)| {
            let problem = format!("{range} {what}");
            self.difference(*id, "SOURCE_RANGES", problem)
        });
        differences.collect()
    }

    fn address_differences(&mut self) -> Result<Vec<Difference>, MapsFailed<M::Error>> {
        let (vips, networks) = self.maps.addresses().map_err(MapsFailed)?;
        let mut differences = self.planner.vip_differences(vips);
        differences.extend(self.planner.network_differences(&networks));
        Ok(differences)
    }

    fn difference(
        &mut self,
        id: ServiceId,
        map: &'static str,
        problem: String,
    ) -> Result<Difference, MapsFailed<M::Error>> {
        let part = Part {
            services: BTreeSet::from([id]),
            ..Part::default()
        };
        let snapshot = self.maps.part(&part).map_err(MapsFailed)?;
        let name = snapshot.identities.first().map(|(_, identity)| identity.name);
        let subject = match &name {
            Some(name) => name.as_str().to_owned(),
            None => format!("service id {}", id.0),
        };
        Ok(Difference {
            subject,
            map,
            problem,
        })
    }
}
