//! Packages of the distribution. Programs are looked for by name, so that any distribution that has them will do.

use std::process::Command;

use anyhow::{Result, bail};

use super::{is_root, say};
use crate::{command, workspace};

/// Programs that the lab runs, and the Debian package of each.
const LAB_TOOLS: [(&str, &str); 10] = [
    ("ip", "iproute2"),
    ("nginx", "nginx-light"),
    ("iperf3", "iperf3"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ethtool", "ethtool"),
    ("tcpdump", "tcpdump"),
    ("ping", "iputils-ping"),
    ("curl", "curl"),
];

/// Programs that the cluster needs besides, and the Debian package of each.
const CLUSTER_TOOLS: [(&str, &str); 5] = [
    ("runc", "runc"),
    ("debootstrap", "debootstrap"),
    ("cc", "gcc"),
    ("ldd", "libc-bin"),
    ("unshare", "util-linux"),
];
/// Where Debian's packages are signed, for another distribution's debootstrap too.
const KEYS: &str = "debian-archive-keyring";

/// Programs that a virtual machine is made with, and the Debian package of each.
const VM_TOOLS: [(&str, &str); 3] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("xz", "xz-utils"),
];

/// Installs what virtual machines are made with.
pub(super) fn ensure_vm_tools() -> Result<()> {
    ensure_tools("virtual machine", &VM_TOOLS)
}

/// Installs the lab's tools that are missing.
pub(super) fn ensure_lab_tools() -> Result<()> {
    ensure_tools("lab", &LAB_TOOLS)
}

/// Installs the keys of Debian's archive.
pub(super) fn ensure_archive_keys() -> Result<()> {
    ensure(&[KEYS])
}

/// Installs the cluster's tools that are missing.
pub(super) fn ensure_cluster_tools() -> Result<()> {
    ensure_archive_keys()?;
    ensure_tools("cluster", &CLUSTER_TOOLS)
}

fn ensure_tools(whose: &str, tools: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<_> = tools
        .iter()
        .filter(|(program, _)| workspace::find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        say(&format!("the {whose}'s tools are there"));
        return Ok(());
    }
    install(&missing)
}

/// Installs those of the packages that are not installed.
pub(super) fn ensure(packages: &[&'static str]) -> Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .output();
    query.is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if workspace::find_program("apt-get").is_none() {
        bail!(
            "missing: {list} (Debian's names), and there is no apt-get here.\nInstall them with this system's package manager."
        );
    }
    if !is_root() {
        bail!(
            "missing packages: {list}.\nInstall them as root: `apt-get update && apt-get install {list}`, or run `cargo xtask setup` as root."
        );
    }
    say(&format!("installing {list}"));
    let way_out = format!(
        "Mend apt's complaint, then run this again; by hand: `apt-get update && apt-get install {list}`."
    );
    command::run_quietly(apt().arg("update"), &way_out)?;
    command::run_quietly(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
        &way_out,
    )?;
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
