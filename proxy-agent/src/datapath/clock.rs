//! The clock of the programs: `bpf_jiffies64`, read through a program of two instructions, because no system call
//! gives it.

use std::os::fd::{AsFd, OwnedFd};

use super::error::{CallError, Context, DatapathError};
use super::sys::{self, program_type};

/// Reads the tick of this moment.
#[derive(Debug)]
pub(super) struct Clock {
    program: OwnedFd,
}

impl Clock {
    pub(super) fn new() -> Result<Self, CallError> {
        // r0 = bpf_jiffies64(); exit
        const INSTRUCTIONS: [u64; 2] = [118 << 32 | 0x85, 0x95];
        let program = sys::program_load(program_type::SCHED_CLS, 0, &INSTRUCTIONS)
            .call("BPF_PROG_LOAD", "the clock program")?;
        Ok(Self { program })
    }

    /// The low half of `bpf_jiffies64`.
    pub(super) fn now(&self) -> Result<u32, CallError> {
        sys::program_run(self.program.as_fd(), &[0; 64]).call("BPF_PROG_TEST_RUN", "the clock program")
    }
}

/// Ticks in a second: the kernel's HZ, which is the resolution of its coarse clock.
pub(super) fn ticks_per_second() -> Result<u32, DatapathError> {
    let resolution = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)
        .map_err(std::io::Error::from)
        .call("clock_getres", "CLOCK_MONOTONIC_COARSE")?;
    let nanoseconds = u32::try_from(resolution.tv_nsec()).unwrap_or(0);
    if resolution.tv_sec() != 0 || nanoseconds == 0 {
        return Err(DatapathError::Refused(format!(
            "CLOCK_MONOTONIC_COARSE has a resolution of {resolution}: not that of a kernel's tick"
        )));
    }
    // Rounded: with HZ = 300 a tick is 3,333,333 ns.
    Ok((1_000_000_000 + nanoseconds / 2) / nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn the_clock_runs_at_the_rate_that_is_said() {
        let rate = ticks_per_second().unwrap();
        assert!([100, 250, 300, 1000].contains(&rate), "{rate}");
        let clock = Clock::new().unwrap();
        let (start, first) = (Instant::now(), clock.now().unwrap());
        // Waits for ten ticks of the clock itself.
        let mut ticks = 0;
        while ticks < 10 {
            std::thread::yield_now();
            ticks = clock.now().unwrap().wrapping_sub(first);
        }
        let measured = f64::from(ticks) / start.elapsed().as_secs_f64();
        assert!(
            measured > f64::from(rate) * 0.5 && measured < f64::from(rate) * 1.5,
            "{measured} {rate}"
        );
    }
}
