//! What people see.

use crate::cluster::cluster;
use crate::explaining::Manifests;

/// A call that all of them ask about.
const CALL: [&str; 6] = [
    "--node",
    "node-a",
    "--from",
    "198.18.0.9",
    "--to",
    "192.0.2.1:30001",
];

#[test]
fn the_answer_for_people_is_the_same_each_time() {
    let manifests = cluster();
    let ask = || manifests.run(&CALL);
    let first = ask();
    assert_eq!(first.stdout, ask().stdout);
    let text = String::from_utf8(first.stdout).unwrap();
    for part in [
        "198.18.0.9 -> 192.0.2.1:30001/TCP",
        "is a NodePort of Service default/cluster:web",
        "externalTrafficPolicy Cluster rules calls from outside",
        "with a free port of 45000-60999",
        "forward, to 10.1.0.1:8080, 10.2.0.1:8080",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn the_example_of_the_docs_is_what_is_printed() {
    let page = include_str!("../../../docs/explain.md");
    let manifests = Manifests::new(&[("shop.yaml", blocks(page, "yaml")[0])]);
    let line = page
        .lines()
        .find(|line| line.contains("--manifests shop "))
        .unwrap();
    let line = line.split('`').nth(1).unwrap();
    let arguments: Vec<&str> = line.split_whitespace().skip(4).collect();
    let output = manifests.run(&arguments);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, crate::explaining::printed_after(page, "prints"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let manifests = cluster();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shunt"));
    command
        .arg("explain")
        .args(CALL)
        .arg("--manifests")
        .arg(manifests.path())
        .stdout(writer);
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// The blocks of this sort in a page.
fn blocks<'a>(page: &'a str, sort: &str) -> Vec<&'a str> {
    let start = format!("```{sort}\n");
    let blocks = page.split(&*start).skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).collect()
}
