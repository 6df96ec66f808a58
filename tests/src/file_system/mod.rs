//! File systems over the network, mounted by the kernel, whose sockets are its own. Only for kernels that have them, like those
//! of `cargo xtask vm`.

pub mod nfs;
pub mod smb;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{Namespace, Place};

/// How long the kernel gets for what it does over the network: the machine is emulated, and a lost server is first noticed.
const PATIENCE: Duration = Duration::from_secs(150);

/// What mount(2) is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    kind: &'static str,
    device: String,
    options: String,
}

/// A mount, gone with its value.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
}

impl Mount {
    /// Mounts by a client in the place's network namespace.
    pub fn new(place: &Place, source: &Source, path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
        let (namespace, source, target) = (place.namespace().clone(), source.clone(), path.to_owned());
        let what = format!("mounting {source:?} from {}", place.name());
        in_time(&what, move || {
            let Source {
                kind,
                device,
                options,
            } = &source;
            namespace.run(|| {
                let (device, options) = (Some(device.as_str()), Some(options.as_str()));
                mount(device, &target, Some(*kind), MsFlags::empty(), options).context("the kernel says")
            })
        })?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Writes a file and reads it where it is served, then the other way round.
    pub fn exchange(&self, served: &Path, name: &str) -> Result<()> {
        let (there, here) = (served.to_owned(), self.path.clone());
        let name = format!(
            "{name}-{}",
            self.path.file_name().unwrap_or_default().to_string_lossy()
        );
        in_time(&format!("files {name} in {}", here.display()), move || {
            for (direction, from, to) in [("up", &here, &there), ("down", &there, &here)] {
                let file = format!("{name}-{direction}");
                let content = file.repeat(20_000);
                fs::write(from.join(&file), &content).with_context(|| format!("writing {file}"))?;
                let read = fs::read_to_string(to.join(&file)).with_context(|| format!("reading {file}"))?;
                ensure!(
                    read == content,
                    "{file} has {} bytes of {}",
                    read.len(),
                    content.len()
                );
            }
            Ok(())
        })
    }

    /// Takes it away.
    pub fn end(self) -> Result<()> {
        let path = self.path.clone();
        in_time(&format!("unmounting {}", path.display()), move || {
            umount2(&path, MntFlags::empty()).context("the kernel says")
        })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // What a failed test leaves: its server may be gone.
        let _unmounted = umount2(&self.path, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
    }
}

/// An established TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its port here.
    pub local: u16,
    /// Its port there.
    pub remote: u16,
}

/// The established TCP connections of a network namespace, the kernel's own among them.
pub fn connections(namespace: &Namespace) -> Result<Vec<Connection>> {
    namespace.run(|| {
        let mut connections = Vec::new();
        for table in ["tcp", "tcp6"] {
            let path = format!("/proc/thread-self/net/{table}");
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            connections.extend(text.lines().skip(1).filter_map(connection));
        }
        Ok(connections)
    })
}

/// Reads `0: 0100007F:0801 0200007F:D431 01 ...`; 01 is ESTABLISHED.
fn connection(line: &str) -> Option<Connection> {
    let port = |text: &str| u16::from_str_radix(text.rsplit(':').next()?, 16).ok();
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote) = (port(fields.next()?)?, port(fields.next()?)?);
    (fields.next()? == "01").then_some(Connection { local, remote })
}

/// Loads a module, unless the kernel has it.
fn has_module(name: &str) -> bool {
    crate::ip::run(Command::new("modprobe").arg(name)).is_ok()
}

/// What the kernel may never give up by itself, in a thread that is left behind when its time is up.
fn in_time<T: Send + 'static>(what: &str, action: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || done.send(action()));
    let result = wait
        .recv_timeout(PATIENCE)
        .with_context(|| format!("{what}: not done after {PATIENCE:?}"))?;
    result.with_context(|| what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn established_connections_are_read_with_their_ports() {
        let line =
            "   1: 0A00F40A:0801 0B00F40A:02D1 01 00000000:00000000 00:00000000 00000000     0        0 1 1";
        let expected = Connection {
            local: 2049,
            remote: 721,
        };
        assert_eq!(connection(line), Some(expected));
        assert_eq!(connection(&line.replace(" 01 ", " 0A ")), None);
        assert_eq!(connection("  sl  local_address rem_address   st"), None);
    }
}
