//! Packages of Debian's, of whatever suite, fetched and unpacked without installing them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{command, setup, workspace};

/// Suites, their mirrors, and what they are here for.
pub(super) const SUITES: [(&str, &str); 4] = [
    // 5.10
    ("bullseye-security", "http://deb.debian.org/debian-security"),
    // 6.1
    ("bookworm-security", "http://deb.debian.org/debian-security"),
    // 6.12, and programs
    ("trixie", "http://deb.debian.org/debian"),
    // 6.18 and later
    ("trixie-backports", "http://deb.debian.org/debian"),
];
const WAY_OUT: &str = "Mend what it complains of; it needs Debian's mirror, apt and dpkg-deb.";

/// apt with these suites alone, in a directory of its own.
pub(super) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// With lists of today.
    pub(super) fn updated() -> Result<Self> {
        setup::archive_keys()?;
        let directory = workspace::cache()?.join("apt");
        for part in ["lists/partial", "cache/archives/partial", "parts"] {
            let part = directory.join(part);
            std::fs::create_dir_all(&part).with_context(|| format!("creating {}", part.display()))?;
        }
        let lines = SUITES.map(|(suite, mirror)| {
            format!(
                "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {suite} main\n"
            )
        });
        for (name, text) in [("sources.list", lines.concat()), ("status", String::new())] {
            let file = directory.join(name);
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        let apt = Self { directory };
        setup::say("reading the lists of Debian's packages");
        command::run_quietly(apt.command("apt-get").arg("update"), WAY_OUT)?;
        Ok(apt)
    }

    /// Names of packages that begin so.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let said = command::run_quietly(self.command("apt-cache").args(["pkgnames", prefix]), WAY_OUT)?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// A package and those that it depends on, directly or not, whose names begin so.
    pub(super) fn depends(&self, package: &str, prefix: &str) -> Result<Vec<String>> {
        let mut query = self.command("apt-cache");
        query.args(["depends", "--recurse", "--important", package]);
        let said = command::run_quietly(&mut query, WAY_OUT)?;
        let mut names: Vec<_> = said
            .lines()
            // What a package is named for stands below it, indented; what is in brackets is no package.
            .filter(|line| {
                line.starts_with(prefix) && line.starts_with(|first: char| first.is_ascii_alphanumeric())
            })
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Unpacks packages into a directory.
    pub(super) fn fetch(&self, packages: &[String], to: &Path) -> Result<()> {
        std::fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
        command::run_quietly(
            self.command("apt-get")
                .arg("download")
                .args(packages)
                .current_dir(to),
            WAY_OUT,
        )?;
        let script = "for package in *.deb; do dpkg-deb --extract $package . && rm $package || exit 1; done";
        command::run_quietly(Command::new("sh").args(["-c", script]).current_dir(to), WAY_OUT).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, path) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::Etc::SourceParts", "parts"),
            ("Dir::Etc::PreferencesParts", "parts"),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::Status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg(format!("-o={name}={}", self.directory.join(path).display()));
        }
        command.args([
            "-o=APT::Sandbox::User=root",
            "-o=APT::Architecture=amd64",
            "-o=Acquire::Languages=none",
            "-o=Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            // A suite that is no longer served is not signed anew.
            "-o=Acquire::Check-Valid-Until=false",
        ]);
        command
    }
}
