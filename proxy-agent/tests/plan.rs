//! `shunt plan` on folders of manifests, by the real binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod explaining;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use explaining::{Manifests, NODE, Service, shunt};
use serde_json::{Value, json};

const READY: &str = "conditions: {ready: true}";

fn web(spec: &'static str, endpoints: &'static [(u8, &'static str, &'static str)]) -> String {
    let service = Service {
        name: "web",
        number: 1,
        spec,
        endpoints,
    };
    service.manifest()
}

fn now() -> Manifests {
    let endpoints = &[(1, "node-a", READY), (1, "node-b", READY)];
    Manifests::new(&[("node.yaml", NODE), ("web.yaml", &web("", endpoints))])
}

fn plan(now: &Manifests, applied: &[&str]) -> Output {
    let folder = now.path().to_str().unwrap();
    let files = applied.iter().flat_map(|file| ["-f", file]);
    let arguments: Vec<&str> = ["plan", "--manifests", folder, "--node", "node-a"]
        .into_iter()
        .chain(files)
        .collect();
    shunt(&arguments)
}

fn told(now: &Manifests, applied: &[&str]) -> Value {
    let folder = now.path().to_str().unwrap();
    let files = applied.iter().flat_map(|file| ["-f", file]);
    let base = ["plan", "--manifests", folder, "--node", "node-a", "-o", "json"];
    let output = shunt(&base.into_iter().chain(files).collect::<Vec<_>>());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn files_and_folders_are_planned_in_both_families() {
    let now = now();
    let three = &[(1, "node-a", READY), (1, "node-b", READY), (2, "node-b", READY)];
    let applied = Manifests::new(&[("web.yaml", &web("externalTrafficPolicy: Local", three))]);
    for path in [applied.path().to_path_buf(), applied.path().join("web.yaml")] {
        let told = told(&now, &[path.to_str().unwrap()]);
        assert_eq!(told["frontends"], json!([]));
        let moved = |of: &str, list: &str| {
            let mut all = told["moved"].as_array().unwrap().iter();
            all.find(|moved| moved["of"] == of && moved["list"] == list)
                .unwrap()["percent"]
                .as_f64()
        };
        for of in [
            "web:web (TCP IPv4)",
            "web:web (TCP IPv6)",
            "web:dns (UDP IPv4)",
            "web:dns (UDP IPv6)",
        ] {
            let of = format!("default/{of}");
            assert_eq!(moved(&of, "internal"), Some(33.3), "{told}");
            assert_eq!(moved(&of, "external"), Some(50.0), "{told}");
        }
        assert!(told["writes"].as_u64().unwrap() > 0);
    }
}

#[test]
fn several_manifests_and_the_standard_input_are_planned() {
    let now = now();
    let other = Service {
        name: "other",
        number: 2,
        spec: "",
        endpoints: &[(2, "node-b", READY)],
    };
    let applied = Manifests::new(&[
        ("other.yaml", &other.manifest()),
        (
            "same.yaml",
            &web("", &[(1, "node-a", READY), (1, "node-b", READY)]),
        ),
    ]);
    let files =
        ["other.yaml", "same.yaml"].map(|file| applied.path().join(file).to_str().unwrap().to_owned());
    let told = told(&now, &[&files[0], &files[1]]);
    let added = told["frontends"].as_array().unwrap().iter();
    assert_eq!(
        added.filter(|change| change["change"] == "added").count(),
        16,
        "{told}"
    );

    let mut child = Command::new(env!("CARGO_BIN_EXE_shunt"))
        .args([
            "plan",
            "--manifests",
            now.path().to_str().unwrap(),
            "--node",
            "node-a",
            "-f",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(other.manifest().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("frontend added    TCP 10.96.0.2:80 (ClusterIP): of default/other:web (TCP IPv4)"),
        "{text}"
    );
    assert!(
        text.contains("backends          default/other:dns (UDP IPv6), internal list: +[fd00:2::2]:8080"),
        "{text}"
    );
}

#[test]
fn what_is_deleted_is_told_by_name_alone() {
    let now = now();
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-ipv4}\n";
    let named = Manifests::new(&[("slice.yaml", slice)]);
    let file = named.path().join("slice.yaml");
    let file = file.to_str().unwrap();
    let folder = now.path().to_str().unwrap();
    let state = ["plan", "--manifests", folder, "--node", "node-a", "--delete"];
    for path in [file, named.path().to_str().unwrap()] {
        let output = shunt(&[&state[..], &["-f", path]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{:?}", output.stderr);
        assert!(
            text.contains("default/web:web (TCP IPv4), internal list: -10.1.0.1:8080 -10.2.0.1:8080"),
            "{text}"
        );
        assert!(!text.contains("IPv6), internal list"), "{text}");
    }
    // The maps have no names of slices, so that the whole of it is asked for.
    let output = shunt(&["plan", "--delete", "-f", file]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for part in [
        "the maps know no EndpointSlice by its name",
        "slice.yaml",
        "addressType",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_planned() {
    let now = now();
    let applied = Manifests::new(&[
        (
            "broken.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: seven}]}\n",
        ),
        (
            "nothing.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
        ),
    ]);
    for (file, parts) in [
        (
            "broken.yaml",
            &["broken.yaml:4:", "spec.ports[0].port", "nothing would be applied"][..],
        ),
        ("nothing.yaml", &["nothing.yaml holds no Service"]),
        ("absent.yaml", &["can't read", "absent.yaml"]),
        ("", &["broken.yaml:4:"]),
    ] {
        let path = applied.path().join(file);
        let output = plan(&now, &[path.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{file}");
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    let output = shunt(&[
        "plan",
        "--manifests",
        "/nowhere",
        "--node",
        "a",
        "-f",
        applied.path().join("nothing.yaml").to_str().unwrap(),
    ]);
    assert!(!output.status.success());
}

#[test]
fn the_example_of_the_docs_is_what_is_printed() {
    let page = include_str!("../../docs/explain.md");
    let block = |number: usize| {
        page.split("```yaml\n")
            .nth(number)
            .unwrap()
            .split("```")
            .next()
            .unwrap()
    };
    let now = Manifests::new(&[("shop.yaml", block(1))]);
    let applied = Manifests::new(&[("policy.yaml", block(2))]);
    let output = plan(&now, &[applied.path().join("policy.yaml").to_str().unwrap()]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, explaining::printed_after(page, "would print"));
}
