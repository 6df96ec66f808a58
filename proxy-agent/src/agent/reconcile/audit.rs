//! A look at the maps themselves: they hold what they should, or are mended.

use std::collections::BTreeSet;

use super::{Done, MapsFailed, Reconciler, SLICE};
use crate::agent::MapWriter;
use crate::name::ObjectName;
use crate::plan::{Audit, Difference};

/// Differences that the log names one by one.
const MOST_TOLD: usize = 20;

impl<M: MapWriter> Reconciler<M> {
    /// Compares all Services with the maps and puts right what differs; says what that was. Services that are known to
    /// stay as they were are passed over. Nothing before the whole source is known.
    pub fn audit(&mut self) -> Result<(Vec<Difference>, Done), MapsFailed<M::Error>> {
        if !self.is_settled() {
            return Ok(Default::default());
        }
        let differences = self.differences()?;
        if differences.is_empty() {
            return Ok(Default::default());
        }
        for difference in differences.iter().take(MOST_TOLD) {
            tracing::error!(%difference, "the maps are not as they should be");
        }
        let more = differences.len().saturating_sub(MOST_TOLD);
        tracing::error!(
            more,
            "every Service is compared with the maps, and the maps are mended"
        );
        let done = self.compare_with_maps()?;
        Ok((differences, done))
    }

    fn differences(&mut self) -> Result<Vec<Difference>, MapsFailed<M::Error>> {
        let snapshot = self.maps.snapshot().map_err(MapsFailed)?;
        let mut audit = Audit::of(&snapshot);
        let failed: BTreeSet<String> = self.failed.keys().map(ToString::to_string).collect();
        audit.excuse(|service| failed.contains(service));
        let names: Vec<ObjectName> = self.model.services().cloned().collect();
        for part in names.chunks(SLICE) {
            let part = part.iter().filter(|name| !self.failed.contains_key(name));
            for (_, ports) in self.compile(part.cloned()) {
                ports.iter().for_each(|port| audit.check(port));
            }
        }
        audit.check_ranges(&self.model.ranges());
        Ok(audit.finish())
    }
}
