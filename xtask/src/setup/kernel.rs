//! What the running kernel must offer: bpffs and a cgroup v2 tree.

use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::say;
use crate::command;

const BPFFS: &str = "/sys/fs/bpf";

pub(super) fn ensure() -> Result<()> {
    ensure_bpffs()?;
    let cgroup = cgroup2(&std::fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?)
        .context("no cgroup v2 is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")?;
    say(&format!("cgroup v2 is at {cgroup}"));
    Ok(())
}

fn ensure_bpffs() -> Result<()> {
    if statfs(BPFFS).is_ok_and(|status| status.filesystem_type() == BPF_FS_MAGIC) {
        say(&format!("bpffs is at {BPFFS}"));
        return Ok(());
    }
    if !std::path::Path::new(BPFFS).is_dir() {
        bail!(
            "{BPFFS} does not exist: this kernel has no BPF file system (CONFIG_BPF_SYSCALL), or /sys is not mounted"
        );
    }
    say(&format!("mounting bpffs at {BPFFS}"));
    let mut mount = Command::new("mount");
    command::run_quietly(
        mount.args(["-t", "bpf", "bpf", BPFFS]),
        "Mount it by hand, with CAP_SYS_ADMIN.",
    )?;
    Ok(())
}

fn cgroup2(mounts: &str) -> Option<String> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| fields.get(2) == Some(&"cgroup2"))
        .find_map(|fields| fields.get(1).map(|&path| path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_beside_version_1() {
        let mounts =
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2(mounts).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(cgroup2("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n"), None);
    }
}
