//! `cargo xtask bench --compare BASE`: this checkout's build and another revision's in turn, so that what the machine does
//! meanwhile hits both.
//!
//! Each build's own bench measures its own programs and agent: nanoseconds a packet by the kernel's test run, and 10,000
//! Services from objects in memory to complete maps. A row differs if no round of the one build lies among those of the other.

mod base;
mod rows;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::setup::toolchain::Toolchain;
use crate::{command, lab, object, workspace};
use base::Base;
use rows::{Figures, table};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nanoseconds a packet.
    Packets,
    /// The agent, from objects to maps.
    Agent,
}

/// The benches' arguments, if they are to compare.
#[derive(Debug, Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// The revision to compare with: a commit, a branch or a tag
    #[arg(long, value_name = "BASE")]
    compare: String,
    /// How often each build is measured; in fewer than five a difference may well be chance
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
}

/// Whether the benches are to compare.
pub(crate) fn is_asked_for(arguments: &[String]) -> bool {
    arguments
        .iter()
        .any(|argument| argument == "--compare" || argument.starts_with("--compare="))
}

/// Builds both, measures and prints.
pub(crate) fn run(arguments: &[String], toolchain: &Toolchain) -> Result<()> {
    let words = std::iter::once("bench".to_owned()).chain(arguments.iter().cloned());
    let arguments = Arguments::try_parse_from(words).unwrap_or_else(|error| error.exit());
    let base = Base::build(&arguments.compare, toolchain)?;
    object::build_with(toolchain)?;
    // After the other one, whose programs have the same names.
    lab::build_optimised()?;
    let this = workspace::root().join("target/release/bench");
    let mut figures = [Figures::default(), Figures::default()];
    for round in 1..=arguments.rounds {
        println!("compare: round {round} of {}", arguments.rounds);
        let mut turns = [
            (base.program("bench"), base.directory()),
            (this.clone(), workspace::root()),
        ];
        let mut order = [0, 1];
        if round.is_multiple_of(2) {
            turns.reverse();
            order.reverse();
        }
        for ((program, directory), of) in turns.iter().zip(order) {
            for part in [Part::Packets, Part::Agent] {
                if arguments.part.is_empty() || arguments.part.contains(&part) {
                    figures[of].add(&measure(program, directory, part)?)?;
                }
            }
        }
    }
    let [old, new] = &figures;
    println!("\n{}\nbase: {}", table(old, new), base.commit);
    Ok(())
}

/// The records of one round of one part.
fn measure(program: &Path, directory: &Path, part: Part) -> Result<String> {
    let output = workspace::root().join("target/compare/round.json");
    let mut bench = Command::new(program);
    match part {
        Part::Packets => bench.arg("--packets-only"),
        Part::Agent => bench.args(["agent", "--services", "10000", "--endpoints", "2"]),
    };
    bench
        .args(["--rounds", "1", "--output"])
        .arg(&output)
        .current_dir(directory)
        .stdin(Stdio::null());
    command::run_quietly(
        &mut bench,
        "a bench failed; its build may be too old for this comparison",
    )?;
    let text = std::fs::read_to_string(&output).with_context(|| format!("reading {}", output.display()));
    std::fs::remove_file(&output).with_context(|| format!("removing {}", output.display()))?;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benches_compare_where_they_are_asked_to() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(ToOwned::to_owned).collect() };
        assert!(is_asked_for(&words("--rounds 7 --compare HEAD~1")));
        assert!(is_asked_for(&words("--compare=v0.1.0")));
        assert!(!is_asked_for(&words("--rounds 7 --packets-only")));
        let read = |text: &str| Arguments::try_parse_from(words(&format!("bench {text}")));
        let arguments = read("--compare main --part packets,agent").unwrap();
        assert_eq!((arguments.compare.as_str(), arguments.rounds), ("main", 5));
        assert_eq!(arguments.part, [Part::Packets, Part::Agent]);
        assert!(read("--compare main --rounds 0").is_err());
        assert!(read("--compare").is_err());
    }
}
