//! One proxy, once, with so many Services.

use anyhow::{Context, Result, ensure};
use lab::Place;
use lab::cluster::ControlPlane;

use super::api::Api;
use super::probe::Probe;
use super::report::Report;
use super::subject::Subject;
use super::{Proxy, Scale};

/// What was measured: name, unit, value.
pub(super) type Values = Vec<(&'static str, &'static str, f64)>;

/// What became of it.
pub(super) enum Outcome {
    Measured(Values),
    /// It was not ready for more, and why.
    Unfinished(String),
}

/// Measures it on a host that nothing has run on before.
pub(super) fn measure(
    scale: &Scale,
    proxy: Proxy,
    plane: &ControlPlane,
    api: &Api,
    report: &mut Report,
) -> Result<Outcome> {
    let host = plane.host_beside()?;
    report.note_versions(proxy, plane, &host)?;
    let result = on_host(scale, proxy, plane, &host, api);
    // Whatever it was doing ends here, and all that the kernel has of it.
    let removed = plane.remove_host(host);
    let outcome = result?;
    removed.context("taking the host away")?;
    Ok(outcome)
}

fn on_host(scale: &Scale, proxy: Proxy, plane: &ControlPlane, host: &Place, api: &Api) -> Result<Outcome> {
    let mut values = Values::new();
    let mut add = |name, unit, value| values.push((name, unit, value));
    let mut subject = Subject::start(proxy, plane, host)?;
    let Some(cold) = subject.wait_synced(scale.patience())? else {
        return Ok(Outcome::Unfinished(format!("not within {} s", scale.patience)));
    };
    let usage = subject.usage()?;
    add("start to all programmed", "ms", cold.start * 1e3);
    if let Some(lists) = cold.lists {
        add("lists to all programmed", "ms", lists * 1e3);
    }
    add("CPU to all programmed", "ms", usage.cpu * 1e3);
    add("peak RSS, cold", "MiB", usage.peak);

    if !subject.wait_quiet(scale.patience())? {
        let reason = format!("not at rest within {} s", scale.patience);
        return Ok(Outcome::Unfinished(reason));
    }
    let (latencies, before) = (subject.latencies()?, subject.usage()?);
    let mut probe = Probe::start(host)?;
    let mut times = Vec::new();
    for number in 0..usize::from(scale.added) {
        times.push(probe.time(|| api.add(number))? * 1e3);
        api.remove(number)?;
        let quiet = subject.wait_quiet(scale.patience())?;
        ensure!(quiet, "it does not come to rest after a Service was removed");
    }
    let after = subject.usage()?;
    times.sort_by(f64::total_cmp);
    add("added Service, p50", "ms", quantile(&times, 50));
    add("added Service, p99", "ms", quantile(&times, 99));
    if let (Some(before), Some(after)) = (latencies, subject.latencies()?) {
        for (name, part) in [
            ("heard to in the maps, p50", 0.5),
            ("heard to in the maps, p99", 0.99),
        ] {
            let bound = after.quantile_since(&before, part);
            add(
                name,
                "ms",
                bound.context("it counted no change of endpoints")? * 1e3,
            );
        }
    }
    let per_service = (after.cpu - before.cpu) * 1e3 / f64::from(scale.added);
    add("CPU of an added and removed Service", "ms", per_service);
    add("RSS at the end", "MiB", after.now);
    add("peak RSS", "MiB", after.peak);
    add("of it data", "MiB", after.data);
    add("of it mapped BPF maps", "MiB", after.mapped);
    add("all BPF maps", "MiB", after.maps);
    subject.stop()?;
    Ok(Outcome::Measured(values))
}

/// The smallest of them that so many in a hundred do not exceed. They are sorted, and there are some.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted[rank.max(1) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values_and_never_too_small() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(
            [1, 50, 95, 99, 100].map(|percent| quantile(&values, percent)),
            [1.0, 10.0, 19.0, 20.0, 20.0]
        );
        assert_eq!(quantile(&[7.0], 50), 7.0);
    }
}
