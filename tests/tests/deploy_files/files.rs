//! The workflows and the Dockerfile.

use super::tool::{complaint, output, text, with_file};

#[test]
fn actionlint_finds_nothing_to_complain_of() {
    // It finds .github/workflows by itself.
    output("actionlint", &["-no-color", "-shellcheck=", "-pyflakes="]);
}

#[test]
fn actionlint_does_find_what_is_wrong() {
    let bad = text(".github/workflows/kind.yaml").replace("matrix.family", "matrix.families");
    let error = with_file(&bad, |path| {
        complaint("actionlint", &["-no-color", "-shellcheck=", "-pyflakes=", path])
    });
    assert!(error.contains("\"families\" is not defined"), "{error}");
}

#[test]
fn buildkit_finds_nothing_to_complain_of() {
    let stages = output("check", &["dockerfile", "deploy/Dockerfile"]);
    let stages: Vec<_> = stages.lines().collect();
    let rust = text("Cargo.toml");
    let rust = rust
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap();
    let builder = format!("build rust:{}-bookworm", rust.trim_matches('"'));
    assert_eq!(stages, [builder.as_str(), " scratch"]);
}

#[test]
fn buildkit_does_find_what_is_wrong() {
    let good = text("deploy/Dockerfile");
    for (from, to, part) in [
        ("COPY . .", "COPI . .", "COPI"),
        ("AS build", "as build", "FromAsCasing"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        let error = with_file(&bad, |path| complaint("check", &["dockerfile", path]));
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn both_ways_to_an_image_say_the_same_of_it() {
    let dockerfile = text("deploy/Dockerfile");
    for line in [
        "ENTRYPOINT [\"/shunt\"]",
        "USER 0:0",
        "ENV PATH=/",
        "COPY --from=build /shunt /shunt",
    ] {
        assert!(dockerfile.lines().any(|found| found == line), "{line}");
    }
    let version = format!("ARG VERSION={}", env!("CARGO_PKG_VERSION"));
    assert!(dockerfile.contains(&version), "{version}");
}
