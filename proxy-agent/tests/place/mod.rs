//! A network namespace, an instance and a cgroup of a test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Everything of it goes away with the test.
pub(crate) struct Place {
    pub(crate) instance: PathBuf,
    pub(crate) cgroup: PathBuf,
    pub(crate) manifests: PathBuf,
}

impl Place {
    /// Puts the calling thread into a network namespace of its own; its children are born there.
    pub(crate) fn enter(name: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs CAP_SYS_ADMIN");
        let bpffs = Path::new("/sys/fs/bpf");
        if statfs(bpffs).unwrap().filesystem_type() != BPF_FS_MAGIC {
            mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let cgroups = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = cgroups
            .filter(|fields| fields[2] == "cgroup2")
            .map(|fields| fields[1].to_owned())
            .next();
        let name = format!("shunt-{name}-{}", std::process::id());
        let place = Self {
            instance: bpffs.join(&name),
            cgroup: Path::new(&root.expect("no cgroup v2 hierarchy is mounted")).join(&name),
            manifests: std::env::temp_dir().join(&name),
        };
        std::fs::create_dir(&place.cgroup).unwrap();
        std::fs::create_dir(&place.manifests).unwrap();
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let cleanup = Command::new(env!("CARGO_BIN_EXE_shunt"))
            .arg("cleanup")
            .arg("--instance")
            .arg(&self.instance)
            .status();
        drop(cleanup);
        drop(std::fs::remove_dir_all(&self.instance));
        drop(std::fs::remove_dir(&self.cgroup));
        drop(std::fs::remove_dir_all(&self.manifests));
    }
}
