//! An outage of the API is told once, and its end.

use std::sync::Arc;
use std::time::Duration;

use crate::source::{Status, Watched};

/// How long a watch is broken before it is told: servers are restarted, and watches end, all the time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watches over the watches.
#[derive(Debug)]
pub(super) struct Outage {
    status: Arc<Status>,
    /// Failures that there had been when the outage was told; none: there is none, or it is not told yet.
    told: Option<u64>,
    is_optional_told: bool,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tale {
    Outage,
    End,
    Withheld,
}

impl Outage {
    pub(super) fn new(status: Arc<Status>) -> Self {
        Self {
            status,
            told: None,
            is_optional_told: false,
        }
    }

    /// Waits until something may be to be told, and tells it. It may be dropped and called again at any time.
    pub(super) async fn watch(&mut self) {
        let Some((tale, wait)) = self.next() else {
            return self.status.changed().await;
        };
        if wait.is_zero() {
            return self.tell(tale);
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.status.changed() => {}
        }
    }

    /// What is to be told next, and in what time if nothing changes until then.
    fn next(&self) -> Option<(Tale, Duration)> {
        match self.status.broken_for() {
            None if self.told.is_some() => return Some((Tale::End, Duration::ZERO)),
            Some(time) if self.told.is_none() => {
                return Some((Tale::Outage, PATIENCE.saturating_sub(time)));
            }
            Some(_) => return None,
            None => {}
        }
        let time = self.status.broken(Watched::ServiceCidrs)?;
        (!self.is_optional_told).then(|| (Tale::Withheld, PATIENCE.saturating_sub(time)))
    }

    fn tell(&mut self, tale: Tale) {
        match tale {
            Tale::Outage => {
                self.told = Some(self.failures());
                self.status.set_outage();
                let broken: Vec<_> = Watched::ALL
                    .into_iter()
                    .filter(|watched| watched.is_required() && self.status.broken(*watched).is_some())
                    .collect();
                let names: Vec<_> = broken.iter().map(|watched| watched.name()).collect();
                let error = broken.first().map(|watched| self.status.error(*watched));
                tracing::warn!(
                    watches = names.join(","),
                    error = error.unwrap_or_default(),
                    "the API can't be watched: what is in the maps stands, and it is tried again"
                );
            }
            Tale::End => {
                let failures = self.failures() - self.told.take().unwrap_or_default();
                tracing::info!(failures_meanwhile = failures, "the API is watched again");
            }
            Tale::Withheld => {
                self.is_optional_told = true;
                tracing::warn!(
                    error = self.status.error(Watched::ServiceCidrs),
                    "ServiceCIDRs can't be watched: packets to cluster addresses that no Service has are not dropped, and \
                     whether an API server's address lies in the range of cluster IPs is not looked at; nothing else is missing"
                );
            }
        }
    }

    fn failures(&self) -> u64 {
        Watched::ALL
            .into_iter()
            .map(|watched| self.status.failures(watched))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tale(outage: &Outage) -> Option<Tale> {
        outage.next().map(|(tale, _)| tale)
    }

    #[test]
    fn an_outage_is_told_once_and_its_end() {
        let status = Arc::new(Status::default());
        let mut outage = Outage::new(status.clone());
        assert_eq!(tale(&outage), None);
        status.set_broken(Watched::Services, "refused".into());
        let (first, wait) = outage.next().unwrap();
        assert_eq!(first, Tale::Outage);
        assert!(!wait.is_zero() && wait <= PATIENCE);
        outage.tell(Tale::Outage);
        status.set_broken(Watched::Slices, "refused".into());
        assert_eq!(tale(&outage), None);
        status.set_well(Watched::Services);
        assert_eq!(tale(&outage), None);
        status.set_well(Watched::Slices);
        assert_eq!(outage.next(), Some((Tale::End, Duration::ZERO)));
        outage.tell(Tale::End);
        assert_eq!(tale(&outage), None);
        assert_eq!(status.outages(), 1);
        status.set_broken(Watched::Services, "refused".into());
        status.set_well(Watched::Services);
        assert_eq!(tale(&outage), None);
    }

    #[test]
    fn what_is_not_required_is_told_once_and_apart() {
        let status = Arc::new(Status::default());
        let mut outage = Outage::new(status.clone());
        status.set_broken(Watched::ServiceCidrs, "forbidden".into());
        assert_eq!(tale(&outage), Some(Tale::Withheld));
        status.set_broken(Watched::Node, "refused".into());
        assert_eq!(tale(&outage), Some(Tale::Outage));
        status.set_well(Watched::Node);
        outage.tell(Tale::Withheld);
        assert_eq!(status.outages(), 0, "it is not required");
        assert_eq!(tale(&outage), None);
    }
}
