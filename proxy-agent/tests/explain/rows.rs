//! The rows: which verdict, backends and source a call has.

use serde_json::json;

use crate::cluster::{address, cluster, named};
use crate::explaining::{backend, steps};

const NOT_CLUSTER_IP: &[&str] = &["NodePort", "LoadBalancer", "ExternalIP"];
const ALL: &[&str] = &["ClusterIP", "NodePort", "LoadBalancer", "ExternalIP"];

/// Who calls, whom, at which frontends; verdict, backends and source that must come of it.
type Row = (
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    &'static str,
);

/// Semantics A4, with the difference of docs/features.md: backends of this node see the client under the policy Cluster.
const POLICIES: &[Row] = &[
    (
        &["pod", "host"],
        "cluster",
        &["ClusterIP"],
        "forward",
        &["h1", "r1"],
        "kept",
    ),
    (
        &["pod", "host"],
        "local",
        &["ClusterIP"],
        "forward",
        &["h2"],
        "kept",
    ),
    (
        &["outside"],
        "cluster",
        &["ClusterIP"],
        "forward",
        &["h1", "r1"],
        "masqueraded-to-remote",
    ),
    (&["outside"], "local", &["ClusterIP"], "forward", &["h2"], "kept"),
    (
        &["outside"],
        "cluster",
        NOT_CLUSTER_IP,
        "forward",
        &["h1", "r1"],
        "masqueraded-to-remote",
    ),
    (&["outside"], "local", NOT_CLUSTER_IP, "forward", &["h2"], "kept"),
    (
        &["pod of node-b"],
        "local",
        NOT_CLUSTER_IP,
        "forward",
        &["h2"],
        "kept",
    ),
    (
        &["pod", "host"],
        "local",
        NOT_CLUSTER_IP,
        "forward",
        &["h2", "r2"],
        "kept",
    ),
    (
        &["pod", "host"],
        "cluster",
        NOT_CLUSTER_IP,
        "forward",
        &["h1", "r1"],
        "kept",
    ),
    (&["h6"], "alone", ALL, "forward", &["h6"], "masqueraded"),
    (&["h1"], "cluster", ALL, "forward", &["h1", "r1"], "kept"),
    (&["r3"], "away", &["ClusterIP"], "drop", &[], "kept"),
];

/// Semantics A5.
const WITHOUT: &[Row] = &[
    (&["pod", "host", "outside"], "empty", ALL, "reject", &[], "kept"),
    (&["pod", "host", "outside"], "unready", ALL, "reject", &[], "kept"),
    (
        &["pod", "host", "outside"],
        "away",
        &["ClusterIP"],
        "drop",
        &[],
        "kept",
    ),
    (
        &["outside", "pod of node-b"],
        "away",
        NOT_CLUSTER_IP,
        "drop",
        &[],
        "kept",
    ),
    (
        &["pod", "host"],
        "away",
        NOT_CLUSTER_IP,
        "forward",
        &["r3"],
        "kept",
    ),
];

/// Semantics A3: the fallbacks of the two lists do not know of each other.
const FALLBACKS: &[Row] = &[
    (
        &["outside"],
        "draining",
        NOT_CLUSTER_IP,
        "forward",
        &["h7"],
        "kept",
    ),
    (
        &["pod", "host"],
        "draining",
        NOT_CLUSTER_IP,
        "forward",
        &["r7"],
        "kept",
    ),
    (
        &["pod", "host", "outside"],
        "draining",
        &["ClusterIP"],
        "forward",
        &["h7"],
        "kept",
    ),
    (&["pod", "host"], "last", ALL, "forward", &["h8"], "kept"),
];

fn hold(rows: &[Row]) {
    let manifests = cluster();
    for (callers, name, kinds, verdict, backends, source) in rows {
        for is_v4 in [true, false] {
            for protocol in ["TCP", "UDP"] {
                let mut expected: Vec<String> = backends.iter().map(|short| backend(is_v4, short)).collect();
                expected.sort_unstable();
                for (caller, kind) in callers
                    .iter()
                    .flat_map(|caller| kinds.iter().map(move |kind| (caller, kind)))
                {
                    let from = address(caller, is_v4);
                    let to = named(name).frontend(kind, is_v4, protocol);
                    let answer = manifests.ask(&from, &to);
                    let row = format!("{caller} {from} -> {name} {kind} {to}\n{}", steps(&answer));
                    assert_eq!(answer["verdict"], *verdict, "{row}");
                    assert_eq!(answer["backends"], json!(expected), "{row}");
                    assert_eq!(answer["source"], *source, "{row}");
                    assert_eq!(answer["kind"], *kind, "{row}");
                    assert_eq!(answer["affinity"], false, "{row}");
                }
            }
        }
    }
}

#[test]
fn every_row_of_the_policies_holds() {
    hold(POLICIES);
}

#[test]
fn every_row_without_an_endpoint_holds() {
    hold(WITHOUT);
}

#[test]
fn terminating_endpoints_serve_where_nobody_else_does() {
    hold(FALLBACKS);
}
