//! The table of docs/performance.md.

use anyhow::{Context, Result};

use super::{NAME, NOBODY, WAYS};
use crate::page::grouped;
use crate::record::Records;

/// What every figure is a multiple of.
const PEER: &str = "kube-proxy nftables";

/// What stands between the page's marks.
pub(crate) fn section(records: &Records) -> Result<String> {
    let of = |variant| {
        let (value, _, [low, high]) = records.spread(NAME, variant, 1)?;
        Some((value, low, high))
    };
    let (peer, ..) = of(PEER).with_context(|| format!("{PEER} was not measured"))?;
    let mut lines = vec![
        "| way | packets/s | spread | ns a packet | of nftables' |".to_owned(),
        "| --- | --- | --- | --- | --- |".to_owned(),
    ];
    for variant in WAYS.iter().map(|(name, _)| *name).chain([NOBODY]) {
        let (value, low, high) = of(variant).with_context(|| format!("{variant} was not measured"))?;
        lines.push(format!(
            "| {variant} | {} | {} to {} | {:.0} | {:.1} x |",
            grouped(value),
            grouped(low),
            grouped(high),
            1e9 / value,
            value / peer
        ));
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_median_the_spread_the_time_and_the_ratio() {
        let mut records = Records::default();
        for (variant, rates) in [
            ("XDP", [4e6, 3.9e6, 4.1e6]),
            ("TC", [1.5e6; 3]),
            (PEER, [1e6, 0.9e6, 1.25e6]),
            ("kube-proxy iptables (legacy)", [0.8e6; 3]),
            ("kube-proxy iptables (nf_tables)", [0.75e6; 3]),
        ] {
            records.add(NAME, variant, 1, "1/s", &rates);
        }
        assert!(section(&records).is_err(), "what the frames cost is missing");
        records.add(NAME, NOBODY, 1, "1/s", &[8e6; 3]);
        let expected = "| way | packets/s | spread | ns a packet | of nftables' |\n\
            | --- | --- | --- | --- | --- |\n\
            | XDP | 4,000,000 | 3,900,000 to 4,100,000 | 250 | 4.0 x |\n\
            | TC | 1,500,000 | 1,500,000 to 1,500,000 | 667 | 1.5 x |\n\
            | kube-proxy nftables | 1,000,000 | 900,000 to 1,250,000 | 1000 | 1.0 x |\n\
            | kube-proxy iptables (legacy) | 800,000 | 800,000 to 800,000 | 1250 | 0.8 x |\n\
            | kube-proxy iptables (nf_tables) | 750,000 | 750,000 to 750,000 | 1333 | 0.8 x |\n\
            | nobody: frames dropped on arrival | 8,000,000 | 8,000,000 to 8,000,000 | 125 | 8.0 x |\n";
        assert_eq!(section(&records).unwrap(), expected);
    }
}
