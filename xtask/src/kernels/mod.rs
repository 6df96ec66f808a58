//! `cargo xtask test kernels`: every program on every kernel that is served, each in a virtual machine, and what the verifier
//! says of it compared with a table; the packet tests there, and a small lab with real sockets.

mod table;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::test::{self, Count, Layer, Program};
use crate::workspace;
use table::Table;

/// What is served, by the versions that Debian's packages have; the oldest first, whose verifier is the strictest.
const SERVED: [&str; 4] = ["6.1", "6.12", "6.18", "7"];
/// Where the small lab runs with all other tests.
const EVERYDAY: &str = "6.12";
/// What loads programs and is compared with the table.
const LOADS: &str = "tests/kernels_programs";

/// Runs the layer on kernels, on all if none is named; `write` puts what was measured into the table. `programs_only`: without
/// packets and sockets.
pub(crate) fn run(kernels: &[String], write: bool, programs_only: bool) -> Result<()> {
    let chosen = chosen(kernels)?;
    let is_chosen = |program: &Program| match programs_only {
        true => program.name == LOADS,
        false => program.layer == Layer::Kernels || is_of_packets(program),
    };
    let programs: Vec<_> = test::prepare()?.into_iter().filter(is_chosen).collect();
    let programs: Vec<_> = programs.iter().collect();
    let (mut measured, mut failed) = (Table::default(), Vec::new());
    for kernel in &chosen {
        let begin = Instant::now();
        println!("\ntest: {kernel}");
        let counts = test::run_on(kernel, &programs, &mut |line| measured.hear(kernel, line))?;
        for (program, count) in programs.iter().zip(counts) {
            if count.failed > 0 {
                failed.push(format!("{}: {}", *kernel, program.name));
            }
        }
        println!("test: {kernel} took {} s", begin.elapsed().as_secs());
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    settle(&chosen, measured, write)
}

/// Loads every program on the oldest kernel, and runs the small lab on another; what the table does not allow counts as a
/// failure.
pub(crate) fn run_some(programs: &[Program]) -> Result<Count> {
    let oldest = SERVED[0];
    let (loads, others): (Vec<_>, Vec<_>) = programs
        .iter()
        .filter(|program| program.layer == Layer::Kernels)
        .partition(|program| program.name == LOADS);
    let mut measured = Table::default();
    println!("\ntest: Kernels: {oldest}");
    let mut counts = test::run_on(oldest, &loads, &mut |line| measured.hear(oldest, line))?;
    println!("\ntest: Kernels: {EVERYDAY}");
    counts.extend(test::run_on(EVERYDAY, &others, &mut |_| {})?);
    if let Err(error) = settle(&[oldest], measured, false) {
        println!("{error:#}");
        counts.push(Count { passed: 0, failed: 1 });
    }
    Ok(counts.into_iter().sum())
}

/// Whether it hands packets to programs: of its layer, those that need nothing but the object.
fn is_of_packets(program: &Program) -> bool {
    program.layer == Layer::Packet && program.name.starts_with("tests/packet_")
}

fn chosen(kernels: &[String]) -> Result<Vec<&'static str>> {
    if kernels.is_empty() {
        return Ok(SERVED.to_vec());
    }
    let known = |kernel: &String| {
        SERVED
            .into_iter()
            .find(|served| served == kernel)
            .with_context(|| format!("no kernel {kernel} is in the table: it has {}", SERVED.join(", ")))
    };
    kernels.iter().map(known).collect()
}

fn settle(kernels: &[&str], measured: Table, write: bool) -> Result<()> {
    let mut written = read()?;
    if write {
        written.replace(kernels, measured);
        std::fs::write(file(), written.written()?)
            .with_context(|| format!("writing {}", file().display()))?;
        println!("test: {} is written", file().display());
        return Ok(());
    }
    let wrong = written.differences(kernels, &measured);
    ensure!(
        wrong.is_empty(),
        "{}\nMake it smaller; or, if it is meant to be so, write {} anew by `cargo xtask test kernels --write`",
        wrong.join("\n"),
        file().display()
    );
    println!("test: nothing is much larger than {} says", file().display());
    Ok(())
}

fn read() -> Result<Table> {
    let text = std::fs::read_to_string(file()).with_context(|| format!("reading {}", file().display()))?;
    Table::read(&text).with_context(|| format!("reading {}", file().display()))
}

fn file() -> PathBuf {
    workspace::root().join("tests/tests/kernels_programs/verified.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap(), SERVED);
        assert_eq!(chosen(&["7".into(), "6.12".into()]).unwrap(), ["7", "6.12"]);
        let error = chosen(&["5.10".into()]).unwrap_err();
        assert!(error.to_string().contains("6.12, 6.18"), "{error}");
    }

    #[test]
    fn the_table_has_every_kernel_that_is_served() {
        let none = read().unwrap().differences(&SERVED, &Table::default());
        for kernel in SERVED {
            assert!(
                none.iter().any(|line| line.starts_with(&format!("{kernel}: "))),
                "{kernel}"
            );
        }
    }
}
