//! Verdicts of earlier runs, in target/conformance: the page needs all, and a run may be of some.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use lab::cluster::Proxy;
use lab::cluster::conformance::Results;
use serde::{Deserialize, Serialize};

/// What came of the specs with one of them, each as it was last run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The day of the last run.
    pub(crate) date: String,
    /// All verdicts.
    pub(crate) results: Results,
}

impl Kept {
    /// What was kept.
    pub(crate) fn read(proxy: Proxy) -> Result<Option<Self>> {
        let file = file(proxy);
        match std::fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("reading {}", file.display()))
                .map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }

    /// Keeps new verdicts beside those of other specs.
    pub(crate) fn merge(proxy: Proxy, results: Results) -> Result<()> {
        let mut kept = Self::read(proxy)?.unwrap_or_default();
        kept.results.extend(results);
        kept.date = today()?;
        let file = file(proxy);
        let text = serde_json::to_string_pretty(&kept).context("writing verdicts")?;
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
    }
}

/// Its name in the page.
pub(crate) fn title(proxy: Proxy) -> String {
    match proxy {
        Proxy::Shunt => "Shunt".to_owned(),
        Proxy::KubeProxyNftables => "kube-proxy nftables".to_owned(),
        other => other.to_string(),
    }
}

/// Where verdicts, logs and reports are.
pub(crate) fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/conformance")).to_owned()
}

fn file(proxy: Proxy) -> PathBuf {
    folder().join(format!("{proxy}.json"))
}

fn today() -> Result<String> {
    let output = Command::new("date")
        .args(["--utc", "+%F"])
        .output()
        .context("starting date")?;
    String::from_utf8(output.stdout)
        .context("date prints no text")
        .map(|text| text.trim().to_owned())
}
