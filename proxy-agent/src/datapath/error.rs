//! Errors of the effects: each names the call, the object and the way out.

use std::io;
use std::path::Path;

/// Something that the kernel did not do for us.
#[derive(Debug, thiserror::Error)]
#[error("{call} of {object}: {source}{}", way_out(.call, .source))]
pub struct CallError {
    /// The call, in the kernel's own word.
    pub call: &'static str,
    /// What it was about: a map, a pin, an interface.
    pub object: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl CallError {
    /// A call that failed on a file.
    pub(super) fn of_file(call: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            call,
            object: path.display().to_string(),
            source,
        }
    }
}

/// Why the data path could not be started, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An operation of a plan failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// What was found is not what Shunt can work with; the text names it and the way out.
    #[error("{0}")]
    Refused(String),
    /// The verifier or the loader refused a program.
    #[error("program {name} was refused by the kernel: {reason}")]
    Program {
        /// The program.
        name: String,
        /// The error, and the last lines of the verifier's log.
        reason: String,
    },
}

/// Which operation of a plan failed, and why. Operations before it may have been carried out; those that depend on
/// it have not.
#[derive(Debug, thiserror::Error)]
#[error("operation {index} ({operation}): {source}")]
pub struct ApplyError {
    /// Index into the operations given.
    pub index: usize,
    /// The operation, in words.
    pub operation: String,
    /// The reason.
    #[source]
    pub source: Box<DatapathError>,
}

/// Adds call and object to an error of the system.
pub(super) trait Context<T> {
    /// Names the call and what it was about.
    fn call(self, call: &'static str, object: impl Into<String>) -> Result<T, CallError>;
    /// The same for a file.
    fn file(self, call: &'static str, path: &Path) -> Result<T, CallError>;
}

impl<T> Context<T> for io::Result<T> {
    fn call(self, call: &'static str, object: impl Into<String>) -> Result<T, CallError> {
        self.map_err(|source| CallError {
            call,
            object: object.into(),
            source,
        })
    }

    fn file(self, call: &'static str, path: &Path) -> Result<T, CallError> {
        self.map_err(|source| CallError::of_file(call, path, source))
    }
}

fn way_out(call: &str, error: &io::Error) -> &'static str {
    let Some(code) = error.raw_os_error() else {
        return "";
    };
    match (call, code) {
        ("BPF_MAP_CREATE" | "BPF_PROG_LOAD", libc::EPERM) => {
            ": needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (below kernel 5.11 also a raised memlock limit)"
        }
        ("BPF_OBJ_PIN" | "BPF_OBJ_GET", libc::EPERM) => {
            ": needs CAP_BPF and the right to write there; names below a BPF file system hold no dots"
        }
        ("BPF_OBJ_PIN", libc::EINVAL) => {
            ": the place is on no BPF file system; mount one: mount -t bpf bpf /sys/fs/bpf"
        }
        ("BPF_LINK_CREATE" | "BPF_LINK_UPDATE" | "RTM_NEWQDISC" | "RTM_NEWTFILTER", libc::EPERM) => {
            ": needs CAP_NET_ADMIN (and CAP_BPF)"
        }
        ("SOCK_DESTROY", libc::EPERM) => ": needs CAP_NET_ADMIN",
        ("SOCK_DESTROY", libc::EOPNOTSUPP) => ": this kernel is built without CONFIG_INET_DIAG_DESTROY",
        ("BPF_MAP_UPDATE_ELEM" | "BPF_MAP_UPDATE_BATCH", libc::E2BIG | libc::ENOSPC) => {
            ": the map is full; give the maps more memory with --map-memory and restart the agent"
        }
        (_, libc::ENOMEM) => {
            ": out of memory; the maps are charged to the memory limit of the agent's cgroup"
        }
        (_, libc::EPERM | libc::EACCES) => ": the agent lacks a capability; `shunt doctor` says which",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(call: &'static str, code: i32) -> String {
        let failed: io::Result<()> = Err(io::Error::from_raw_os_error(code));
        failed.call(call, "FRONTENDS4").unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_call_object_and_way_out() {
        let full = text("BPF_MAP_UPDATE_ELEM", libc::E2BIG);
        assert!(full.starts_with("BPF_MAP_UPDATE_ELEM of FRONTENDS4: "), "{full}");
        assert!(full.contains("the map is full"), "{full}");
        assert!(text("BPF_MAP_CREATE", libc::EPERM).contains("CAP_BPF"));
        assert!(text("BPF_OBJ_PIN", libc::EINVAL).contains("mount -t bpf"));
        assert!(text("BPF_LINK_CREATE", libc::EPERM).contains("CAP_NET_ADMIN"));
    }
}
