//! What was measured.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// One measure: the median of its rounds.
#[derive(Debug, Serialize)]
struct Record {
    name: &'static str,
    variant: String,
    services: usize,
    value: f64,
    unit: &'static str,
    /// Smallest and largest of the rounds.
    spread: [f64; 2],
    rounds: usize,
}

/// All measures of a run.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Records(Vec<Record>);

impl Records {
    /// Notes the rounds of one measure.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        variant: &str,
        services: usize,
        unit: &'static str,
        rounds: &[f64],
    ) {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
            return;
        };
        let record = Record {
            name,
            variant: variant.to_owned(),
            services,
            value: sorted[sorted.len() / 2],
            unit,
            spread: [*first, *last],
            rounds: sorted.len(),
        };
        println!(
            "bench: {name}, {variant}, {services} Services: {:.1} {unit} ({first:.1} to {last:.1})",
            record.value
        );
        self.0.push(record);
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![format!(
            "{:<36} {:<32} {:>8} {:>12} {:<6} {}",
            "measure", "variant", "services", "median", "unit", "spread"
        )];
        for record in &self.0 {
            let [low, high] = record.spread;
            lines.push(format!(
                "{:<36} {:<32} {:>8} {:>12.1} {:<6} {low:.1} to {high:.1}",
                record.name, record.variant, record.services, record.value, record.unit
            ));
        }
        lines.join("\n")
    }

    /// All variants of a measure, as they were added: median, and smallest and largest.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = (&str, f64, [f64; 2])> {
        let of_name = self.0.iter().filter(move |record| record.name == name);
        of_name.map(|record| (record.variant.as_str(), record.value, record.spread))
    }

    /// The median of one measure, and its unit.
    pub(crate) fn median(&self, name: &str, variant: &str, services: usize) -> Option<(f64, &'static str)> {
        let (value, unit, _) = self.spread(name, variant, services)?;
        Some((value, unit))
    }

    /// The median of one measure, its unit, and the smallest and the largest of its rounds.
    pub(crate) fn spread(
        &self,
        name: &str,
        variant: &str,
        services: usize,
    ) -> Option<(f64, &'static str, [f64; 2])> {
        let is_it = |record: &&Record| {
            record.name == name && record.variant == variant && record.services == services
        };
        let record = self.0.iter().find(is_it)?;
        Some((record.value, record.unit, record.spread))
    }
}

/// Writes measures as JSON.
pub(crate) fn write(path: &Path, measures: &impl Serialize) -> Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let text = serde_json::to_string_pretty(measures).context("writing the records")?;
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
