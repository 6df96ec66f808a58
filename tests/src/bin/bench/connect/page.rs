//! The tables of docs/performance.md.

use anyhow::{Context, Result};

use super::VARIANTS;
use crate::page::grouped;
use crate::record::Records;

/// Whose connections TC is compared with.
const PEER: &str = "kube-proxy nftables";

/// What stands between the page's marks.
pub(crate) fn section(records: &Records, services: &[usize]) -> Result<String> {
    let mut lines = vec![
        "| Services | way | connections/s | connect p50 | connect p99 | of nftables' connections |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for &count in services {
        let (peer, ..) = records
            .spread("connections", PEER, count)
            .with_context(|| format!("{PEER} was not measured at {count}"))?;
        for name in VARIANTS.iter().map(|variant| variant.name) {
            let of = |measure| {
                let measured = records.spread(measure, name, count);
                measured.with_context(|| format!("{measure} of {name} at {count} was not measured"))
            };
            let (rate, _, [low, high]) = of("connections")?;
            let mut cells = vec![
                grouped(count as f64),
                name.to_owned(),
                format!("{} ({} to {})", grouped(rate), grouped(low), grouped(high)),
            ];
            for measure in ["connect p50", "connect p99"] {
                let (time, _, [low, high]) = of(measure)?;
                cells.push(format!("{time:.1} µs ({low:.1} to {high:.1})"));
            }
            cells.push(format!("{:.2} x", rate / peer));
            lines.push(format!("| {} |", cells.join(" | ")));
        }
    }
    lines.push(String::new());
    lines.push(
        "connect() of a UDP socket in the host's namespace, where no packet is sent: the hook's own cost, with all that it notes for recvmsg.\n"
            .to_owned(),
    );
    lines.push("| Services | direct | socket LB | difference |".to_owned());
    lines.push("| --- | --- | --- | --- |".to_owned());
    for &count in services {
        let of = |name| {
            let measured = records.spread("UDP connect() p50", name, count);
            measured.with_context(|| format!("connect() of {name} at {count} was not measured"))
        };
        let (direct, _, [low, high]) = of("direct")?;
        let (balanced, _, [least, most]) = of("socket LB")?;
        lines.push(format!(
            "| {} | {direct:.0} ns ({low:.0} to {high:.0}) | {balanced:.0} ns ({least:.0} to {most:.0}) | {:.0} ns |",
            grouped(count as f64),
            balanced - direct
        ));
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_medians_spreads_and_the_ratio_and_none_may_be_missing() {
        let mut records = Records::default();
        for (variant, rate) in VARIANTS.iter().zip([20e3, 18e3, 12e3, 16e3, 4e3]) {
            records.add(
                "connections",
                variant.name,
                1000,
                "1/s",
                &[rate, rate - 1.0, rate + 1.0],
            );
            for measure in ["connect p50", "connect p99"] {
                records.add(measure, variant.name, 1000, "us", &[50.0, 40.0, 60.5]);
            }
        }
        records.add(
            "UDP connect() p50",
            "direct",
            1000,
            "ns",
            &[1000.0, 900.0, 1100.0],
        );
        assert!(
            section(&records, &[1000]).is_err(),
            "socket LB's datagrams are missing"
        );
        records.add("UDP connect() p50", "socket LB", 1000, "ns", &[1250.0; 3]);
        let section = section(&records, &[1000]).unwrap();
        let row = "| 1,000 | TC | 12,000 (11,999 to 12,001) | 50.0 µs (40.0 to 60.5) | 50.0 µs (40.0 to 60.5) | 0.75 x |\n";
        assert!(section.contains(row), "{section}");
        let row = "| 1,000 | 1000 ns (900 to 1100) | 1250 ns (1250 to 1250) | 250 ns |\n";
        assert!(section.contains(row), "{section}");
        assert!(super::section(&records, &[1, 1000]).is_err());
    }
}
