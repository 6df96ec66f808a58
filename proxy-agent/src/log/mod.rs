//! Logs: one line an event on the standard error output, as text or JSON, as many as kube-proxy's `-v` asks for.

mod level;
mod repeats;

pub use repeats::Repeats;

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::LogStyle;

/// Chooses what is logged, in the place of `-v`.
pub const VARIABLE: &str = "SHUNT_LOG";

/// Changes how much is logged while the agent runs.
#[derive(Clone, Debug)]
pub struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
    repeats: Repeats,
}

/// Starts to log. Once a process.
pub fn start(style: LogStyle, verbosity: u32) -> LogControl {
    let (filter, handle) = reload::Layer::new(level::filter(verbosity));
    let repeats = Repeats::default();
    let lines = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        // A log whose reader has gone must not end the agent: telling so on the same stream would panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let lines = match style {
        LogStyle::Text => lines.boxed(),
        LogStyle::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(repeats.clone())
        .init();
    LogControl {
        filter: handle,
        repeats,
    }
}

impl LogControl {
    /// From now on as much as `-v` with this number.
    pub fn set_verbosity(&self, verbosity: u32) {
        if let Err(error) = self.filter.reload(level::filter(verbosity)) {
            tracing::warn!(%error, "how much is logged can't be changed");
        }
    }

    /// Tells now and then what was left out.
    pub async fn tell_repeats(self) {
        let mut ticks = tokio::time::interval(repeats::WINDOW / 3);
        loop {
            ticks.tick().await;
            self.repeats.tell(std::time::Instant::now());
        }
    }
}
