//! The table of docs/performance.md.

use super::report::Report;
use crate::page::grouped;

/// The rows: what they are called, and the measures in them.
const ROWS: [(&str, &[&str]); 11] = [
    (FIRST, &["start to all programmed"]),
    ("lists to all programmed", &["lists to all programmed"]),
    ("CPU to all programmed", &["CPU to all programmed"]),
    (
        "added Service, p50 / p99",
        &["added Service, p50", "added Service, p99"],
    ),
    (
        "heard to in the maps, p50 / p99",
        &["heard to in the maps, p50", "heard to in the maps, p99"],
    ),
    (
        "CPU of an added and removed Service",
        &["CPU of an added and removed Service"],
    ),
    ("peak memory when programmed", &["peak RSS, cold"]),
    ("peak memory at the end", &["peak RSS"]),
    ("of it data", &["of it data"]),
    ("of it BPF maps, mapped", &["of it mapped BPF maps"]),
    ("all BPF maps", &["all BPF maps"]),
];
/// The row that says why a figure is missing.
const FIRST: &str = "start to all programmed";

/// What stands between the page's marks.
pub(super) fn section(report: &Report) -> String {
    let mut lines = vec![circumstances(report), String::new()];
    let variants = &report.variants;
    lines.push(format!("| | Services | {} |", variants.join(" | ")));
    lines.push(format!("| --- | --- |{}", " --- |".repeat(variants.len())));
    for (title, names) in ROWS {
        let mut shown = title;
        for &services in &report.services {
            let cells = variants.iter().map(|variant| {
                let missing = report.missing(variant, services).filter(|_| title == FIRST);
                missing.map_or_else(
                    || cell(report, variant, services, names),
                    |missing| missing.reason.clone(),
                )
            });
            let cells: Vec<_> = cells.collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                lines.push(format!(
                    "| {shown} | {} | {} |",
                    grouped(services as f64),
                    cells.join(" | ")
                ));
                // Once is enough.
                shown = "";
            }
        }
    }
    lines.join("\n") + "\n"
}

fn circumstances(report: &Report) -> String {
    let [before, after] = report.load;
    let mut versions: Vec<&str> = report.versions.values().flatten().map(String::as_str).collect();
    versions.sort_unstable();
    versions.dedup();
    let times = match report.rounds {
        1 => "one run".to_owned(),
        rounds => format!("medians of {rounds} runs"),
    };
    format!(
        "{}: {} endpoints a Service, {} Services added one after the other, {times} of each way. Kernel {}, {} cores, load average\n\
         {before} before and {after} after.\n{}.",
        report.date,
        report.endpoints,
        report.added,
        report.kernel,
        report.processors,
        versions.join(", "),
    )
}

fn cell(report: &Report, variant: &str, services: usize, names: &[&str]) -> String {
    let medians = names
        .iter()
        .filter_map(|name| report.records.median(name, variant, services));
    let figures: Vec<(String, &str)> = medians
        // A proxy without BPF maps has none.
        .filter(|(value, unit)| *unit != "MiB" || *value > 0.0)
        .map(|(value, unit)| figure(value, unit))
        .collect();
    let Some((_, unit)) = figures.first() else {
        return String::new();
    };
    if figures.iter().all(|(_, other)| other == unit) {
        let numbers: Vec<_> = figures.iter().map(|(number, _)| number.as_str()).collect();
        return format!("{} {unit}", numbers.join(" / "));
    }
    let each: Vec<_> = figures
        .iter()
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect();
    each.join(" / ")
}

/// With as many digits as mean something; a second and more in seconds.
fn figure(value: f64, unit: &'static str) -> (String, &'static str) {
    match (unit, value) {
        ("ms", 1000.0..) => (format!("{:.1}", value / 1000.0), "s"),
        ("ms", 100.0..) => (format!("{value:.0}"), unit),
        _ => (format!("{value:.1}"), unit),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::report::Unfinished;
    use super::*;
    use crate::record::Records;

    /// Two proxies, the second of which is not ready with 10,000 Services, and not tried with 20,000.
    fn report() -> Report {
        let mut records = Records::default();
        for (variant, services, times) in [
            ("A", 1000, [10.0, 0.4, 99.0]),
            ("A", 10_000, [1500.0, 0.1, 2500.0]),
            ("B", 1000, [120.0, 1.0, 2.0]),
        ] {
            records.add("start to all programmed", variant, services, "ms", &times[..1]);
            records.add("added Service, p50", variant, services, "ms", &times[1..2]);
            records.add("added Service, p99", variant, services, "ms", &times[2..]);
        }
        records.add("all BPF maps", "A", 1000, "MiB", &[221.64]);
        records.add("all BPF maps", "B", 1000, "MiB", &[0.0]);
        let missing = |services, reason: &str| Unfinished {
            variant: "B",
            services,
            reason: reason.to_owned(),
        };
        Report {
            date: "2026-01-02".to_owned(),
            kernel: "6.18.0".to_owned(),
            processors: 2,
            load: [0.5, 1.25],
            services: vec![1000, 10_000, 20_000],
            endpoints: 10,
            added: 20,
            rounds: 1,
            variants: vec!["A", "B"],
            versions: BTreeMap::from([
                ("B", vec!["b 1".to_owned(), "nft 2".to_owned()]),
                ("A", vec!["a 3".to_owned()]),
            ]),
            unfinished: vec![missing(10_000, "not within 300 s"), missing(20_000, "not tried")],
            records,
        }
    }

    #[test]
    fn a_table_has_a_row_for_each_measure_and_size_and_says_what_is_missing_and_why() {
        let expected = "2026-01-02: 10 endpoints a Service, 20 Services added one after the other, one run of each way. \
            Kernel 6.18.0, 2 cores, load average\n\
            0.5 before and 1.25 after.\n\
            a 3, b 1, nft 2.\n\
            \n\
            | | Services | A | B |\n\
            | --- | --- | --- | --- |\n\
            | start to all programmed | 1,000 | 10.0 ms | 120 ms |\n\
            |  | 10,000 | 1.5 s | not within 300 s |\n\
            |  | 20,000 |  | not tried |\n\
            | added Service, p50 / p99 | 1,000 | 0.4 / 99.0 ms | 1.0 / 2.0 ms |\n\
            |  | 10,000 | 0.1 ms / 2.5 s |  |\n\
            | all BPF maps | 1,000 | 221.6 MiB |  |\n";
        assert_eq!(section(&report()), expected);
    }
}
