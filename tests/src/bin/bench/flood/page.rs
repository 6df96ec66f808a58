//! The tables of docs/performance.md.

use super::client::Served;
use super::holder::Standing;
use super::{Flooded, Report};
use crate::page::grouped;

/// How much longer a new client may wait beside a flood.
const GOAL: f64 = 2.0;

/// What stands between the page's marks.
pub(super) fn section(report: &Report) -> String {
    let mut lines = vec![
        format!(
            "{}, --xdp {}; room for {} embryos of TCP and of UDP each, {} entries of established TCP flows and {} of UDP.",
            report.family,
            report.xdp,
            grouped(report.tables.embryos as f64),
            grouped(report.tables.tcp_flows as f64),
            grouped(report.tables.udp_flows as f64)
        ),
        String::new(),
        "| flood | at | packets | a second | flows made | a new client waits, p50 / p99: before | during | ratio | lost calls |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    lines.extend(report.floods.iter().map(row));
    lines.push(String::new());
    lines.push("| held to | TCP connections | UDP exchanges | rounds | broken | longest line | datagrams sent again |".to_owned());
    lines.push("| --- | --- | --- | --- | --- | --- | --- |".to_owned());
    for (name, standing) in &report.standing {
        lines.push(format!(
            "| {name} | {} | {} | {} | {} | {:.0} ms | {} |",
            standing.connections,
            standing.exchanges,
            grouped(standing.rounds as f64),
            standing.broken,
            standing.longest,
            standing.sent_again
        ));
    }
    let [before, after] = report.memory;
    lines.push(String::new());
    lines.push("| | before | after |".to_owned());
    lines.push("| --- | --- | --- |".to_owned());
    lines.push(format!(
        "| agent, resident | {:.1} MiB | {:.1} MiB |",
        before.resident, after.resident
    ));
    lines.push(format!(
        "| agent, peak | {:.1} MiB | {:.1} MiB |",
        before.peak, after.peak
    ));
    lines.push(format!(
        "| all BPF maps | {:.1} MiB | {:.1} MiB |",
        before.maps, after.maps
    ));
    lines.push(format!(
        "| established flows pushed out | | {} |",
        report.tables.pushed_out
    ));
    lines.join("\n") + "\n"
}

fn row(flooded: &Flooded) -> String {
    let Served { p50, p99, lost, .. } = flooded.during;
    let ratio = |during: f64, before: f64| {
        if flooded.during.answered == 0 {
            return "none (missed)".to_owned();
        }
        let ratio = during / before;
        let mark = if ratio > GOAL { " (missed)" } else { "" };
        format!("{ratio:.1}{mark}")
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} / {} | {} of {} |",
        flooded.kind,
        flooded.at,
        grouped(flooded.packets as f64),
        grouped(flooded.packets as f64 / flooded.seconds),
        grouped(flooded.counter("flow_created") as f64),
        times(&flooded.before),
        times(&flooded.during),
        ratio(p50, flooded.before.p50),
        ratio(p99, flooded.before.p99),
        lost,
        lost + flooded.during.answered
    )
}

fn times(served: &Served) -> String {
    if served.answered == 0 {
        return "no answer".to_owned();
    }
    format!("{:.0} / {:.0} µs", served.p50, served.p99)
}

/// A flood in a line.
pub(super) fn told(flooded: &Flooded) -> String {
    let counters = flooded.counters.iter().filter(|(_, value)| *value > 0);
    let counters: Vec<_> = counters.map(|(name, value)| format!("{name} {value}")).collect();
    format!(
        "{} {} at {} in {:.1} s; a client waited {} before ({} calls, {} lost), {} during ({} calls, {} lost, the longest {:.0} µs); \
         {} datagrams found the backend's queue full; {}",
        flooded.packets,
        flooded.kind,
        flooded.at,
        flooded.seconds,
        times(&flooded.before),
        flooded.before.answered,
        flooded.before.lost,
        times(&flooded.during),
        flooded.during.answered,
        flooded.during.lost,
        flooded.during.longest,
        flooded.full_queue,
        counters.join(", ")
    )
}

/// What is held, in a line.
pub(super) fn told_of_held(standing: &Standing) -> String {
    format!(
        "{} connections and {} exchanges, {} rounds, {} broken{}, the longest line {:.0} ms, {} datagrams sent again",
        standing.connections,
        standing.exchanges,
        standing.rounds,
        standing.broken,
        if standing.why.is_empty() {
            String::new()
        } else {
            format!(" ({})", standing.why)
        },
        standing.longest,
        standing.sent_again
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flood::{Memory, Tables};

    fn served(p50: f64, p99: f64, lost: usize) -> Served {
        Served {
            answered: 90,
            lost,
            p50,
            p99,
            longest: 2.0 * p99,
        }
    }

    #[test]
    fn a_row_says_what_misses_its_goal() {
        let flooded = Flooded {
            kind: "SYNs",
            at: "near",
            packets: 1_000_000,
            seconds: 4.0,
            counters: vec![("flow_created", 999_000), ("no_route", 0), ("udp_rebalanced", 3)],
            before: served(50.0, 100.0, 0),
            during: served(75.0, 300.0, 10),
            full_queue: 0,
        };
        assert_eq!(
            row(&flooded),
            "| SYNs | near | 1,000,000 | 250,000 | 999,000 | 50 / 100 µs | 75 / 300 µs | 1.5 / 3.0 (missed) | 10 of 100 |"
        );
        assert!(told(&flooded).ends_with("flow_created 999000, udp_rebalanced 3"));
    }

    #[test]
    fn the_section_has_what_stands_and_what_memory_there_was() {
        let memory = |resident| Memory {
            resident,
            peak: 40.0,
            maps: 200.0,
        };
        let report = Report {
            family: "IPv4",
            xdp: "auto",
            floods: Vec::new(),
            standing: vec![(
                "near",
                Standing {
                    connections: 500,
                    exchanges: 500,
                    rounds: 1200,
                    longest: 12.3,
                    ..Standing::default()
                },
            )],
            memory: [memory(30.0), memory(31.5)],
            tables: Tables {
                embryos: 65_536,
                tcp_flows: 131_072,
                udp_flows: 65_536,
                pushed_out: 0,
            },
        };
        let section = section(&report);
        for line in [
            "IPv4, --xdp auto; room for 65,536 embryos of TCP and of UDP each, 131,072 entries of established TCP flows and 65,536 of UDP.",
            "| near | 500 | 500 | 1,200 | 0 | 12 ms | 0 |",
            "| agent, resident | 30.0 MiB | 31.5 MiB |",
            "| all BPF maps | 200.0 MiB | 200.0 MiB |",
            "| established flows pushed out | | 0 |",
        ] {
            assert!(
                section.lines().any(|other| other == line),
                "{line} is not in {section}"
            );
        }
    }
}
