//! `shunt hold`: a process that does nothing, for pods that must not end.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};

/// Waits for SIGTERM or SIGINT.
pub fn hold() -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Blocked, so that they wait for us: the first process of a container has no default action to end it.
    signals.thread_block().context("blocking signals")?;
    signals.wait().context("waiting for a signal")?;
    Ok(())
}
