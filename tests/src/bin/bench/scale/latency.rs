//! What the agent counts of its own latency.

/// Its histogram of the time from hearing of a change of endpoints to its being in the maps.
const HISTOGRAM: &str = "shunt_endpoint_change_latency_seconds_bucket{le=\"";

/// How many changes took how long, at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Latencies(Vec<(f64, f64)>);

impl Latencies {
    /// From the text of all metrics.
    pub(super) fn read(text: &str) -> Self {
        let buckets = text.lines().filter_map(|line| line.strip_prefix(HISTOGRAM));
        let buckets = buckets.filter_map(|line| line.split_once("\"} "));
        Self(
            buckets
                .filter_map(|(bound, count)| {
                    let bound = if bound == "+Inf" {
                        f64::INFINITY
                    } else {
                        bound.parse().ok()?
                    };
                    Some((bound, count.parse().ok()?))
                })
                .collect(),
        )
    }

    /// Seconds within which this part of the changes since then was in the maps: the bound of a bucket, so that it
    /// took less.
    pub(super) fn quantile_since(&self, before: &Self, part: f64) -> Option<f64> {
        let counts = |index: usize| before.0.get(index).map_or(0.0, |(_, count)| *count);
        let since: Vec<(f64, f64)> = self
            .0
            .iter()
            .enumerate()
            .map(|(index, (bound, count))| (*bound, count - counts(index)))
            .collect();
        let (_, all) = since.last().filter(|(_, all)| *all > 0.0)?;
        let (bound, _) = since.iter().find(|(_, count)| *count >= part * all)?;
        Some(*bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_before_does_not_count() {
        let read = |counts: [u32; 3]| {
            let [a, b, c] = counts.map(f64::from);
            Latencies::read(&format!(
                "other_bucket{{le=\"1\"}} 7\n{HISTOGRAM}0.001\"}} {a}\n{HISTOGRAM}0.002\"}} {b}\n{HISTOGRAM}+Inf\"}} {c}\n"
            ))
        };
        let (before, after) = (read([0, 0, 5]), read([98, 99, 105]));
        assert_eq!(after.quantile_since(&before, 0.5), Some(0.001));
        assert_eq!(after.quantile_since(&before, 0.99), Some(0.002));
        assert_eq!(after.quantile_since(&before, 1.0), Some(f64::INFINITY));
        assert_eq!(after.quantile_since(&after, 0.5), None);
    }
}
