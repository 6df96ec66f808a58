//! Go, which the real Kubernetes is built with.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::say;
use crate::workspace;

/// The first release that fetches another one by itself.
const LEAST: (u32, u32) = (1, 21);
const WAY_OUT: &str = "Install Go 1.21 or newer as /usr/local/go or on PATH (https://go.dev/dl, or a package golang-go of \
    such a version); the release that tests/cluster/*/go.mod name it fetches by itself.";

/// Says which Go there is, or what to do.
pub(super) fn ensure() -> Result<()> {
    let go = find()
        .with_context(|| format!("there is no Go, which the real Kubernetes is built with.\n{WAY_OUT}"))?;
    let output = Command::new(&go)
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .output()
        .with_context(|| format!("starting {}", go.display()))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match release(&version) {
        Some(release) if release >= LEAST => say(&format!("Go is {} ({version})", go.display())),
        _ => bail!("{} is {version:?}, which is too old.\n{WAY_OUT}", go.display()),
    }
    Ok(())
}

fn find() -> Option<PathBuf> {
    workspace::find_program("go").or_else(|| {
        let usual = PathBuf::from("/usr/local/go/bin/go");
        usual.is_file().then_some(usual)
    })
}

/// `go1.26.8` as (1, 26).
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix("go")?.split(['.', 'r', 'b']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(release("go1.26.8"), Some((1, 26)));
        assert_eq!(release("go1.27rc1"), Some((1, 27)));
        assert!(release("go1.9").unwrap() < LEAST);
        assert_eq!(release("devel"), None);
    }
}
