//! Kernels: packages of the distribution, unpacked into the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::say;
use crate::{command, workspace};

/// A kernel and its modules, ready to start.
pub(super) struct Kernel {
    /// What `uname -r` says on it.
    pub(super) release: String,
    /// The image that is started.
    pub(super) image: PathBuf,
    /// The directory above `lib/modules`. Modules are not compressed.
    pub(super) tree: PathBuf,
}

/// The modules that are kept: networks and what they need. Of a folder that ends with `/` the files alone.
const MODULES: [&str; 5] = ["net", "lib", "crypto", "arch/x86/crypto", "drivers/net/"];

/// Fetches and unpacks the newest kernel of a version, like 6.12, unless the cache has it.
pub(super) fn ensure(version: &str) -> Result<Kernel> {
    let package = package(version)?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    let directory = workspace::cache()?.join(format!("kernel-{release}"));
    let tree = directory.join("tree");
    if !tree.is_dir() {
        say(&format!("fetching the kernel {release}"));
        let work = directory.join("work");
        if work.is_dir() {
            std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
        }
        unpack(&package, &release, &work)?;
        // At once and whole.
        std::fs::rename(work.join("kept"), &tree).with_context(|| format!("naming {}", tree.display()))?;
        std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    }
    Ok(Kernel {
        image: tree.join("vmlinuz"),
        release,
        tree,
    })
}

/// The package that the version's newest kernel is in.
fn package(version: &str) -> Result<String> {
    let newest = format!("linux-image-{version}-cloud-amd64");
    let way_out = format!(
        "No package {newest}: see `apt-cache search linux-image` for the versions of this machine's Debian, after `apt-get update`."
    );
    let mut query = Command::new("apt-cache");
    query.args(["depends", "--important", &newest]);
    let said = command::run_quietly(&mut query, &way_out)?;
    let depends = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "));
    depends.map(str::to_owned).context(way_out)
}

fn unpack(package: &str, release: &str, work: &Path) -> Result<()> {
    std::fs::create_dir_all(work).with_context(|| format!("creating {}", work.display()))?;
    let mut script = format!(
        "set -e; apt-get download {package}; dpkg-deb --extract {package}_*.deb all; \
         modules=lib/modules/{release}; mkdir -p kept/$modules/kernel; \
         cp all/boot/vmlinuz-{release} kept/vmlinuz; cp all/$modules/modules.builtin* all/$modules/modules.order kept/$modules; "
    );
    for folder in MODULES {
        let (name, depth) = match folder.strip_suffix('/') {
            Some(name) => (name, "-maxdepth 1"),
            None => (folder, ""),
        };
        script.push_str(&format!(
            "(cd all/$modules/kernel; find {name} {depth} -name '*.ko.xz' -exec cp --parents {{}} ../../../../../kept/$modules/kernel ';'); "
        ));
    }
    script.push_str(&format!(
        "find kept -name '*.ko.xz' -exec xz --decompress {{}} +; busybox depmod -b kept {release}"
    ));
    let way_out = "Mend what it complains of; it needs Debian's mirror, dpkg-deb, xz and busybox.";
    command::run_quietly(
        Command::new("sh").args(["-c", &script]).current_dir(work),
        way_out,
    )
    .map(drop)
}
