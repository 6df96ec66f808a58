//! What a run measured, and under which circumstances.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Zoned;
use jiff::tz::TimeZone;
use lab::Place;
use lab::cluster::ControlPlane;
use serde::Serialize;

use super::measure::Values;
use super::{Proxy, Scale};
use crate::record::{Records, write};

/// A run.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) date: String,
    pub(super) kernel: String,
    pub(super) processors: usize,
    /// The load average of a minute, before and after.
    pub(super) load: [f64; 2],
    pub(super) services: Vec<usize>,
    pub(super) endpoints: usize,
    pub(super) added: u16,
    pub(super) rounds: u16,
    /// In the order of the columns.
    pub(super) variants: Vec<&'static str>,
    /// Of each, and of the programs that it calls.
    pub(super) versions: BTreeMap<&'static str, Vec<String>>,
    pub(super) unfinished: Vec<Unfinished>,
    pub(super) records: Records,
}

/// Somebody of whom there are no figures.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Unfinished {
    pub(super) variant: &'static str,
    pub(super) services: usize,
    pub(super) reason: String,
}

impl Report {
    pub(super) fn begin(scale: &Scale) -> Result<Self> {
        let load = load()?;
        Ok(Self {
            date: Zoned::now().with_time_zone(TimeZone::UTC).date().to_string(),
            kernel: kernel(&read("/proc/sys/kernel/osrelease")?).to_owned(),
            processors: std::thread::available_parallelism()
                .context("asking for the processors")?
                .get(),
            load: [load, load],
            services: scale.services.clone(),
            endpoints: scale.endpoints,
            added: scale.added,
            rounds: scale.rounds,
            variants: scale.proxies.iter().map(|proxy| proxy.name()).collect(),
            versions: BTreeMap::new(),
            unfinished: Vec::new(),
            records: Records::default(),
        })
    }

    /// Asks once.
    pub(super) fn note_versions(&mut self, proxy: Proxy, plane: &ControlPlane, host: &Place) -> Result<()> {
        if self.versions.contains_key(proxy.name()) {
            return Ok(());
        }
        let versions = match proxy.kube_proxy() {
            Some((_, iptables)) => plane.kube_proxy_versions(host, iptables)?,
            None => vec![format!("Shunt {}", env!("CARGO_PKG_VERSION"))],
        };
        self.versions.insert(proxy.name(), versions);
        Ok(())
    }

    /// There will be no figures of it with so many Services. The first reason counts.
    pub(super) fn unfinished(&mut self, proxy: Proxy, services: usize, reason: String) {
        if self.missing(proxy.name(), services).is_some() {
            return;
        }
        println!("bench: {}, {services} Services: {reason}", proxy.name());
        self.unfinished.push(Unfinished {
            variant: proxy.name(),
            services,
            reason,
        });
    }

    /// Whether there were none of it once.
    pub(super) fn gave_up(&self, proxy: Proxy) -> bool {
        self.unfinished.iter().any(|one| one.variant == proxy.name())
    }

    /// Why there is no figure.
    pub(super) fn missing(&self, variant: &str, services: usize) -> Option<&Unfinished> {
        let mut all = self.unfinished.iter();
        all.find(|one| one.variant == variant && one.services == services)
    }

    /// Takes the rounds of a proxy.
    pub(super) fn add(&mut self, proxy: Proxy, services: usize, rounds: &[Values]) {
        let mut seen = BTreeSet::new();
        for &(name, unit, _) in rounds.iter().flatten() {
            if seen.insert(name) {
                let of_name = rounds.iter().flatten().filter(|(other, ..)| *other == name);
                let values: Vec<f64> = of_name.map(|(.., value)| *value).collect();
                self.records.add(name, proxy.name(), services, unit, &values);
            }
        }
    }

    pub(super) fn write(&mut self, path: &Path) -> Result<()> {
        self.load[1] = load()?;
        write(path, self)
    }
}

fn load() -> Result<f64> {
    let text = read("/proc/loadavg")?;
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.context("/proc/loadavg begins with no number")
}

/// The release without what its builder has put behind it.
fn kernel(release: &str) -> &str {
    let release = release.trim();
    release.split_once('-').map_or(release, |(version, _)| version)
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_named_by_its_version() {
        assert_eq!(
            ["6.18.44-local1\n", "6.12.1\n"].map(kernel),
            ["6.18.44", "6.12.1"]
        );
    }
}
