//! What the demo shows as it runs, and the table at its end.

use std::collections::BTreeMap;
use std::time::Instant;

use lab::call::{Outcome, Outcomes};

/// The widest bar of a spread.
const BAR: usize = 24;

/// What is expected of a row of calls.
pub(crate) struct Expected<'a> {
    /// The pods that must have answered, each at least once, and no other.
    pub(crate) pods: Vec<&'a str>,
}

/// All rows so far.
pub(crate) struct Report {
    start: Instant,
    rows: Vec<Row>,
}

struct Row {
    step: String,
    what: String,
    calls: usize,
    answered: usize,
    refused: usize,
    timed_out: usize,
    other: usize,
    pods: String,
    wrong: Option<String>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            rows: Vec::new(),
        }
    }
}

impl Report {
    /// The headline of a step.
    pub(crate) fn step(&self, text: &str) {
        println!("\n[{:4.1} s] {text}", self.start.elapsed().as_secs_f32());
    }

    /// A line about something that was done.
    pub(crate) fn line(&self, text: &str) {
        println!("         {text}");
    }

    /// Shows a row of calls and judges it.
    pub(crate) fn calls(&mut self, step: &str, what: &str, outcomes: &Outcomes, expected: &Expected) {
        let spread = outcomes.by_name();
        let wrong = judge(outcomes, &spread, expected);
        println!(
            "         {what:44} {}",
            wrong.as_deref().map_or("ok", |_| "WRONG")
        );
        for (pod, count) in &spread {
            println!(
                "             {pod:8} {:BAR$} {count}",
                bar(*count, outcomes.0.len())
            );
        }
        if let Some(wrong) = &wrong {
            println!("             {wrong}");
        }
        let (refused, timed_out) = (
            outcomes.count(&Outcome::Refused),
            outcomes.count(&Outcome::Timeout),
        );
        let answered = outcomes.answers().count();
        self.rows.push(Row {
            step: step.to_owned(),
            what: what.to_owned(),
            calls: outcomes.0.len(),
            answered,
            refused,
            timed_out,
            other: outcomes.0.len() - answered - refused - timed_out,
            pods: spread.keys().copied().collect::<Vec<_>>().join(" "),
            wrong,
        });
    }

    /// Whether there are rows, and all are right.
    pub(crate) fn is_right(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.wrong.is_none())
    }

    /// The table of all rows.
    pub(crate) fn summary(&self) {
        let rule = "-".repeat(132);
        println!("\n[{:4.1} s] Summary\n{rule}", self.start.elapsed().as_secs_f32());
        println!(
            "{:16} {:44} {:>5} {:>8} {:>7} {:>7} {:>5}  {:5}  answered by",
            "step", "calls", "calls", "answered", "refused", "timeout", "other", ""
        );
        println!("{rule}");
        for row in &self.rows {
            let verdict = if row.wrong.is_none() { "ok" } else { "WRONG" };
            println!(
                "{:16} {:44} {:>5} {:>8} {:>7} {:>7} {:>5}  {verdict:5}  {}",
                row.step, row.what, row.calls, row.answered, row.refused, row.timed_out, row.other, row.pods
            );
        }
        println!("{rule}");
    }
}

fn judge(outcomes: &Outcomes, spread: &BTreeMap<&str, usize>, expected: &Expected) -> Option<String> {
    let mut wrong = Vec::new();
    if !outcomes.all_answered() {
        wrong.push(format!("expected every call answered, saw: {outcomes}"));
    }
    let silent: Vec<_> = expected
        .pods
        .iter()
        .filter(|pod| !spread.contains_key(**pod))
        .collect();
    if !silent.is_empty() {
        wrong.push(format!("never answered: {silent:?}"));
    }
    let strangers: Vec<_> = spread.keys().filter(|pod| !expected.pods.contains(pod)).collect();
    if !strangers.is_empty() {
        wrong.push(format!("answered and should not: {strangers:?}"));
    }
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

fn bar(count: usize, total: usize) -> String {
    "█".repeat((count * BAR).div_ceil(total.max(1)))
}
