//! `cargo xtask test`: every layer of tests, from quick to real, and how many ran in each.

use std::io::{BufRead, BufReader, Write};
use std::iter::Sum;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::Value;

use crate::turns::Turns;
use crate::{cluster, command, image, kernels, lab, lint, object, setup, turns, vm, workspace};

/// Where property tests get their seed from.
const SEED: &str = "PROPTEST_RNG_SEED";
/// The kernel of [`Layer::Vm`].
const KERNEL: &str = "6.12";

/// A group of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layer {
    /// The pure rules of the data path, on the host
    Rules,
    /// The agent's stages
    Agent,
    /// The tasks themselves, and the BPF object's build
    Build,
    /// Packets through the BPF programs, by the kernel's test run
    Packet,
    /// Nodes, pods and clients in network namespaces, with real sockets
    Lab,
    /// The agent's source against a real API server, whose program is built like the cluster's. Runs with `--all` or by
    /// name
    Api,
    /// On another kernel, in a virtual machine: what this machine's may lack. Runs with `--all` or by name
    Vm,
    /// Every program on the oldest kernel that is served, and real sockets on another, in virtual machines; `cargo xtask test
    /// kernels` has all on all, and packets. Runs with `--all` or by name
    Kernels,
    /// A real Kubernetes; its programs are built from the Go module proxy, once. Runs with `--all` or by name
    Cluster,
    /// The image, the manifests and all else that is shipped; builds the optimised binary. Runs with `--all` or by name
    Deploy,
}

/// One test program, built.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    pub(crate) layer: Layer,
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) directory: PathBuf,
}

/// How many tests there were.
#[derive(Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| Self {
            passed: sum.passed + count.passed,
            failed: sum.failed + count.failed,
        })
    }
}

/// Sets up, lints, builds, and runs the layers; an error if anything failed.
pub(crate) fn run(all: bool, only: &[Layer]) -> Result<()> {
    let toolchain = setup::run()?;
    object::build_with(&toolchain)?;
    if only.is_empty() {
        lint::run_with(&toolchain)?;
    }
    lab::build_programs()?;
    let programs = build()?;
    let layers = chosen(all, only);
    if layers.contains(&Layer::Lab) || layers.contains(&Layer::Cluster) {
        lab::build_next(&toolchain)?;
    }
    if layers.contains(&Layer::Deploy) {
        image::build(&image::Options::default())?;
    }
    let mut counts = Vec::new();
    for layer in layers {
        if matches!(layer, Layer::Api | Layer::Cluster) {
            // With progress shown, and not as a part of some test.
            cluster::build()?;
        }
        counts.push((layer, run_layer(layer, &programs)?));
    }
    summary(&counts)
}

/// Sets up, builds, and gives the test programs.
pub(crate) fn prepare() -> Result<Vec<Program>> {
    let toolchain = setup::run()?;
    object::build_with(&toolchain)?;
    lab::build_programs()?;
    build()
}

fn chosen(all: bool, only: &[Layer]) -> Vec<Layer> {
    let wanted = |layer: &Layer| match only {
        [] => {
            all || !matches!(
                layer,
                Layer::Vm | Layer::Kernels | Layer::Api | Layer::Cluster | Layer::Deploy
            )
        }
        only => only.contains(layer),
    };
    Layer::value_variants().iter().copied().filter(wanted).collect()
}

fn run_layer(layer: Layer, programs: &[Program]) -> Result<Count> {
    if layer == Layer::Kernels {
        return kernels::run_some(programs);
    }
    let mut sum = Count::default();
    for program in programs.iter().filter(|program| program.layer == layer) {
        println!("\ntest: {layer:?}: {}", program.name);
        let count = run_program(program)?;
        sum = [sum, count].into_iter().sum();
    }
    Ok(sum)
}

/// Runs one test program and counts by what it prints; one that ends badly without a failed test counts as one failure.
fn run_program(program: &Program) -> Result<Count> {
    if program.layer == Layer::Vm {
        return Ok(run_on(KERNEL, &[program], &mut |_| {})?.into_iter().sum());
    }
    let mut command = Command::new(&program.file);
    if std::env::var_os(SEED).is_none() {
        // What passes for one commit passes again for it. `cargo test` draws anew each time.
        command.env(SEED, "1");
    }
    let mut child = command
        .current_dir(&program.directory)
        .env("CARGO_MANIFEST_DIR", &program.directory)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", program.file.display()))?;
    let stdout = child.stdout.take().context("the test program has no output")?;
    let mut count = Count::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.with_context(|| format!("reading the output of {}", program.name))?;
        writeln!(std::io::stdout(), "{line}").context("writing to the terminal")?;
        if let Some(result) = result(&line) {
            count.passed += result.passed;
            count.failed += result.failed;
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for {}", program.name))?;
    if !status.success() && count.failed == 0 {
        println!("test: {} ended with {status}", program.name);
        count.failed = 1;
    }
    Ok(count)
}

/// The same in a virtual machine, for programs one after another, in each of which one test runs after another. All that they
/// print is `heard`.
pub(crate) fn run_on(kernel: &str, programs: &[&Program], heard: &mut dyn FnMut(&str)) -> Result<Vec<Count>> {
    let mut turns = Turns::of(programs);
    let code = vm::start(kernel, &turns::command(programs), &mut |line| {
        heard(line);
        turns.hear(line);
        writeln!(std::io::stdout(), "{line}").context("writing to the terminal")
    })?;
    ensure!(
        code == 0,
        "the shell that runs the programs ended with {code} on {kernel}"
    );
    Ok(turns.counts())
}

/// Reads `test result: ok. 3 passed; 1 failed; ...`.
pub(crate) fn result(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let before = rest.split(word).next()?.trim_end();
        before.rsplit(' ').next()?.parse().ok()
    };
    Some(Count {
        passed: number(" passed;")?,
        failed: number(" failed;")?,
    })
}

fn summary(counts: &[(Layer, Count)]) -> Result<()> {
    println!();
    for (layer, count) in counts {
        println!(
            "test: layer {:8} {:5} passed, {} failed",
            format!("{layer:?}").to_lowercase(),
            count.passed,
            count.failed
        );
    }
    let empty: Vec<_> = counts
        .iter()
        .filter(|(_, count)| count.passed + count.failed == 0)
        .collect();
    ensure!(
        empty.is_empty(),
        "no test ran in {:?}",
        empty.iter().map(|(layer, _)| layer).collect::<Vec<_>>()
    );
    let passed: u32 = counts.iter().map(|(_, count)| count.passed).sum();
    let failed: u32 = counts.iter().map(|(_, count)| count.failed).sum();
    println!("{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("{failed} tests failed");
    }
    Ok(())
}

/// Builds all test programs at once, so that every layer shares its dependencies.
fn build() -> Result<Vec<Program>> {
    let mut cargo = command::host_cargo();
    cargo.args([
        "test",
        "--locked",
        "--workspace",
        "--exclude",
        "proxy-ebpf",
        "--no-run",
    ]);
    cargo
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit());
    let output = cargo.output().context("starting cargo test --no-run")?;
    ensure!(output.status.success(), "the tests do not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut programs = messages.lines().map(program).collect::<Result<Vec<_>>>()?;
    programs.sort_by_key(|program| program.as_ref().map(|program| program.name.clone()));
    Ok(programs.into_iter().flatten().collect())
}

/// The test program that one of cargo's messages tells of.
fn program(message: &str) -> Result<Option<Program>> {
    let message: Value = serde_json::from_str(message).context("reading cargo's messages")?;
    let Some(file) = message["executable"]
        .as_str()
        .filter(|_| message["profile"]["test"] == true)
    else {
        return Ok(None);
    };
    let manifest = PathBuf::from(
        message["manifest_path"]
            .as_str()
            .context("cargo names no manifest")?,
    );
    let directory = manifest.parent().unwrap_or(workspace::root()).to_owned();
    let package = directory
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let target = message["target"]["name"]
        .as_str()
        .context("cargo names no target")?;
    let layer = layer(&package, target).with_context(|| format!("{package}/{target} belongs to no layer"))?;
    Ok(Some(Program {
        layer,
        name: format!("{package}/{target}"),
        file: file.into(),
        directory,
    }))
}

fn layer(package: &str, target: &str) -> Option<Layer> {
    match package {
        "proxy-common" => Some(Layer::Rules),
        "proxy-agent" => Some(Layer::Agent),
        "xtask" => Some(Layer::Build),
        "tests" if target.starts_with("packet") || matches!(target, "scenarios" | "oracle") => {
            Some(Layer::Packet)
        }
        "tests" if target.starts_with("deploy") => Some(Layer::Deploy),
        "tests" if target.starts_with("vm") => Some(Layer::Vm),
        "tests" if target.starts_with("kernels") => Some(Layer::Kernels),
        "tests" if target == "api" => Some(Layer::Api),
        "tests" if target.starts_with("cluster") => Some(Layer::Cluster),
        "tests" => Some(Layer::Lab),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let count = result("test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out")
            .unwrap();
        assert_eq!((count.passed, count.failed), (12, 3));
        assert!(result("test packet::udp ... ok").is_none());
    }

    #[test]
    fn a_test_program_is_found_in_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"name":"packet_tc"},
            "profile":{"test":true},"executable":"/w/target/debug/deps/packet_tc-1"}"#;
        let found = program(message).unwrap().unwrap();
        assert_eq!(
            (found.layer, found.name.as_str()),
            (Layer::Packet, "tests/packet_tc")
        );
        let library = r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"name":"lab"},
            "profile":{"test":false},"executable":null}"#;
        assert_eq!(program(library).unwrap(), None);
    }

    #[test]
    fn what_takes_long_runs_with_all_or_by_name() {
        assert!(!chosen(false, &[]).contains(&Layer::Cluster));
        assert!(!chosen(false, &[]).contains(&Layer::Deploy));
        assert!(!chosen(false, &[]).contains(&Layer::Kernels));
        assert_eq!(chosen(true, &[]), Layer::value_variants());
        assert_eq!(chosen(false, &[Layer::Cluster]), [Layer::Cluster]);
    }

    #[test]
    fn a_layer_without_a_test_is_an_error() {
        let error = summary(&[(Layer::Lab, Count::default())]).unwrap_err();
        assert!(error.to_string().contains("no test ran in [Lab]"), "{error}");
    }

    #[test]
    fn a_failed_test_is_an_error() {
        assert!(summary(&[(Layer::Lab, Count { passed: 3, failed: 1 })]).is_err());
        assert!(summary(&[(Layer::Lab, Count { passed: 3, failed: 0 })]).is_ok());
    }
}
