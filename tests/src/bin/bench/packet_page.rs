//! The tables of packets in docs/performance.md.

use anyhow::{Context, Result};

use crate::record::Records;

const HOT: &str = "TC packet, hot";
const ONE: &str = "TC packet, one a run";
const XDP: &str = "XDP packet, hot";
/// What the test run itself costs.
const EMPTY: &str = "empty program";
/// What any flow table costs at least.
const BARE: &str = "one LRU look-up";

/// What stands between the page's marks.
pub(crate) fn section(records: &Records) -> Result<String> {
    let parts = [
        ("TC, each packet of the same flow:", table(records, HOT)?),
        (
            "TC, each packet of a new client, one a run, whose start is in the figure:",
            table(records, ONE)?,
        ),
        (
            "XDP, each packet of the same flow; no frame is sent in a test run:",
            table(records, XDP)?,
        ),
    ];
    Ok(parts
        .map(|(title, table)| format!("{title}\n\n{table}"))
        .join("\n"))
}

fn table(records: &Records, name: &'static str) -> Result<String> {
    let median = |variant| records.median(name, variant, 1).map(|(value, _)| value);
    let empty = median(EMPTY).with_context(|| format!("{name}: no {EMPTY}"))?;
    let bare = median(BARE);
    let mut text = String::from("| program | median | spread | over the empty program |");
    text.push_str(if bare.is_some() {
        " of one LRU look-up |\n"
    } else {
        "\n"
    });
    text.push_str("| --- | --- | --- | --- |");
    text.push_str(if bare.is_some() { " --- |\n" } else { "\n" });
    for (variant, value, [low, high]) in records.all(name) {
        text.push_str(&format!(
            "| {variant} | {value:.0} ns | {low:.0} to {high:.0} | {:.0} ns |",
            value - empty
        ));
        if let Some(bare) = bare {
            text.push_str(&format!(" {:.1} x |", value / bare));
        }
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_with_the_empty_program_and_with_one_look_up_where_there_is_one() {
        let mut records = Records::default();
        for (name, variant, times) in [
            (HOT, EMPTY, [10.0, 9.0, 12.0]),
            (HOT, BARE, [40.0; 3]),
            (HOT, "established", [100.0, 90.0, 110.0]),
            (ONE, EMPTY, [70.0; 3]),
            (ONE, "new flow", [970.0, 950.0, 1000.0]),
            (XDP, BARE, [40.0; 3]),
        ] {
            records.add(name, variant, 1, "ns", &times);
        }
        assert!(section(&records).is_err(), "XDP has no empty program");
        assert_eq!(
            table(&records, HOT).unwrap(),
            "| program | median | spread | over the empty program | of one LRU look-up |\n\
             | --- | --- | --- | --- | --- |\n\
             | empty program | 10 ns | 9 to 12 | 0 ns | 0.2 x |\n\
             | one LRU look-up | 40 ns | 40 to 40 | 30 ns | 1.0 x |\n\
             | established | 100 ns | 90 to 110 | 90 ns | 2.5 x |\n"
        );
        assert_eq!(
            table(&records, ONE).unwrap(),
            "| program | median | spread | over the empty program |\n\
             | --- | --- | --- | --- |\n\
             | empty program | 70 ns | 70 to 70 | 0 ns |\n\
             | new flow | 970 ns | 950 to 1000 | 900 ns |\n"
        );
    }
}
