//! What the nodes say that they dropped is what had to be dropped.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::runner::Rows;

/// Reasons that the rows before gave: Services without endpoints, called by connected UDP sockets of the host too, and
/// Local policies on a node without an endpoint; and sources outside a Service's ranges.
const EXPECTED: [&str; 4] = [
    "no_endpoint",
    "no_local_endpoint",
    "host_untranslated",
    "source_not_allowed",
];

/// Comes after calls that must succeed, be refused or be dropped, and before changes.
pub(crate) fn rows(cluster: &Cluster, rows: &mut Rows) {
    for node in [1, 2] {
        rows.row(format!("n{node} drops only what it must"), || {
            only_expected(cluster, node)
        });
    }
}

fn only_expected(cluster: &Cluster, node: u8) -> Result<()> {
    let counters = cluster.lab.agent(node).ask("drops")?;
    let counters = counters
        .as_array()
        .context("shunt drops -o json prints no list")?;
    let others = counters.iter().filter(|counter| {
        let is_expected = EXPECTED.iter().any(|name| counter["name"] == *name);
        counter["drop"] == true && counter["value"] != 0 && !is_expected
    });
    let others: Vec<_> = others
        .map(|counter| format!("{} {}", counter["name"], counter["value"]))
        .collect();
    ensure!(others.is_empty(), "{}", others.join(", "));
    let created = counters
        .iter()
        .find(|counter| counter["name"] == "flow_created")
        .map(|counter| &counter["value"]);
    ensure!(
        created.and_then(Value::as_u64) > Some(0),
        "no flow was ever made: {created:?}"
    );
    Ok(())
}
