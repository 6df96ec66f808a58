//! The programs that read what is shipped, built from the Go module proxy.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use lab::cluster::binary;

use super::yaml::root;

/// Runs one of them in the checkout.
pub(crate) fn run(name: &str, arguments: &[impl AsRef<OsStr>]) -> Output {
    let program = binary(name).unwrap_or_else(|error| panic!("{error:#}"));
    let mut command = Command::new(&program);
    // Of its own, so that what a user of this machine has set up decides nothing.
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, std::env::temp_dir().join("shunt-deploy-helm"));
    }
    command
        .env_remove("KUBECONFIG")
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap()
}

/// What it says; it must succeed.
pub(crate) fn output(name: &str, arguments: &[impl AsRef<OsStr> + Debug]) -> String {
    let output = run(name, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What it complains of; it must fail.
pub(crate) fn complaint(name: &str, arguments: &[impl AsRef<OsStr> + Debug]) -> String {
    let output = run(name, arguments);
    assert!(
        !output.status.success(),
        "{name} {arguments:?} finds nothing wrong"
    );
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Writes a text for a program to read, and gives its path to the body.
pub(crate) fn with_file<T>(text: &str, body: impl FnOnce(&str) -> T) -> T {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("shunt-deploy-{}-{number}.yaml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let result = body(path.to_str().unwrap());
    std::fs::remove_file(&path).unwrap();
    result
}

/// The text of a file of the checkout.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
