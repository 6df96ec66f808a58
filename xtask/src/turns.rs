//! Test programs that run one after another in one machine, and what is heard of each.

use std::time::Instant;

use crate::test::{self, Count, Program};

/// What the shell says before a program, with its number.
const BEGINS: &str = "test: begins ";
/// What it says behind one, with its exit code.
const ENDS: &str = "test: ends with ";

/// A shell's command that runs programs, whatever becomes of those before.
pub(crate) fn command(programs: &[&Program]) -> Vec<String> {
    let script = format!(
        "n=0; for program; do echo \"{BEGINS}$n\"; \"$program\" --nocapture --test-threads=1; echo \"{ENDS}$?\"; n=$((n + 1)); done"
    );
    let head = ["sh", "-c", &*script, "sh"].map(str::to_owned);
    let files = programs
        .iter()
        .map(|program| program.file.to_string_lossy().into_owned());
    head.into_iter().chain(files).collect()
}

/// What was heard of programs that run one after another.
pub(crate) struct Turns<'a> {
    programs: Vec<(&'a str, Count, Option<i32>)>,
    current: usize,
    since: Instant,
}

impl<'a> Turns<'a> {
    pub(crate) fn of(programs: &[&'a Program]) -> Self {
        Self {
            programs: programs
                .iter()
                .map(|program| (&*program.name, Count::default(), None))
                .collect(),
            current: 0,
            since: Instant::now(),
        }
    }

    pub(crate) fn hear(&mut self, line: &str) {
        if let Some(number) = line.strip_prefix(BEGINS) {
            self.current = number.parse().unwrap_or(usize::MAX);
            self.since = Instant::now();
        }
        let Some((name, count, code)) = self.programs.get_mut(self.current) else {
            return;
        };
        if let Some(result) = test::result(line) {
            count.passed += result.passed;
            count.failed += result.failed;
        }
        if let Some(number) = line.strip_prefix(ENDS) {
            *code = number.parse().ok();
            println!("test: {name} took {} s", self.since.elapsed().as_secs());
        }
    }

    /// A program that ended badly without a failed test, or did not end, counts as one failure.
    pub(crate) fn counts(self) -> Vec<Count> {
        let count = |(name, mut count, code): (&str, Count, Option<i32>)| {
            if code != Some(0) && count.failed == 0 {
                println!("test: {name} ended with {code:?}");
                count.failed = 1;
            }
            count
        };
        self.programs.into_iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;
    use crate::test::Layer;

    #[test]
    fn programs_that_run_in_turn_are_counted_each() {
        let program = |name: &str| Program {
            layer: Layer::Packet,
            name: name.to_owned(),
            file: PathBuf::from("/built").join(name),
            directory: PathBuf::from("/tests"),
        };
        let programs = ["well", "failed", "crashed", "never"].map(program);
        let programs: Vec<_> = programs.iter().collect();
        let words = command(&programs);
        assert_eq!(
            words[3..],
            [
                "sh",
                "/built/well",
                "/built/failed",
                "/built/crashed",
                "/built/never"
            ]
        );
        let mut turns = Turns::of(&programs);
        for line in [
            "test: begins 0",
            "test result: ok. 2 passed; 0 failed; 0 ignored",
            "test: ends with 0",
            "test: begins 1",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored",
            "test: ends with 101",
            "test: begins 2",
            "test: ends with 139",
        ] {
            turns.hear(line);
        }
        let counts: Vec<_> = turns
            .counts()
            .into_iter()
            .map(|count| (count.passed, count.failed))
            .collect();
        assert_eq!(counts, [(2, 0), (1, 1), (0, 1), (0, 1)]);
    }

    /// Each runs, whatever becomes of those before it.
    #[test]
    fn the_shell_runs_programs_in_turn() {
        let program = |file: &str| Program {
            layer: Layer::Packet,
            name: file.to_owned(),
            file: file.into(),
            directory: PathBuf::from("/"),
        };
        let programs = [program("/bin/false"), program("/bin/echo")];
        let words = command(&programs.iter().collect::<Vec<_>>());
        let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "test: begins 0\ntest: ends with 1\ntest: begins 1\n--nocapture --test-threads=1\ntest: ends with 0\n"
        );
    }
}
