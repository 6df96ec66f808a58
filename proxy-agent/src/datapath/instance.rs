//! The directory of an instance on a BPF file system: `INSTANCE/v<layout version>/maps/NAME` and `/links/...`.
//!
//! Besides pins it holds empty directories as marks of what was changed elsewhere and has to be undone by cleanup:
//! a BPF file system takes no ordinary files, and a mark that lives beside the pins can't outlive them.
//!
//! Who may read and change an instance is decided by the file system's rights alone: directories and pins are their owner's.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use proxy_common::layout::LAYOUT_VERSION;

use super::error::{CallError, Context, DatapathError};

/// Rights of a directory.
const OWNER_ALONE: u32 = 0o700;

/// Where an instance's pins of one layout are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    root: PathBuf,
    layout: u32,
}

impl Instance {
    /// With this version's layout.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            layout: LAYOUT_VERSION,
        }
    }

    /// The same with another layout.
    pub(super) fn of_layout(&self, layout: u32) -> Self {
        Self {
            root: self.root.clone(),
            layout,
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn layout(&self) -> u32 {
        self.layout
    }

    /// Holds everything of this layout.
    pub(super) fn version(&self) -> PathBuf {
        self.root.join(format!("v{}", self.layout))
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Maps that are about to take the place of those of the same name; there only while that is under way.
    pub(super) fn next(&self) -> PathBuf {
        self.version().join("next")
    }

    /// The map that programs are loaded against from now on.
    pub(super) fn newest(&self, name: &str) -> PathBuf {
        let next = self.next().join(name);
        if next.exists() { next } else { self.map(name) }
    }

    pub(super) fn cgroup_links(&self) -> PathBuf {
        self.version().join("links").join("cgroup")
    }

    pub(super) fn tcx_links(&self) -> PathBuf {
        self.version().join("links").join("tcx")
    }

    pub(super) fn xdp_links(&self) -> PathBuf {
        self.version().join("links").join("xdp")
    }

    /// Marks: interfaces (by index) to which we added a clsact qdisc or filters.
    pub(super) fn clsact_marks(&self) -> PathBuf {
        self.version().join("clsact")
    }

    /// Marks: the ranges that we added to net.ipv4.ip_local_reserved_ports.
    pub(super) fn reserved_marks(&self) -> PathBuf {
        self.version().join("reserved")
    }

    /// Mark: the maps of this layout are not whole yet, or no longer; those of another layout are.
    pub(super) fn incomplete(&self) -> PathBuf {
        self.version().join("incomplete")
    }

    /// Whether this layout's maps are those that count.
    pub(super) fn is_whole(&self) -> Result<bool, DatapathError> {
        Ok(!self.incomplete().exists() && !list(&self.maps())?.is_empty())
    }

    /// All directories, from the inside out.
    fn directories(&self) -> [PathBuf; 8] {
        [
            self.maps(),
            self.cgroup_links(),
            self.tcx_links(),
            self.xdp_links(),
            self.version().join("links"),
            self.clsact_marks(),
            self.reserved_marks(),
            self.version(),
        ]
    }

    /// Indices of the interfaces at which something of ours is or was.
    pub(super) fn interfaces(&self) -> Result<Vec<u32>, DatapathError> {
        let pins = list(&self.tcx_links())?;
        let xdp = list(&self.xdp_links())?;
        let marks = list(&self.clsact_marks())?;
        let names = pins.iter().chain(&xdp).chain(&marks);
        let mut known: Vec<u32> = names
            .filter_map(|name| name.split('-').next()?.parse().ok())
            .collect();
        known.sort_unstable();
        known.dedup();
        Ok(known)
    }

    /// Removes the empty directories, and the instance's own if no other version has anything there.
    pub(super) fn remove_directories(&self) -> Result<(), DatapathError> {
        remove(&self.next())?;
        remove(&self.incomplete())?;
        for directory in self.directories() {
            remove(&directory)?;
        }
        if list(&self.root)?.is_empty() {
            remove(&self.root)?;
        }
        Ok(())
    }

    /// Makes the directories; refuses what is no BPF file system and what another version has left.
    pub(super) fn prepare(&self) -> Result<(), DatapathError> {
        self.check_file_system()?;
        self.check_alone()?;
        self.make_directories()
    }

    /// Makes the directories.
    pub(super) fn make_directories(&self) -> Result<(), DatapathError> {
        for directory in self.directories() {
            make(&directory)?;
        }
        Ok(())
    }

    /// Refuses an instance that lies on no BPF file system, and names the mount that is missing.
    pub(super) fn check_file_system(&self) -> Result<(), DatapathError> {
        let existing = self
            .root
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(Path::new("/"));
        if is_bpf_file_system(existing)? {
            return Ok(());
        }
        let root = self.root.display();
        let mount = if self.root.starts_with("/sys/fs/bpf") {
            Path::new("/sys/fs/bpf")
        } else {
            existing
        };
        Err(DatapathError::Refused(format!(
            "{root} is on no BPF file system; mount one: mount -t bpf bpf {}",
            mount.display()
        )))
    }

    /// Layouts of which something is there, but for this one, in ascending order.
    pub(super) fn others(&self) -> Result<Vec<u32>, DatapathError> {
        let names = list(&self.root)?;
        let versions = names
            .iter()
            .filter_map(|name| name.strip_prefix('v')?.parse().ok());
        let mut others: Vec<u32> = versions.filter(|version| *version != self.layout).collect();
        others.sort_unstable();
        Ok(others)
    }

    /// Refuses to touch what another version of Shunt has left: its programs still run.
    pub(super) fn check_alone(&self) -> Result<(), DatapathError> {
        match self.others()?.last() {
            Some(other) => Err(self.foreign(*other)),
            None => Ok(()),
        }
    }

    /// The refusal of another layout.
    pub(super) fn foreign(&self, other: u32) -> DatapathError {
        let root = self.root.display();
        let known = self.layout;
        DatapathError::Refused(if other > known {
            format!(
                "{root} holds maps of the newer layout version {other}, this version of Shunt knows {known}: run the version \
                 that made them, or its `shunt downgrade --to {known}` before this one; traffic goes on as it was"
            )
        } else {
            format!(
                "{root} holds maps of the older layout version {other}, this version of Shunt knows {known}: run the version \
                 that made them, or its `shunt cleanup` first; traffic goes on as it was"
            )
        })
    }

    /// Keeps a second agent out for as long as what is given lives. The kernel gives the lock back however an agent
    /// ends.
    pub(super) fn lock(&self) -> Result<Flock<File>, DatapathError> {
        let directory = self.version();
        let file = File::open(&directory).file("open", &directory)?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::errno::Errno::EWOULDBLOCK => DatapathError::Refused(format!(
                "another agent runs with --instance {}: stop it, or give this one a directory of its own",
                self.root.display()
            )),
            error => CallError::of_file("flock", &directory, error.into()).into(),
        })
    }
}

/// Whether a path lies on a BPF file system.
pub(super) fn is_bpf_file_system(path: &Path) -> Result<bool, DatapathError> {
    let found = nix::sys::statfs::statfs(path)
        .map_err(std::io::Error::from)
        .file("statfs", path)?;
    Ok(found.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC)
}

/// Names of the entries of a directory, sorted; none if it does not exist.
pub(super) fn list(directory: &Path) -> Result<Vec<String>, DatapathError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.file("readdir", directory)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.file("readdir", directory)?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Removes a file or empty directory; false if it was not there.
pub(super) fn remove(path: &Path) -> Result<bool, DatapathError> {
    let result = if path.is_dir() {
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    };
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).file("unlink", path)?,
    }
}

/// Makes a directory and those that it lies in, for the owner alone; one that is there stays as it is.
pub(super) fn make(directory: &Path) -> Result<(), DatapathError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(OWNER_ALONE);
    Ok(builder.create(directory).file("mkdir", directory)?)
}

/// Makes an empty directory that stands for a fact.
pub(super) fn mark(directory: &Path, name: &str) -> Result<(), DatapathError> {
    make(&directory.join(name))
}
