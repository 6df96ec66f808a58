//! `cargo xtask cluster`: a cluster with kube-proxy stands until it is taken down, and then nothing of it is left.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use nix::sys::prctl::set_child_subreaper;
use serde_json::Value;

/// Runs the cluster's program with a state of its own, and returns whether it succeeded and what it printed.
fn cluster(state: &Path, arguments: &[&str]) -> Result<(bool, String)> {
    let output = Command::new(lab::programs::cluster()?)
        .args(arguments)
        .env("SHUNT_CLUSTER_STATE", state)
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

/// What a machine knows of a cluster with this id.
fn traces(id: &str) -> Result<Vec<String>> {
    let mut traces = Vec::new();
    for directory in [
        "/run/netns",
        "/tmp",
        "/sys/fs/bpf",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/pids",
    ] {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.path().display().to_string());
        traces.extend(names.filter(|name| name.contains(id)));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    traces.extend(
        mounts
            .lines()
            .filter(|line| line.contains(id))
            .map(ToOwned::to_owned),
    );
    for process in std::fs::read_dir("/proc")?.flatten() {
        let groups = std::fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        if groups.contains(id) {
            traces.push(process.path().display().to_string());
        }
    }
    Ok(traces)
}

#[test]
fn a_cluster_stands_until_it_is_taken_down_and_leaves_nothing() {
    // Processes without a parent become this one's children, which does not look at their ends: as on a machine whose
    // first process takes its time, what the cluster leaves to others stays to be seen.
    set_child_subreaper(true).unwrap();
    let state = std::env::temp_dir().join(format!("shunt-standing-{}.json", std::process::id()));
    let (up, said) = cluster(&state, &["up", "--proxy", "kube-proxy-nftables"]).unwrap();
    assert!(up, "{said}");
    let described: Value = serde_json::from_str(&std::fs::read_to_string(&state).unwrap()).unwrap();
    let id = described["id"].as_str().unwrap();
    assert!(traces(id).unwrap().len() > 10, "{:?}", traces(id).unwrap());
    let (again, said_again) = cluster(&state, &["up"]).unwrap();
    let (kubectl, nodes) = cluster(&state, &["kubectl", "get", "nodes", "--output=name"]).unwrap();
    let version = [
        "exec",
        "n1",
        "--",
        "curl",
        "--silent",
        "--insecure",
        "https://10.96.0.1/version",
    ];
    let (called, answer) = cluster(&state, &version).unwrap();
    let (down, said) = cluster(&state, &["down"]).unwrap();
    assert!(down, "{said}");
    assert_eq!(traces(id).unwrap(), Vec::<String>::new());
    assert!(!state.exists());
    assert!(!again && said_again.contains("stands already"), "{said_again}");
    assert!(kubectl && nodes == "node/n1\nnode/n2\n", "{nodes}");
    assert!(called && answer.contains("gitVersion"), "{answer}");
}
