//! Running the suite.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Specs;
use super::verdict::{self, Results};
use crate::cluster::{Client, binary};

/// How many specs run at a time; serial ones run alone.
const PROCESSES: &str = "4";
/// What the whole suite may take; what has not run then has failed.
const LIMIT: &str = "100m";

/// Runs the specs against the cluster. The folder gets the suite's log and its report.
pub fn run(client: &Client, nodes: u8, specs: &Specs, folder: &Path) -> Result<Results> {
    ensure!(!specs.names().is_empty(), "no spec is to be run");
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let report = folder.join("report.json");
    if report.exists() {
        std::fs::remove_file(&report).with_context(|| format!("removing {}", report.display()))?;
    }
    let log = folder.join("suite.log");
    let output = File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let mut suite = command(client, nodes, specs, folder)?;
    suite
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("sharing the suite's log")?)
        .stderr(output);
    let mut child = client
        .namespace
        .run(|| suite.spawn().context("starting the suite"))?;
    // Its end tells only whether all passed; the report tells which.
    child.wait().context("waiting for the suite")?;
    let text = std::fs::read_to_string(&report)
        .with_context(|| format!("the suite wrote no report; its log is {}", log.display()))?;
    // What a spec says of a file is the same wherever the folder is.
    let text = text.replace(&format!("{}/", folder.display()), "");
    verdict::read(&text, specs, folder)
}

fn command(client: &Client, nodes: u8, specs: &Specs, folder: &Path) -> Result<Command> {
    let kubeconfig = client.kubeconfig();
    let kubectl = binary("kubectl")?;
    let directory = kubectl.parent().unwrap_or(Path::new("/"));
    let mut suite = Command::new(binary("ginkgo")?);
    suite
        .env("KUBECONFIG", kubeconfig)
        .env("HOME", folder)
        // Some specs call kubectl.
        .env(
            "PATH",
            format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", directory.display()),
        )
        .args(["--no-color", "--json-report=report.json"])
        .args([format!("--procs={PROCESSES}"), format!("--timeout={LIMIT}")])
        .arg(format!("--output-dir={}", folder.display()))
        .arg(format!("--focus={}", specs.expression()))
        .arg(binary("e2e.test")?)
        .arg("--")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--num-nodes={nodes}"))
        .args([
            "--provider=local",
            "--allowed-not-ready-nodes=-1",
            "--minStartupPods=0",
        ]);
    Ok(suite)
}
