//! Keeps a log from filling with one and the same complaint.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How long one and the same complaint is counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(30);
/// How often it is logged in that time.
const OFTEN: u32 = 3;
/// Different complaints that are kept in mind; beyond that, all are logged.
const MOST: usize = 1024;
/// Of what is said here, nothing is left out.
const TARGET: &str = "shunt::repeats";

/// A layer that lets a warning or error with the same text and fields through three times in 30 s, counts the rest, and
/// tells of them afterwards. What is no complaint is never left out: other programs wait for it.
#[derive(Clone, Debug, Default)]
pub struct Repeats(Arc<Mutex<HashMap<u64, Complaint>>>);

#[derive(Debug)]
struct Complaint {
    first: Instant,
    times: u32,
    text: String,
}

impl Repeats {
    /// Tells how often what was left out came, where its time is over.
    pub fn tell(&self, now: Instant) {
        let is_over = |complaint: &Complaint| now.saturating_duration_since(complaint.first) >= WINDOW;
        let over: Vec<Complaint> = self
            .complaints()
            .extract_if(|_, complaint| is_over(complaint))
            .map(|(_, over)| over)
            .collect();
        for Complaint { times, text, .. } in over {
            if times > OFTEN {
                tracing::warn!(target: TARGET, more = times - OFTEN, what = text, "repeated");
            }
        }
    }

    /// Whether a complaint is to be logged.
    fn note(&self, key: u64, text: String, now: Instant) -> bool {
        let mut complaints = self.complaints();
        if let Some(complaint) = complaints.get_mut(&key) {
            complaint.times += 1;
            return complaint.times <= OFTEN;
        }
        if complaints.len() < MOST {
            let (first, times) = (now, 1);
            complaints.insert(key, Complaint { first, times, text });
        }
        true
    }

    fn complaints(&self) -> MutexGuard<'_, HashMap<u64, Complaint>> {
        // No change can be left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == TARGET {
            return true;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let mut hasher = DefaultHasher::new();
        (metadata.callsite(), &text.message, &text.fields).hash(&mut hasher);
        let whole = text.message + &text.fields;
        self.note(hasher.finish(), whole, Instant::now())
    }
}

/// An event's message and fields as one text.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String can't fail.
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    fn logged(body: impl FnOnce(&Repeats, &Lines)) {
        let (lines, repeats) = (Lines::default(), Repeats::default());
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .without_time()
            .with_ansi(false)
            .with_target(false)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer).with(repeats.clone());
        tracing::subscriber::with_default(subscriber, || body(&repeats, &lines));
    }

    fn complain(server: &str) {
        tracing::warn!(server, "no answer");
    }

    #[test]
    fn a_complaint_is_logged_three_times_and_then_counted() {
        logged(|repeats, lines| {
            for _ in 0..10 {
                complain("a");
            }
            assert_eq!(lines.take(), [" WARN no answer server=\"a\""; 3]);
            let start = Instant::now();
            repeats.tell(start);
            assert_eq!(lines.take(), [""; 0], "its time is not over");
            repeats.tell(start + WINDOW);
            assert_eq!(
                lines.take(),
                [" WARN repeated more=7 what=\"no answer server=\\\"a\\\"\""]
            );
            repeats.tell(start + WINDOW * 2);
            assert_eq!(lines.take(), [""; 0], "it was told");
            complain("a");
            assert_eq!(lines.take().len(), 1, "it may come anew");
        });
    }

    #[test]
    fn another_complaint_and_news_are_never_left_out() {
        logged(|_, lines| {
            for number in 0..10 {
                complain(&number.to_string());
                tracing::info!(files = "a.yaml", "applied");
            }
            assert_eq!(lines.take().len(), 20);
        });
    }

    #[test]
    fn the_same_text_of_another_place_is_another_complaint() {
        logged(|_, lines| {
            for _ in 0..4 {
                tracing::error!("full");
                tracing::error!("full");
            }
            assert_eq!(lines.take().len(), 6);
        });
    }

    #[test]
    fn memory_is_bounded() {
        let repeats = Repeats::default();
        let now = Instant::now();
        for key in 0..2 * MOST as u64 {
            assert!(repeats.note(key, String::new(), now));
        }
        assert_eq!(repeats.complaints().len(), MOST);
    }
}
