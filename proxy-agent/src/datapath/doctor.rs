//! What this kernel, cgroup and BPF file system give; what is missing, and the way out.

use std::path::PathBuf;

use serde::Serialize;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Shunt works, with less than it could.
    Warn,
    /// Shunt does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it went.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when there is nothing to do.
    pub way_out: String,
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct DoctorOptions {
    /// Directory of the instance on a BPF file system.
    pub instance: PathBuf,
    /// Root of the cgroup v2 hierarchy.
    pub cgroup: PathBuf,
}
