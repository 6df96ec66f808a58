//! Kernels: packages of the distribution, unpacked into the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::debian;
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

/// The modules that are kept, of those that the kernel has: networks and what they need, file systems over networks. Of a
/// folder that ends with `/` the files alone.
const MODULES: [&str; 14] = [
    "net",
    "lib",
    "crypto",
    "arch/x86/crypto",
    "drivers/net/",
    "drivers/net/vxlan",
    "fs/lockd",
    "fs/netfs",
    "fs/nfs",
    "fs/nfs_common",
    "fs/nfsd",
    "fs/nls",
    "fs/smb",
    "fs/cifs",
];
/// In a kernel's directory: what was kept of it.
const KEPT: &str = "kept.txt";
/// In a kernel's directory: its release.
const RELEASE: &str = "release.txt";

/// The newest kernel of a version, like 6.12 or 7, at the time when it was fetched: from the cache, if that has all modules
/// that are wanted.
pub(super) fn ensure(version: &str) -> Result<Kernel> {
    let directory = workspace::cache()?.join(format!("kernel-{version}"));
    let tree = directory.join("tree");
    if !is_kept(&tree) {
        fetch(version, &directory, &tree)?;
    }
    let release = tree.join(RELEASE);
    Ok(Kernel {
        release: std::fs::read_to_string(&release)
            .with_context(|| format!("reading {}", release.display()))?,
        image: tree.join("vmlinuz"),
        tree,
    })
}

/// Whether a tree is there with what is wanted today.
fn is_kept(tree: &Path) -> bool {
    std::fs::read_to_string(tree.join(KEPT)).is_ok_and(|kept| kept == MODULES.join("\n"))
}

fn fetch(version: &str, directory: &Path, tree: &Path) -> Result<()> {
    let apt = debian::Apt::updated()?;
    let image = newest(&apt.names(&format!("linux-image-{version}."))?).with_context(|| {
        format!(
            "Debian has no linux-image-{version}.*-cloud-amd64 in {}",
            debian::SUITES.map(|suite| suite.0).join(", ")
        )
    })?;
    let release = image.trim_start_matches("linux-image-").to_owned();
    say(&format!("fetching the kernel {release}"));
    let work = directory.join(format!("work-{}", std::process::id()));
    std::fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
    let result = apt
        // The image's own package may be empty, the kernel and its modules in others.
        .fetch(&apt.depends(&image, "linux-")?, &work.join("all"))
        .and_then(|()| keep(&release, &work))
        .and_then(|()| {
            if tree.is_dir() {
                std::fs::remove_dir_all(tree).with_context(|| format!("removing {}", tree.display()))?;
            }
            // At once and whole.
            std::fs::rename(work.join("kept"), tree).with_context(|| format!("naming {}", tree.display()))
        });
    std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    result
}

/// The newest of the packages, by the numbers in their names.
fn newest(names: &[String]) -> Option<String> {
    let is_kernel = |name: &&String| name.ends_with("-cloud-amd64") && !name.contains("unsigned");
    names
        .iter()
        .filter(is_kernel)
        .max_by_key(|name| numbers(name))
        .cloned()
}

fn numbers(name: &str) -> Vec<u32> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// Of what is unpacked in `all`, what machines need, in `kept`.
fn keep(release: &str, work: &Path) -> Result<()> {
    let mut script = format!(
        "set -e; modules=lib/modules/{release}; mkdir -p kept/$modules/kernel; \
         from=all/$modules; [ -d $from ] || from=all/usr/$modules; \
         image=all/boot/vmlinuz-{release}; [ -f $image ] || image=$from/vmlinuz; cp $image kept/vmlinuz; cp $from/modules.builtin* $from/modules.order kept/$modules; \
         to=$PWD/kept/$modules/kernel; cd $from/kernel; "
    );
    for folder in MODULES {
        let (name, depth) = match folder.strip_suffix('/') {
            Some(name) => (name, "-maxdepth 1"),
            None => (folder, ""),
        };
        script.push_str(&format!(
            "[ ! -d {name} ] || find {name} {depth} -name '*.ko*' -exec cp --parents {{}} $to ';'; "
        ));
    }
    script.push_str(&format!(
        "find $to -name '*.ko.xz' -exec xz --decompress {{}} +; cd {}; busybox depmod -b kept {release}",
        work.display()
    ));
    let way_out = "Mend what it complains of; it needs xz and busybox.";
    command::run_quietly(
        Command::new("sh").args(["-c", &script]).current_dir(work),
        way_out,
    )?;
    for (name, content) in [(KEPT, MODULES.join("\n")), (RELEASE, release.to_owned())] {
        let file = work.join("kept").join(name);
        std::fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_was_kept_with_fewer_modules_is_fetched_anew() {
        let tree = std::env::temp_dir().join(format!("shunt-kept-{}", std::process::id()));
        std::fs::create_dir_all(&tree).unwrap();
        assert!(!is_kept(&tree), "kept by a version that wrote nothing down");
        std::fs::write(tree.join(KEPT), MODULES[1..].join("\n")).unwrap();
        assert!(!is_kept(&tree));
        std::fs::write(tree.join(KEPT), MODULES.join("\n")).unwrap();
        assert!(is_kept(&tree));
        std::fs::remove_dir_all(&tree).unwrap();
    }

    #[test]
    fn the_newest_kernel_has_the_largest_numbers() {
        let names = [
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-image-7.3.10+deb13-cloud-amd64",
            "linux-image-7.4.1+deb13-cloud-amd64-unsigned",
            "linux-image-7.4.2+deb13-amd64",
        ]
        .map(str::to_owned);
        assert_eq!(
            newest(&names).as_deref(),
            Some("linux-image-7.3.10+deb13-cloud-amd64")
        );
        assert_eq!(newest(&names[2..]), None);
    }
}
