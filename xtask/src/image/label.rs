//! The image's labels: what it is, and the commit that it was made from.

use std::collections::BTreeMap;
use std::process::Command;

use crate::workspace;

/// What says where an image comes from.
pub(super) struct Labels {
    /// RFC 3339, of the commit: the same commit makes the same image.
    pub(super) created: String,
    /// By their names in the OCI image specification.
    pub(super) labels: BTreeMap<&'static str, String>,
}

/// The labels of this checkout.
pub(super) fn of_checkout() -> Labels {
    let created = git(&[
        "show",
        "-s",
        "--date=format-local:%Y-%m-%dT%H:%M:%SZ",
        "--format=%cd",
    ]);
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some();
    let revision =
        git(&["rev-parse", "HEAD"]).map(|commit| if changed { commit + "-changed" } else { commit });
    labels(created, revision)
}

fn labels(created: Option<String>, revision: Option<String>) -> Labels {
    let created = created.unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned());
    let mut labels = BTreeMap::from([
        ("org.opencontainers.image.title", "shunt".to_owned()),
        (
            "org.opencontainers.image.description",
            "A kube-proxy replacement on eBPF".to_owned(),
        ),
        (
            "org.opencontainers.image.source",
            env!("CARGO_PKG_REPOSITORY").to_owned(),
        ),
        (
            "org.opencontainers.image.licenses",
            env!("CARGO_PKG_LICENSE").to_owned(),
        ),
        (
            "org.opencontainers.image.version",
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        ("org.opencontainers.image.created", created.clone()),
    ]);
    if let Some(revision) = revision {
        labels.insert("org.opencontainers.image.revision", revision);
    }
    Labels { created, labels }
}

/// What git says; nothing outside a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    let output = git
        .args(arguments)
        .env("TZ", "UTC")
        .current_dir(workspace::root())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_git_makes_an_image_too() {
        let labels = labels(None, None);
        assert_eq!(labels.created, "1970-01-01T00:00:00Z");
        assert!(!labels.labels.contains_key("org.opencontainers.image.revision"));
    }

    #[test]
    fn the_commit_is_named() {
        let labels = labels(Some("2026-01-02T03:04:05Z".into()), Some("abc".into()));
        assert_eq!(labels.labels["org.opencontainers.image.revision"], "abc");
        assert_eq!(
            labels.labels["org.opencontainers.image.created"],
            "2026-01-02T03:04:05Z"
        );
    }
}
