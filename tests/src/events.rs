//! An agent's log as events that can be waited for.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::machine;

/// How long an event may take before a wait for it fails: the verifier needs seconds for an agent's programs, and on a
/// busy machine many.
const PATIENCE: Duration = Duration::from_secs(120);
/// The same in a machine whose processor is emulated.
const EMULATED_PATIENCE: Duration = Duration::from_secs(480);
/// How much of the log a failed wait shows.
const TAIL: usize = 15;

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Event(Value);

impl Event {
    /// The field `message`.
    pub fn message(&self) -> &str {
        self.text("message")
    }

    /// A text field; empty if there is none.
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// A number; 0 if there is none.
    pub fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_default()
    }

    /// Whether the comma-separated field holds this word.
    pub fn lists(&self, field: &str, word: &str) -> bool {
        self.text(field).split(',').any(|entry| entry.trim() == word)
    }
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    events: Vec<Event>,
    ended: bool,
}

/// All events so far, filled by a thread that reads the log.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<(Mutex<State>, Condvar)>);

/// A point in the log: what comes after it is new.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

impl Mark {
    /// Before everything.
    pub const START: Self = Self(0);
}

impl Events {
    /// Follows a log to its end, and keeps a copy in the file.
    pub(crate) fn follow(log: impl Read + Send + 'static, copy: &Path) -> Result<Self> {
        let mut copy = std::fs::File::options()
            .append(true)
            .create(true)
            .open(copy)
            .with_context(|| format!("opening {}", copy.display()))?;
        let events = Self::default();
        let writer = events.clone();
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(std::result::Result::ok) {
                // The copy is for people; the test goes on without it.
                drop(writeln!(copy, "{line}"));
                writer.push(line);
            }
            writer.state().ended = true;
            writer.0.1.notify_all();
        });
        Ok(events)
    }

    /// Now.
    pub fn mark(&self) -> Mark {
        Mark(self.state().events.len())
    }

    /// Waits for an event after the mark; `what` names it in the error.
    pub fn wait(&self, since: Mark, what: &str, matches: impl Fn(&Event) -> bool) -> Result<Event> {
        let patience = if machine::is_own() {
            EMULATED_PATIENCE
        } else {
            PATIENCE
        };
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        loop {
            if let Some(event) = state.events[since.0..].iter().find(|event| matches(event)) {
                return Ok(event.clone());
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if state.ended || rest.is_zero() {
                let why = if state.ended {
                    "the agent ended"
                } else {
                    "it did not come in time"
                };
                bail!(
                    "waiting for {what}: {why}; the end of its log:\n{}",
                    tail(&state.lines)
                );
            }
            state = self
                .0
                .1
                .wait_timeout(state, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// All events after the mark, up to now.
    pub fn since(&self, mark: Mark) -> Vec<Event> {
        self.state().events[mark.0..].to_vec()
    }

    fn push(&self, line: String) {
        let mut state = self.state();
        if let Ok(value) = serde_json::from_str(&line) {
            state.events.push(Event(value));
        }
        state.lines.push(line);
        self.0.1.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the lines whole.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(text: &'static str) -> Events {
        let copy = std::env::temp_dir().join(format!("shunt-events-{}-{}", std::process::id(), text.len()));
        let events = Events::follow(text.as_bytes(), &copy).unwrap();
        std::fs::remove_file(copy).unwrap();
        events
    }

    #[test]
    fn an_event_is_found_by_its_fields() {
        let events = follow("{\"message\":\"applied\",\"files\":\"a.yaml,b.yaml\",\"operations\":3}\n");
        let event = events
            .wait(Mark(0), "applied", |event| event.lists("files", "b.yaml"))
            .unwrap();
        assert_eq!((event.message(), event.number("operations")), ("applied", 3));
    }

    #[test]
    fn the_end_of_the_log_ends_the_wait_and_shows_it() {
        let events = follow("no json, but a last word\n");
        let error = events
            .wait(Mark(0), "ready", |event| event.message() == "ready")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("waiting for ready") && error.contains("a last word"),
            "{error}"
        );
    }
}
