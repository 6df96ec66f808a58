//! Runs rows of checks and prints them as the test harness prints its tests.

use std::collections::VecDeque;
use std::fmt::Display;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use lab::Options;

/// Labs that stand at a time.
const WORKERS: usize = 2;

/// Which rows to run, and what came of them.
pub(crate) struct Runner {
    words: Vec<String>,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    passed: usize,
    filtered: usize,
    failures: Vec<(String, String)>,
}

/// The rows of one configuration.
pub(crate) struct Rows<'a> {
    runner: &'a Runner,
    prefix: String,
}

impl Runner {
    /// Takes the words that a row's name must hold; options of the usual harness are not words.
    pub(crate) fn new(arguments: impl Iterator<Item = String>) -> Self {
        Self {
            words: arguments.filter(|word| !word.starts_with('-')).collect(),
            tally: Mutex::default(),
        }
    }

    /// Runs the configurations, some at a time, and tells what failed.
    pub(crate) fn run(
        &self,
        configurations: Vec<Options>,
        rows: impl Fn(Options, &mut Rows) + Sync,
    ) -> ExitCode {
        let start = Instant::now();
        let queue = Mutex::new(VecDeque::from(configurations));
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    // Taken in a closure: the queue must not stay locked while the rows run.
                    let next = || lock(&queue).pop_front();
                    while let Some(options) = next() {
                        let prefix = options.to_string();
                        if self.may_hold(&prefix) {
                            rows(options, &mut Rows { runner: self, prefix });
                        }
                    }
                });
            }
        });
        self.summary(start)
    }

    /// Whether a configuration can have rows that are wanted: its name holds every word that is a configuration's.
    fn may_hold(&self, prefix: &str) -> bool {
        self.words
            .iter()
            .filter(|word| word.contains('/'))
            .all(|word| prefix.contains(word.as_str()))
    }

    fn wants(&self, name: &str) -> bool {
        self.words.iter().all(|word| name.contains(word.as_str()))
    }

    fn record(&self, name: String, start: Instant, result: Result<()>) {
        let mut tally = lock(&self.tally);
        let milliseconds = start.elapsed().as_millis();
        match result {
            Ok(()) => {
                println!("test {name} ... ok ({milliseconds} ms)");
                tally.passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED ({milliseconds} ms)\n    {error:#}");
                tally.failures.push((name, format!("{error:#}")));
            }
        }
    }

    fn summary(&self, start: Instant) -> ExitCode {
        let tally = lock(&self.tally);
        if !tally.failures.is_empty() {
            println!("\nfailures:");
            tally
                .failures
                .iter()
                .for_each(|(name, why)| println!("    {name}\n        {why}"));
        }
        let verdict = if tally.failures.is_empty() { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s",
            tally.passed,
            tally.failures.len(),
            tally.filtered,
            start.elapsed().as_secs_f32()
        );
        if tally.failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

impl Rows<'_> {
    /// One check.
    pub(crate) fn row(&mut self, name: impl Display, check: impl FnOnce() -> Result<()>) {
        let name = format!("{} {name}", self.prefix);
        if !self.runner.wants(&name) {
            lock(&self.runner.tally).filtered += 1;
            return;
        }
        let start = Instant::now();
        let result = check();
        self.runner.record(name, start, result);
    }

    /// What the rows after it need: always made, whatever the words.
    pub(crate) fn build<T>(&mut self, name: &str, build: impl FnOnce() -> Result<T>) -> Option<T> {
        let start = Instant::now();
        let (result, built) = match build() {
            Ok(built) => (Ok(()), Some(built)),
            Err(error) => (Err(error), None),
        };
        self.runner
            .record(format!("{} {name}", self.prefix), start, result);
        built
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A row that panics leaves the counts whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
