//! What each program costs each kernel's verifier: a line a cell, `KERNEL PROGRAM INSTRUCTIONS STACK`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

/// Growth beyond it, in percent, is an error.
const GROWTH: u64 = 10;
/// What a test prints in front of a program, its instructions and its stack.
const SAID: &str = "verified: ";
const HEAD: &str = "\
# What the verifier of each kernel says of each program: the instructions that it went through, of 1,000,000, and the bytes of
# stack that the program itself and the function of it that takes most need, of 512 for a whole chain of calls.
# `cargo xtask test kernels` fails where one grows by more than 10 %; `cargo xtask test kernels --write` writes this file anew.
";

/// What a program costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    instructions: u64,
    stack: u64,
}

/// Costs by kernel and program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table(BTreeMap<(String, String), Cost>);

impl Table {
    /// Reads a written table.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut table = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (kernel, rest) = line.split_once(' ').unwrap_or((line, ""));
            let taken = table.take(kernel, rest);
            ensure!(taken, "`{line}` is not KERNEL PROGRAM INSTRUCTIONS STACK");
        }
        Ok(table)
    }

    /// Takes in what a line of a test's output says of a program, if it says something of one.
    pub(super) fn hear(&mut self, kernel: &str, line: &str) {
        if let Some((_, said)) = line.split_once(SAID) {
            self.take(kernel, said);
        }
    }

    fn take(&mut self, kernel: &str, text: &str) -> bool {
        let words: Vec<_> = text.split_whitespace().collect();
        let [program, instructions, stack] = words[..] else {
            return false;
        };
        let (Ok(instructions), Ok(stack)) = (instructions.parse(), stack.parse()) else {
            return false;
        };
        let cell = (kernel.to_owned(), program.to_owned());
        self.0.insert(cell, Cost { instructions, stack });
        true
    }

    /// The table as it is written.
    pub(super) fn written(&self) -> Result<String> {
        let mut text = HEAD.to_owned();
        for ((kernel, program), cost) in &self.0 {
            writeln!(text, "{kernel} {program} {} {}", cost.instructions, cost.stack)
                .context("writing a line")?;
        }
        Ok(text)
    }

    /// Puts what was measured on some kernels in the place of what was written of them.
    pub(super) fn replace(&mut self, kernels: &[&str], measured: Self) {
        self.0
            .retain(|(kernel, _), _| !kernels.contains(&kernel.as_str()));
        self.0.extend(measured.0);
    }

    /// What is wrong with what was measured on some kernels, beside this table.
    pub(super) fn differences(&self, kernels: &[&str], measured: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        for ((kernel, program), now) in &measured.0 {
            let Some(before) = self.0.get(&(kernel.clone(), program.clone())) else {
                wrong.push(format!("{kernel}: {program} is not in the table"));
                continue;
            };
            for (what, before, now) in [
                ("verified instructions", before.instructions, now.instructions),
                ("bytes of stack", before.stack, now.stack),
            ] {
                if now * 100 > before * (100 + GROWTH) {
                    wrong.push(format!(
                        "{kernel}: {program} has grown from {before} {what} to {now}"
                    ));
                }
            }
        }
        let gone = self.0.keys().filter(|(kernel, program)| {
            kernels.contains(&kernel.as_str()) && !measured.0.contains_key(&(kernel.clone(), program.clone()))
        });
        wrong.extend(
            gone.map(|(kernel, program)| format!("{kernel}: {program} is in the table, and was not loaded")),
        );
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        Table::read(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let before = table("6.12 to_pod 47007 300\n7 to_pod 36966 300\n");
        let text = before.written().unwrap();
        assert!(
            text.ends_with("\n6.12 to_pod 47007 300\n7 to_pod 36966 300\n"),
            "{text}"
        );
        assert_eq!(table(&text), before);
        let error = Table::read("6.12 to_pod many 300\n").unwrap_err();
        assert!(error.to_string().contains("`6.12 to_pod many 300`"), "{error}");
    }

    #[test]
    fn a_programs_cost_is_found_in_what_a_test_prints() {
        let mut measured = Table::default();
        measured.hear("6.12", "test every_program ... verified: to_pod 47007 300");
        measured.hear("6.12", "verified: connect4 100 40");
        measured.hear("6.12", "test result: ok. 2 passed; 0 failed");
        assert_eq!(measured, table("6.12 connect4 100 40\n6.12 to_pod 47007 300\n"));
    }

    #[test]
    fn growth_by_a_tenth_passes_and_more_does_not() {
        let written = table("6.12 to_pod 1000 100\n");
        let of = |text: &str| written.differences(&["6.12"], &table(text));
        assert!(of("6.12 to_pod 1100 110\n").is_empty());
        assert!(of("6.12 to_pod 10 10\n").is_empty());
        assert_eq!(
            of("6.12 to_pod 1101 100\n"),
            ["6.12: to_pod has grown from 1000 verified instructions to 1101"]
        );
        assert_eq!(
            of("6.12 to_pod 1000 111\n"),
            ["6.12: to_pod has grown from 100 bytes of stack to 111"]
        );
    }

    #[test]
    fn programs_of_one_side_alone_are_errors() {
        let written = table("6.12 from_pod 1 1\n7 from_pod 1 1\n");
        let wrong = written.differences(&["6.12"], &table("6.12 to_pod 1 1\n"));
        assert_eq!(
            wrong,
            [
                "6.12: to_pod is not in the table",
                "6.12: from_pod is in the table, and was not loaded"
            ]
        );
    }

    #[test]
    fn what_was_measured_on_one_kernel_leaves_the_others() {
        let mut written = table("6.12 from_pod 1 1\n7 from_pod 1 1\n");
        written.replace(&["6.12"], table("6.12 to_pod 2 2\n"));
        assert_eq!(written, table("6.12 to_pod 2 2\n7 from_pod 1 1\n"));
    }
}
