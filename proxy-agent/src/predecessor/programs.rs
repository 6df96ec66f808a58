//! The programs that know how rules are stored.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where programs are looked for besides PATH, which may leave these out.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// A program can't be run, or refuses.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It can't be run.
    #[error("{program} can't be run: {error}")]
    Run {
        /// Which one.
        program: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It said no.
    #[error("{program} {arguments} failed: {message}")]
    Refused {
        /// Which one.
        program: String,
        /// Asked for what.
        arguments: String,
        /// What it said.
        message: String,
    },
    /// The kernel keeps what is to go.
    #[error("deleting {what}: {error}")]
    Kernel {
        /// What.
        what: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The host's root can't be entered.
    #[error("--host-root {}: {error}", root.display())]
    Root {
        /// The folder.
        root: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// One variant of iptables for one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Programs {
    prefix: &'static str,
    variant: &'static str,
    /// Names of the tables that the older variant has; it makes them when it is asked, which must not be.
    tables: Option<&'static str>,
}

impl Programs {
    pub(super) const ALL: [Self; 4] = [
        Self::new("iptables", "legacy", Some("/proc/net/ip_tables_names")),
        Self::new("ip6tables", "legacy", Some("/proc/net/ip6_tables_names")),
        Self::new("iptables", "nft", None),
        Self::new("ip6tables", "nft", None),
    ];

    const fn new(prefix: &'static str, variant: &'static str, tables: Option<&'static str>) -> Self {
        Self {
            prefix,
            variant,
            tables,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.prefix, self.variant)
    }

    pub(super) fn save(&self) -> String {
        self.name() + "-save"
    }

    pub(super) fn restore(&self) -> String {
        self.name() + "-restore"
    }

    pub(super) fn may_have_rules(&self) -> bool {
        self.tables
            .is_none_or(|tables| std::fs::read_to_string(tables).is_ok_and(|names| !names.trim().is_empty()))
    }
}

pub(super) fn change_root(root: &Path) -> Result<(), ProgramError> {
    let changed = nix::unistd::chroot(root).and_then(|()| nix::unistd::chdir("/"));
    changed.map_err(|error| ProgramError::Root {
        root: root.to_owned(),
        error: error.into(),
    })
}

/// Where a program is.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Runs a program; what it printed.
pub(super) fn run(program: &Path, arguments: &[&str]) -> Result<String, ProgramError> {
    run_with(program, arguments, "")
}

/// Runs a program with this as its input; what it printed.
pub(super) fn run_with(program: &Path, arguments: &[&str], input: &str) -> Result<String, ProgramError> {
    let failed = |error| ProgramError::Run {
        program: program.display().to_string(),
        error,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read all of it says why itself.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(ProgramError::Refused {
        program: program.display().to_string(),
        arguments: arguments.join(" "),
        // One that crashed says nothing.
        message: format!(
            "{}, {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    })
}
