//! Kubernetes' own suite against Shunt and against kube-proxy: `cargo xtask conformance`.

mod keep;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use keep::Kept;
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
    for &proxy in proxies {
        let results = with(proxy, &specs)?;
        print(proxy, &specs, &results);
        Kept::merge(proxy, results)?;
    }
    write_page(&exclusions)?;
    compare(&before, &specs)
}

/// Runs the specs in a cluster of their own.
fn with(proxy: Proxy, specs: &Specs) -> Result<Results> {
    println!("conformance: {} specs with {proxy}", specs.names().len());
    let cluster = Cluster::start(Options { proxy, nodes: NODES })?;
    let folder = keep::folder().join(proxy.to_string());
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

/// Writes the page if every spec has a verdict from everyone compared.
fn write_page(exclusions: &Exclusions) -> Result<()> {
    let all = Specs::all()?;
    let run = all.without(exclusions);
    let mut columns = Vec::new();
    for proxy in COMPARED {
        let Some(kept) = Kept::read(proxy)? else {
            return Ok(());
        };
        if run.names().iter().any(|name| !kept.results.contains_key(name)) {
            return Ok(());
        }
        columns.push(kept.column(proxy));
    }
    let text = conformance::write_page(&all, exclusions, &versions()?, &columns);
    std::fs::write(page(), text).with_context(|| format!("writing {}", page().display()))?;
    println!("conformance: wrote docs/conformance.md");
    Ok(())
}

/// A spec that passed before with Shunt and does not now is an error.
fn compare(before: &str, specs: &Specs) -> Result<()> {
    let Some(kept) = Kept::read(Proxy::Shunt)? else {
        return Ok(());
    };
    let passed = conformance::read_passed(before, &keep::title(Proxy::Shunt));
    let lost: Vec<_> = specs
        .names()
        .iter()
        .filter(|name| passed.contains(*name) && kept.results.get(*name) != Some(&Verdict::Passed))
        .map(String::as_str)
        .collect();
    ensure!(
        lost.is_empty(),
        "passed before and do not now:\n{}",
        lost.join("\n")
    );
    Ok(())
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

fn page() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md"))
}

impl Kept {
    fn column(self, proxy: Proxy) -> Column {
        Column {
            title: keep::title(proxy),
            date: self.date,
            results: self.results,
        }
    }
}
