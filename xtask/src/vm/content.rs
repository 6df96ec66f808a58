//! What is in the machine: files at the paths that they have outside.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::archive::Archive;
use super::{ENDED, kernel::Kernel, programs::PLACE};
use crate::workspace;

/// Tools beside busybox, where the machine that packs has them.
const TOOLS: [&str; 6] = ["sh", "ip", "ethtool", "ping", "nft", "setpriv"];
/// Busybox's, by other names.
const APPLETS: [&str; 10] = [
    "cat", "dmesg", "grep", "ls", "mount", "modprobe", "poweroff", "sleep", "true", "uname",
];
/// Mount points.
const EMPTY: [&str; 6] = ["/dev", "/proc", "/run", "/sys", "/tmp", "/root"];

/// Packs the archive that the kernel starts with.
pub(super) fn write(kernel: &Kernel, programs: &Path, words: &[String], to: &File) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(to));
    for path in EMPTY {
        archive.directory(Path::new(path))?;
    }
    // Tests name the objects from their package's directory.
    archive.directory(&workspace::root().join("tests"))?;
    for (link, target) in [("/bin", "usr/bin"), ("/sbin", "usr/sbin")] {
        archive.link(Path::new(link), Path::new(target))?;
    }
    let busybox = workspace::find_program("busybox").context("no busybox: run `cargo xtask setup`")?;
    archive.file(Path::new("/usr/bin/busybox"), &read(&busybox)?)?;
    for applet in APPLETS {
        archive.link(
            &Path::new("/usr/sbin").join(applet),
            Path::new("/usr/bin/busybox"),
        )?;
    }
    for tool in TOOLS.iter().filter_map(|tool| workspace::find_program(tool)) {
        program(&mut archive, &tool)?;
        let Some(name) = tool.file_name() else { continue };
        archive.file(&Path::new("/usr/bin").join(name), &read(&tool)?)?;
    }
    for path in own(words)? {
        program(&mut archive, &path)?;
    }
    files(
        &mut archive,
        &kernel.tree.join("lib"),
        &kernel.tree,
        Path::new("/"),
    )?;
    files(&mut archive, programs, programs, Path::new(PLACE))?;
    archive.file(Path::new("/init"), init(words)?.as_bytes())?;
    archive.finish()
}

/// The files that the command names, and the workspace's programs and objects.
fn own(words: &[String]) -> Result<Vec<PathBuf>> {
    let named = words.iter().map(PathBuf::from).filter(|path| path.is_file());
    let built = ["debug/shunt", "debug/lab", "bpf/shunt.o", "bpf/testing.o"]
        .map(|name| workspace::root().join("target").join(name));
    let built = built.into_iter().filter(|path| path.is_file());
    named
        .chain(built)
        .map(|path| std::path::absolute(&path).with_context(|| format!("the path of {}", path.display())))
        .collect()
}

/// A file at its path, and the libraries that it needs.
fn program<W: std::io::Write>(archive: &mut Archive<W>, path: &Path) -> Result<()> {
    if archive.has(path) {
        return Ok(());
    }
    archive.file(path, &without_debugging(path)?)?;
    // Of what is no program it says so and fails.
    let said = Command::new("ldd").arg(path).output().context("starting ldd")?;
    for library in libraries(&String::from_utf8_lossy(&said.stdout)) {
        if !archive.has(&library) {
            archive.file(&library, &read(&library)?)?;
        }
    }
    Ok(())
}

/// A file's content; a program's without what debuggers read, which is most of it. The machine holds all in its memory, twice while
/// it starts.
fn without_debugging(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "o") {
        return read(path);
    }
    let smaller = workspace::root().join(format!("target/stripped-{}", std::process::id()));
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(&smaller).arg(path);
    // Of what is no program it says so and fails.
    if !strip.output().context("starting strip")?.status.success() {
        return read(path);
    }
    let content = read(&smaller)?;
    std::fs::remove_file(&smaller).with_context(|| format!("removing {}", smaller.display()))?;
    Ok(content)
}

/// The paths in `libm.so.6 => /lib/libm.so.6 (0x7f00)` and `/lib64/ld-linux.so.2 (0x7f00)`.
fn libraries(said: &str) -> Vec<PathBuf> {
    let word = |line: &str| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(PathBuf::from)
    };
    said.lines().filter_map(word).collect()
}

/// The files of a folder below `root`, at the same paths below `place`.
fn files<W: std::io::Write>(
    archive: &mut Archive<W>,
    folder: &Path,
    root: &Path,
    place: &Path,
) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("reading {}", folder.display()))?
            .path();
        if path.is_dir() {
            files(archive, &path, root, place)?;
        } else {
            let inside = place.join(path.strip_prefix(root).unwrap_or(&path));
            archive.file(&inside, &read(&path)?)?;
        }
    }
    Ok(())
}

/// The machine's first process.
fn init(words: &[String]) -> Result<String> {
    let directory = std::env::current_dir().context("the current directory")?;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let command: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    let directory = quoted(&directory.to_string_lossy());
    Ok(format!(
        "#!/bin/sh
# The whole kernel is the command's: tests ask for this before they attach to its root cgroup.
export SHUNT_VM=1
export PATH=/usr/bin:/usr/sbin HOME=/root RUST_BACKTRACE=0 PROPTEST_RNG_SEED=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
busybox ip link set lo up
busybox mkdir -p {directory}
cd {directory}
export CARGO_MANIFEST_DIR={directory}
{} 2>&1
echo \"{ENDED}$?\"
poweroff -f
",
        command.join(" ")
    ))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_says() {
        let said = "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/libm.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let expected = ["/lib/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(said), expected);
        assert!(libraries("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn the_command_keeps_its_words() {
        let words = ["echo", "two words", "it's"].map(str::to_owned);
        assert!(
            init(&words)
                .unwrap()
                .contains(r"'echo' 'two words' 'it'\''s' 2>&1")
        );
    }
}
