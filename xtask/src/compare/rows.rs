//! What two builds' benches have measured, row by row.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// What a figure is of: its name, its variant, and how many Services there were.
type Row = (String, String, u64);

/// The figures of one build, a figure a round.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// In the order in which they were measured first.
    rows: Vec<Row>,
    values: BTreeMap<Row, (String, Vec<f64>)>,
}

impl Figures {
    /// Takes a round in: the records that a bench has written.
    pub(super) fn add(&mut self, records: &str) -> Result<()> {
        let records: Value = serde_json::from_str(records).context("reading a bench's records")?;
        for record in records.as_array().context("a bench's records are a list")? {
            let text = |field: &str| -> Result<String> {
                let text = record[field].as_str();
                text.map(ToOwned::to_owned)
                    .with_context(|| format!("a record without {field}: {record}"))
            };
            let services = record["services"]
                .as_u64()
                .with_context(|| format!("a record without services: {record}"))?;
            let value = record["value"]
                .as_f64()
                .with_context(|| format!("a record without value: {record}"))?;
            let row = (text("name")?, text("variant")?, services);
            if !self.values.contains_key(&row) {
                self.rows.push(row.clone());
            }
            let (_, values) = self.values.entry(row).or_insert((text("unit")?, Vec::new()));
            values.push(value);
        }
        Ok(())
    }
}

/// The smallest, the middle and the largest.
fn spread(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some([*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?])
}

/// A row that both builds have.
#[derive(Debug, PartialEq)]
struct Compared {
    base: [f64; 3],
    this: [f64; 3],
    /// Of the medians: this build's of the base's.
    ratio: f64,
    /// All of one build's rounds lie on one side of all of the other's.
    differs: bool,
}

impl Compared {
    fn of(base: &[f64], this: &[f64]) -> Option<Self> {
        let (base, this) = (spread(base)?, spread(this)?);
        Some(Self {
            base,
            this,
            ratio: this[1] / base[1],
            differs: this[0] > base[2] || this[2] < base[0],
        })
    }
}

/// The table: ratios, and which rows differ beyond the spread of the rounds; what only one build measures is named.
pub(super) fn table(base: &Figures, this: &Figures) -> String {
    let mut lines = vec![format!(
        "{:<34} {:<34} {:>8} {:>30} {:>30} {:>7}",
        "measure", "variant", "services", "base (spread)", "this (spread)", "ratio"
    )];
    let mut differing = 0;
    for row in &this.rows {
        let (Some((unit, new)), Some((_, old))) = (this.values.get(row), base.values.get(row)) else {
            continue;
        };
        let Some(compared) = Compared::of(old, new) else {
            continue;
        };
        let told = |[low, middle, high]: [f64; 3]| format!("{middle:.1} {unit} ({low:.1} to {high:.1})");
        let verdict = if compared.differs { "  differs" } else { "" };
        differing += usize::from(compared.differs);
        lines.push(format!(
            "{:<34} {:<34} {:>8} {:>30} {:>30} {:>7.2}{verdict}",
            row.0,
            row.1,
            row.2,
            told(compared.base),
            told(compared.this),
            compared.ratio
        ));
    }
    for (who, figures, other) in [("this", this, base), ("base", base, this)] {
        let alone = figures.rows.iter().filter(|row| !other.values.contains_key(row));
        lines.extend(alone.map(|(name, variant, _)| format!("{name}, {variant}: measured by {who} alone")));
    }
    lines.push(match differing {
        0 => "No row differs beyond the spread of its rounds.".to_owned(),
        1 => "1 row differs beyond the spread of its rounds.".to_owned(),
        _ => format!("{differing} rows differ beyond the spread of their rounds."),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(rows: &[(&str, f64)]) -> String {
        let records = rows.iter().map(|(variant, value)| {
            serde_json::json!({
                "name": "TC packet, hot", "variant": variant, "services": 1, "value": value, "unit": "ns",
                "spread": [value, value], "rounds": 1,
            })
        });
        Value::Array(records.collect()).to_string()
    }

    fn figures(variant: &str, values: &[f64]) -> Figures {
        let mut figures = Figures::default();
        for value in values {
            figures.add(&round(&[(variant, *value)])).unwrap();
        }
        figures
    }

    #[test]
    fn a_row_differs_only_if_no_rounds_meet() {
        for (base, this, ratio, differs) in [
            ([60.0, 61.0, 62.0], [62.0, 63.0, 66.0], 63.0 / 61.0, false),
            ([60.0, 61.0, 62.0], [62.1, 63.0, 66.0], 63.0 / 61.0, true),
            ([60.0, 61.0, 62.0], [50.0, 40.0, 59.9], 50.0 / 61.0, true),
            ([60.0, 61.0, 62.0], [60.0, 61.0, 62.0], 1.0, false),
        ] {
            let compared = Compared::of(&base, &this).unwrap();
            assert_eq!((compared.ratio, compared.differs), (ratio, differs), "{this:?}");
        }
        assert_eq!(Compared::of(&[], &[1.0]), None);
    }

    #[test]
    fn the_table_has_ratios_and_says_what_differs_and_what_only_one_measures() {
        let mut base = figures("from_pod", &[80.0, 81.0, 79.0]);
        let mut this = figures("from_pod", &[60.0, 61.0, 59.0]);
        base.add(&round(&[("gone", 1.0), ("same", 5.0)])).unwrap();
        this.add(&round(&[("new", 1.0), ("same", 5.0)])).unwrap();
        let table = table(&base, &this);
        let row = |variant: &str| {
            table
                .lines()
                .find(|line| line.contains(variant))
                .unwrap()
                .to_owned()
        };
        assert!(row("from_pod").contains("80.0 ns (79.0 to 81.0)"), "{table}");
        assert!(row("from_pod").ends_with(" 0.75  differs"), "{table}");
        assert!(row("same").ends_with(" 1.00"), "{table}");
        assert_eq!(row("gone"), "TC packet, hot, gone: measured by base alone");
        assert_eq!(row("new"), "TC packet, hot, new: measured by this alone");
        assert!(
            table.ends_with("1 row differs beyond the spread of its rounds."),
            "{table}"
        );
    }

    #[test]
    fn records_that_are_none_are_refused_by_what_is_missing() {
        let error = |text: &str| format!("{:#}", Figures::default().add(text).unwrap_err());
        assert!(error("{}").contains("are a list"));
        assert!(error("[{\"name\": \"a\"}]").contains("without services"));
    }
}
