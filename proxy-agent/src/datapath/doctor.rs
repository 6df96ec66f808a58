//! What this kernel, cgroup and BPF file system give; what is missing, and the way out.

use std::path::PathBuf;

use serde::Serialize;

use super::error::DatapathError;
use super::{doctor_instance, doctor_kernel};

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

/// Looks at everything, changes nothing; in the calling thread's network namespace.
pub fn run(options: &DoctorOptions) -> Vec<Check> {
    let mut checks = doctor_kernel::checks();
    checks.extend(doctor_instance::checks(options));
    checks
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            way_out: String::new(),
        }
    }

    pub(super) fn warn(name: &'static str, found: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self {
            state: State::Warn,
            way_out: way_out.into(),
            ..Self::ok(name, found)
        }
    }

    pub(super) fn fail(name: &'static str, found: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self {
            state: State::Fail,
            ..Self::warn(name, found, way_out)
        }
    }

    /// A check that could not be made; the error has its own way out.
    pub(super) fn error(name: &'static str, error: &DatapathError) -> Self {
        Self::fail(name, error.to_string(), "")
    }
}
