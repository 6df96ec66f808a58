//! What this process takes, under the names that all exporters use.

use std::fmt;

use jiff::Timestamp;
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;

/// What this process takes.
#[derive(Debug)]
pub(super) struct Process {
    start: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        Self {
            start: Timestamp::now().as_duration().as_secs_f64(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        write(
            &mut encoder,
            "process_start_time_seconds",
            "When this process began",
            &ConstGauge::new(self.start),
        )?;
        if let Some(seconds) = cpu_seconds() {
            let help = "Seconds of CPU time that this process took";
            write(
                &mut encoder,
                "process_cpu_seconds",
                help,
                &ConstCounter::new(seconds),
            )?;
        }
        if let Some(bytes) = resident_bytes() {
            let help = "Memory of this process that is in RAM";
            write(
                &mut encoder,
                "process_resident_memory_bytes",
                help,
                &ConstGauge::new(bytes),
            )?;
        }
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        write(&mut encoder, "shunt_build", "Which Shunt this is", &build)
    }
}

fn write(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let [user, system] = [usage.user_time(), usage.system_time()];
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(seconds(user) + seconds(system))
}

fn resident_bytes() -> Option<i64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: i64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(resident * page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_takes_is_plausible() {
        let before = cpu_seconds().unwrap();
        // Some work that can't be left out.
        let mut sum = 0_u64;
        while cpu_seconds().unwrap() - before < 0.01 {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(sum > 0);
        let bytes = resident_bytes().unwrap();
        assert!(bytes > 1 << 20 && bytes < 1 << 36, "{bytes}");
    }
}
