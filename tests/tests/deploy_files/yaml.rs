//! Manifests as values.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Top level of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A file of deploy/.
pub(crate) fn deploy(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

/// The documents of a YAML text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

/// All objects of a folder, in the order of its kustomization.
pub(crate) fn objects(folder: &str) -> Vec<Value> {
    let read = |file: &str| {
        let path = deploy(folder).join(file);
        documents(
            &std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        )
    };
    let files = read("kustomization.yaml")[0]["resources"]
        .as_array()
        .unwrap()
        .clone();
    files
        .iter()
        .flat_map(|file| read(file.as_str().unwrap()))
        .collect()
}

/// The only object of a kind.
pub(crate) fn object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    object
}

/// A list of texts.
pub(crate) fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect()
}
