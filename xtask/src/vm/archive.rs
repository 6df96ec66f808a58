//! An archive of the form that the kernel unpacks at its start: cpio, "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// Takes entries, each path once.
pub(super) struct Archive<W> {
    out: W,
    written: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            written: BTreeSet::new(),
        }
    }

    /// An empty directory, and those above it.
    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        if let Some(parent) = path.parent().filter(|parent| parent.parent().is_some()) {
            self.directory(parent)?;
        }
        self.entry(path, DIRECTORY, &[])
    }

    /// A file that can be run.
    pub(super) fn file(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        self.above(path)?;
        self.entry(path, FILE, content)
    }

    /// A link to another path.
    pub(super) fn link(&mut self, path: &Path, to: &Path) -> Result<()> {
        self.above(path)?;
        self.entry(path, LINK, to.as_os_str().as_encoded_bytes())
    }

    /// Whether a path has an entry.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.written.contains(path)
    }

    /// Ends it.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write("TRAILER!!!", 0, &[])?;
        self.out.flush().context("writing the archive")
    }

    fn above(&mut self, path: &Path) -> Result<()> {
        match path.parent().filter(|parent| parent.parent().is_some()) {
            Some(parent) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        if !self.written.insert(path.to_owned()) {
            return Ok(());
        }
        let name = path.strip_prefix("/").unwrap_or(path);
        self.write(&name.to_string_lossy(), mode, content)
    }

    fn write(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).context("a file of more than 4 GiB")?;
        let number = self.written.len() as u32;
        let length = name.len() as u32 + 1;
        let mut header = String::from("070701");
        // Inode, mode, owner, group, links, time, size, four device numbers, length of the name, no checksum.
        for field in [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0] {
            header.push_str(&format!("{field:08x}"));
        }
        let mut bytes = header.into_bytes();
        bytes.extend(name.as_bytes());
        bytes.push(0);
        pad(&mut bytes);
        self.out.write_all(&bytes).context("writing the archive")?;
        self.out.write_all(content).context("writing the archive")?;
        let rest = content.len().next_multiple_of(4) - content.len();
        self.out.write_all(&[0; 3][..rest]).context("writing the archive")
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stand_in_whole_words_each_once_and_below_their_directories() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file(Path::new("/bin/true"), b"12345").unwrap();
        archive.file(Path::new("/bin/true"), b"another").unwrap();
        archive.link(Path::new("/bin/false"), Path::new("true")).unwrap();
        assert!(archive.has(Path::new("/bin")));
        archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let places: Vec<_> = ["bin\0", "bin/true\0", "12345", "bin/false\0", "TRAILER!!!"]
            .iter()
            .map(|part| text.find(part).unwrap())
            .collect();
        assert!(places.is_sorted(), "{places:?}");
        assert!(!text.contains("another"));
        assert_eq!(text.matches("070701").count(), 4);
    }
}
