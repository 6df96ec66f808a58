//! What came of each spec.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Specs;

/// What came of one spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed, was broken off, or has no verdict; with what it said.
    Failed(String),
    /// It found that it can't run here; with its reason.
    Skipped(String),
}

/// Verdicts by name.
pub type Results = BTreeMap<String, Verdict>;

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => formatter.write_str("passed"),
            Self::Failed(why) => write!(formatter, "failed: {why}"),
            Self::Skipped(why) => write!(formatter, "skipped: {why}"),
        }
    }
}

impl Verdict {
    /// The inverse of its text.
    pub(super) fn read(text: &str) -> Option<Self> {
        if text == "passed" {
            return Some(Self::Passed);
        }
        let (kind, why) = text.split_once(": ")?;
        match kind {
            "failed" => Some(Self::Failed(why.to_owned())),
            "skipped" => Some(Self::Skipped(why.to_owned())),
            _ => None,
        }
    }
}

/// Reads Ginkgo's report. A spec without a verdict has failed. What a spec says of files is told without the folder that it ran in.
pub(super) fn read(report: &str, specs: &Specs, folder: &Path) -> Result<Results> {
    let report = report.replace(&format!("{}/", folder.display()), "");
    let report: Value = serde_json::from_str(&report).context("reading the suite's report")?;
    let suites = report.as_array().context("the suite's report lists no suites")?;
    let mut found = BTreeMap::new();
    for spec in suites
        .iter()
        .flat_map(|suite| suite["SpecReports"].as_array())
        .flatten()
    {
        found.insert(name(spec), spec);
    }
    let verdicts = specs.names().iter().map(|name| {
        let verdict = found.get(name).map_or_else(
            || Verdict::Failed("the suite has no such spec".to_owned()),
            |spec| verdict(spec),
        );
        (name.clone(), verdict)
    });
    Ok(verdicts.collect())
}

fn name(spec: &Value) -> String {
    let containers = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let parts = containers.chain(std::iter::once(&spec["LeafNodeText"]));
    let parts: Vec<_> = parts.filter_map(Value::as_str).collect();
    parts.join(" ").trim().to_owned()
}

fn verdict(spec: &Value) -> Verdict {
    let said = spec["Failure"]["Message"].as_str().unwrap_or_default();
    let said = said.lines().map(str::trim).find(|line| !line.is_empty());
    match spec["State"].as_str() {
        Some("passed") => Verdict::Passed,
        // A spec that skipped itself says why; one that was left out has run nowhere.
        Some("skipped") if said.is_some() => Verdict::Skipped(said.unwrap_or_default().to_owned()),
        state => {
            let state = state.unwrap_or("no verdict");
            let said = said.map(|said| format!(": {said}")).unwrap_or_default();
            Verdict::Failed(if state == "failed" {
                said.trim_start_matches(": ").to_owned()
            } else {
                format!("{state}{said}")
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_spec_without_a_verdict_has_failed() {
        let spec = |leaf: &str, state: &str, message: &str| {
            json!({"ContainerHierarchyTexts": ["[sig] A"], "LeafNodeText": leaf, "State": state,
                "Failure": {"Message": message}})
        };
        let report = json!([{"SpecReports": [
            spec("passes", "passed", ""),
            spec("fails", "failed", "\n  it did not answer\n more"),
            spec("skips itself", "skipped", "no key /here/.ssh/id_rsa"),
            spec("was left out", "skipped", ""),
            spec("took long", "timedout", "waiting"),
        ]}]);
        let names = [
            "passes",
            "fails",
            "skips itself",
            "was left out",
            "took long",
            "is nowhere",
        ];
        let text: String = names.map(|name| format!("[sig] A {name}\n")).concat();
        let specs = Specs::read(&text).unwrap();
        let results = read(&report.to_string(), &specs, Path::new("/here")).unwrap();
        let of = |name: &str| results[&format!("[sig] A {name}")].to_string();
        assert_eq!(of("passes"), "passed");
        assert_eq!(of("fails"), "failed: it did not answer");
        assert_eq!(of("skips itself"), "skipped: no key .ssh/id_rsa");
        assert_eq!(of("was left out"), "failed: skipped");
        assert_eq!(of("took long"), "failed: timedout: waiting");
        assert_eq!(of("is nowhere"), "failed: the suite has no such spec");
    }
}
