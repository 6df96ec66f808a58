//! What the manifests say against what the running maps do.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Answer;

/// Each difference between what the manifests say about a call and what a running node's maps do, in words.
pub fn difference(manifests: &Answer, running: &Answer) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, manifests: String, running: String| {
        if manifests != running {
            differences.push(format!(
                "{what}: {manifests} by the manifests, {running} by the running maps"
            ));
        }
    };
    compare("caller", manifests.caller.to_owned(), running.caller.to_owned());
    compare("verdict", word(&manifests.verdict), word(&running.verdict));
    compare(
        "service",
        optional(&manifests.service),
        optional(&running.service),
    );
    compare(
        "kind",
        optional(&manifests.kind.map(str::to_owned)),
        optional(&running.kind.map(str::to_owned)),
    );
    let seconds = |answer: &Answer| format!("{} s", answer.affinity_seconds);
    compare("affinity", seconds(manifests), seconds(running));
    let set = |answer: &Answer| -> BTreeSet<String> {
        let used = answer.endpoints.iter().filter(|endpoint| endpoint.used);
        used.map(|endpoint| endpoint.endpoint.to_string()).collect()
    };
    let (planned, listed) = (set(manifests), set(running));
    let one = planned
        .difference(&listed)
        .map(|backend| format!("backend {backend}: by the manifests only"));
    let other = listed
        .difference(&planned)
        .map(|backend| format!("backend {backend}: by the running maps only"));
    differences.extend(one.chain(other));
    differences
}

/// As JSON has it, without the quotes.
fn word(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    text.trim_matches('"').to_owned()
}

fn optional(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "none".to_owned())
}
