//! The tree of Debian packages that pods' programs run in: the tools which the suite's specs call in their pods.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::binaries::{cache, hexadecimal, lock};
use crate::ip::run;

/// Its iperf is the first that prints what the suite reads.
const SUITE: &str = "trixie";
const MIRROR: &str = "http://deb.debian.org/debian";
const PACKAGES: [&str; 17] = [
    "bash",
    "bind9-dnsutils",
    "ca-certificates",
    "conntrack",
    "curl",
    "iperf",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "netcat-openbsd",
    "nfacct",
    "nftables",
    "nginx-light",
    "procps",
    "socat",
    "wget",
];
/// What no pod reads.
const UNUSED: [&str; 7] = [
    "dev",
    "var/cache",
    "var/lib/apt",
    "var/log",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
];

/// The tree as a tar file, made once.
pub(crate) fn tree() -> Result<PathBuf> {
    let recipe = format!("{SUITE} {MIRROR} {PACKAGES:?} {UNUSED:?}");
    let hash = hexadecimal(&Sha256::digest(recipe));
    let directory = cache()?.join(format!("debian-{SUITE}-{}", &hash[..8]));
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let file = directory.join("tree.tar");
    let _lock = lock(&directory.join(".lock"))?;
    if !file.is_file() {
        let tree = directory.join("tree");
        remove(&tree)?;
        make(&tree)?;
        pack(&tree, &file)?;
        remove(&tree)?;
    }
    Ok(file)
}

/// The tree itself, unpacked once. Nobody writes to it.
pub(crate) fn root() -> Result<PathBuf> {
    let file = tree()?;
    let directory = file.parent().unwrap_or(Path::new("/"));
    let root = directory.join("root");
    let _lock = lock(&directory.join(".lock"))?;
    if !root.is_dir() {
        let part = directory.join("root.part");
        remove(&part)?;
        std::fs::create_dir(&part).with_context(|| format!("making {}", part.display()))?;
        run(Command::new("tar")
            .args(["--extract", "--numeric-owner", "--directory"])
            .args([&part, Path::new("--file"), &file]))?;
        std::fs::rename(&part, &root).with_context(|| format!("naming {}", root.display()))?;
    }
    Ok(root)
}

fn make(tree: &Path) -> Result<()> {
    eprintln!("cluster: unpacking the packages of the pods' tools (minutes; once)");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap
        .args(["--variant=minbase", &format!("--include={}", PACKAGES.join(","))])
        .args([Path::new(SUITE), tree, Path::new(MIRROR)]);
    run(&mut debootstrap).context("it needs Debian's mirror, and root")?;
    for unused in UNUSED {
        remove(&tree.join(unused))?;
    }
    // nginx wants its log's directory, and every program those of /dev and /tmp.
    for empty in ["dev", "var/log/nginx", "var/cache"] {
        let directory = tree.join(empty);
        std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    }
    Ok(())
}

fn pack(tree: &Path, file: &Path) -> Result<()> {
    let temporary = file.with_extension("part");
    let output = File::create(&temporary).with_context(|| format!("making {}", temporary.display()))?;
    let mut archive = tar::Builder::new(output);
    // Runtimes do not unpack sparse files.
    archive.sparse(false);
    archive.follow_symlinks(false);
    archive
        .append_dir_all(".", tree)
        .and_then(|()| archive.finish())
        .with_context(|| format!("packing {}", tree.display()))?;
    std::fs::rename(&temporary, file).with_context(|| format!("naming {}", file.display()))
}

fn remove(tree: &Path) -> Result<()> {
    match std::fs::remove_dir_all(tree) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", tree.display()))
        }
        _ => Ok(()),
    }
}
