//! Kubernetes' own suite against Shunt and against kube-proxy: `cargo xtask conformance`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lab::cluster::conformance::{self, Column, Exclusions, Results, Specs, Verdict};
use lab::cluster::{Cluster, Options, Proxy, binaries};

/// As many as the specs on zones ask for.
const NODES: u8 = 3;
/// Whom docs/conformance.md compares.
const COMPARED: [Proxy; 2] = [Proxy::Shunt, Proxy::KubeProxyNftables];

#[derive(Parser)]
#[command(
    name = "conformance",
    bin_name = "cargo xtask conformance",
    about = "Kubernetes' own suite against Shunt and against kube-proxy; writes docs/conformance.md"
)]
struct Arguments {
    /// Only specs whose names hold this text; their verdicts replace those kept from before
    #[arg(long, default_value = "")]
    focus: String,
    /// Only the specs that `cargo xtask test --all` runs
    #[arg(long)]
    subset: bool,
    /// Only with this one; without it, with Shunt and with kube-proxy nftables
    #[arg(long, value_enum)]
    proxy: Vec<Proxy>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let exclusions = Exclusions::all()?;
    let listed = if arguments.subset {
        Specs::subset()?
    } else {
        Specs::all()?
    };
    let specs = listed.focus(&arguments.focus).without(&exclusions);
    ensure!(
        !specs.names().is_empty(),
        "no spec that is run has {:?} in its name: see tests/cluster/conformance",
        arguments.focus
    );
    let proxies = if arguments.proxy.is_empty() {
        &COMPARED[..]
    } else {
        &arguments.proxy
    };
    let before = std::fs::read_to_string(page()).unwrap_or_default();
    let run = Specs::all()?.without(&exclusions);
    let mut columns = COMPARED.map(|proxy| column(&before, proxy, &run));
    for &proxy in proxies {
        let results = with(proxy, &specs)?;
        print(proxy, &specs, &results);
        if let Some(column) = columns.iter_mut().find(|column| column.title == title(proxy)) {
            column.results.extend(results);
            column.date = today()?;
        }
        let text = conformance::write_page(&Specs::all()?, &exclusions, &versions()?, &columns);
        std::fs::write(page(), text).with_context(|| format!("writing {}", page().display()))?;
        println!("conformance: wrote docs/conformance.md");
    }
    compare(&before, &specs, &columns[0])
}

/// What the page has of one of them: a run may be of some specs, and replaces theirs.
fn column(page: &str, proxy: Proxy, run: &Specs) -> Column {
    let mut column = conformance::read_page(page, &title(proxy)).unwrap_or(Column {
        title: title(proxy),
        date: "never".to_owned(),
        results: Results::new(),
    });
    column.results.retain(|name, _| run.names().contains(name));
    column
}

/// Runs the specs in a cluster of their own.
fn with(proxy: Proxy, specs: &Specs) -> Result<Results> {
    println!("conformance: {} specs with {proxy}", specs.names().len());
    let mut cluster = Cluster::start(Options {
        nodes: NODES,
        release: true,
        ..Options::of(proxy)
    })?;
    cluster.control_plane_mut().start_load_balancer(NODES)?;
    let folder = folder().join(proxy.to_string());
    conformance::run(&cluster.control_plane().client(), NODES, specs, &folder)
}

fn print(proxy: Proxy, specs: &Specs, results: &Results) {
    for name in specs.names() {
        if let Some(verdict) = results.get(name) {
            println!("{proxy}: {name}: {verdict}");
        }
    }
    let passed = results
        .values()
        .filter(|verdict| **verdict == Verdict::Passed)
        .count();
    println!("conformance: {proxy}: {passed} of {} passed", results.len());
}

/// A spec that passed before with Shunt and does not now is an error.
fn compare(before: &str, specs: &Specs, shunt: &Column) -> Result<()> {
    let passed = conformance::read_passed(before, &shunt.title);
    let lost: Vec<_> = specs
        .names()
        .iter()
        .filter(|name| passed.contains(*name) && shunt.results.get(*name) != Some(&Verdict::Passed))
        .map(String::as_str)
        .collect();
    ensure!(
        lost.is_empty(),
        "passed before and do not now:\n{}",
        lost.join("\n")
    );
    Ok(())
}

/// Its name in the page.
fn title(proxy: Proxy) -> String {
    match proxy {
        Proxy::Shunt => "Shunt".to_owned(),
        Proxy::KubeProxyNftables => "kube-proxy nftables".to_owned(),
        other => other.to_string(),
    }
}

fn today() -> Result<String> {
    let output = Command::new("date")
        .args(["--utc", "+%F"])
        .output()
        .context("starting date")?;
    let text = String::from_utf8(output.stdout).context("date prints no text")?;
    Ok(text.trim().to_owned())
}

fn versions() -> Result<Vec<String>> {
    let kernel =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("asking for the kernel's release")?;
    Ok(vec![
        format!(
            "Kubernetes {}, {NODES} nodes, IPv4 and IPv6",
            binaries::kubernetes_version()?
        ),
        format!("Linux {}", kernel.trim()),
        format!("Shunt {}", env!("CARGO_PKG_VERSION")),
    ])
}

/// Where logs and reports are.
fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/conformance")).to_owned()
}

fn page() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md"))
}
