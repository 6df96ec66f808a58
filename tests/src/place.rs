//! A place where programs run: a network namespace together with a cgroup.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Output};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::Namespace;
use crate::cgroup::Cgroup;

/// A node, a pod, or the client outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub(crate) name: String,
    pub(crate) namespace: Namespace,
    pub(crate) cgroup: Cgroup,
}

impl Place {
    /// Its name in the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The directory of its cgroup.
    pub fn cgroup(&self) -> &Path {
        self.cgroup.path()
    }

    /// A command that will be in this place's cgroup from its first system call on; start it with [`Self::spawn`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo 0 > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(self.cgroup.path())
            .arg(program);
        command
    }

    /// Starts a command in the namespace.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let what = format!("starting {command:?} in {}", self.name);
        self.namespace.run(|| command.spawn().context(what))
    }

    /// Runs a program to its end.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(program);
        command.args(arguments);
        let what = format!("running {program} in {}", self.name);
        self.namespace.run(|| command.output().context(what))
    }
}
