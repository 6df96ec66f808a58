//! Programs of Debian's that a machine has and the one that packs it need not have: in a tree of their own with all that they
//! need, so that whose C library is the newer does not matter.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::debian;
use crate::setup::say;
use crate::{command, workspace};

/// Where the tree is in the machine.
pub(super) const PLACE: &str = "/opt/debian";
/// The server program of ksmbd.
const PACKAGE: &str = "ksmbd-tools";
/// What is kept of it and of what it depends on.
const KEPT: [&str; 3] = ["usr/sbin", "usr/libexec", "usr/lib/x86_64-linux-gnu"];

/// The tree, from the cache if it is there. Links are files in it.
pub(super) fn ensure() -> Result<PathBuf> {
    let directory = workspace::cache()?.join(format!("vm-programs-{PACKAGE}"));
    if directory.is_dir() {
        return Ok(directory);
    }
    let apt = debian::Apt::updated()?;
    say(&format!("fetching {PACKAGE} for virtual machines"));
    let work = directory.with_extension(format!("work-{}", std::process::id()));
    let result = apt
        .fetch(&apt.depends(PACKAGE, "")?, &work.join("all"))
        .and_then(|()| keep(&work))
        // At once and whole.
        .and_then(|()| {
            std::fs::rename(work.join("kept"), &directory)
                .with_context(|| format!("naming {}", directory.display()))
        });
    std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    result.map(|()| directory)
}

fn keep(work: &Path) -> Result<()> {
    let script = "set -e; cd all; for folder in $0 \"$@\"; do mkdir -p ../kept/$folder; \
                  find $folder -maxdepth 1 ! -type d -exec cp --dereference {} ../kept/$folder ';'; done";
    let mut command = Command::new("sh");
    command.args(["-c", script]).args(KEPT).current_dir(work);
    command::run_quietly(&mut command, "Mend what it complains of.").map(drop)
}
