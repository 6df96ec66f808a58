//! The kernel's NFS server in a network namespace, without the daemons that fill its tables elsewhere.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Source, has_module};
use crate::{Namespace, Place};

/// Where its servers listen.
pub const PORT: u16 = 2049;
/// Never, in seconds since 1970 as the kernel's caches read them.
const NEVER: &str = "2147483647";

/// Whether this kernel has server and client.
pub fn is_there() -> bool {
    ["nfsd", "nfsv4"].into_iter().all(has_module)
}

/// A server. All that serve one directory are one server to clients: their file handles are the same.
#[derive(Debug)]
pub struct Server {
    namespace: Namespace,
    control: PathBuf,
    directory: PathBuf,
    clients: Vec<IpAddr>,
}

impl Server {
    /// Serves the directory as NFSv4's root to these clients.
    pub fn start(place: &Place, directory: &Path, clients: &[IpAddr]) -> Result<Self> {
        let control = directory.with_file_name(format!("nfsd-{}", place.name()));
        fs::create_dir_all(&control).with_context(|| format!("making {}", control.display()))?;
        let server = Self {
            namespace: place.namespace().clone(),
            control,
            directory: directory.to_owned(),
            clients: clients.to_vec(),
        };
        // This file system is that of the network namespace in which it is mounted.
        server.namespace.run(|| {
            let kind = Some("nfsd");
            mount(kind, &server.control, kind, MsFlags::empty(), None::<&str>)
                .context("mounting nfsd's file system")
        })?;
        // Else it asks for a portmapper.
        server.write("versions", "-2 -3 +4")?;
        // The shortest there are: who begins waits for clients that may claim back what they had.
        server.write("nfsv4gracetime", "10")?;
        server.write("nfsv4leasetime", "10")?;
        server.resume()?;
        Ok(server)
    }

    /// Serves again.
    pub fn resume(&self) -> Result<()> {
        self.write("portlist", &format!("tcp {PORT}"))?;
        self.write("threads", "2")?;
        let path = self.directory.to_string_lossy();
        for client in &self.clients {
            self.tell("auth.unix.ip", &format!("nfsd {client} {NEVER} lab"))?;
        }
        // File system 0 is the root. No check of subtrees (0x400); named by its number (0x2000); root stays root; calls come
        // from ports below 1024 (else 0x2).
        self.tell("nfsd.fh", &format!("lab 1 \\x00000000 {NEVER} {path}"))?;
        self.tell(
            "nfsd.export",
            &format!("lab {path} {NEVER} {} 65534 65534 0", 0x2400),
        )
    }

    /// Ends it; its connections are closed.
    pub fn stop(&self) -> Result<()> {
        self.write("threads", "0")
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.control.join(file);
        fs::write(&path, format!("{text}\n")).with_context(|| format!("writing {text} to {}", path.display()))
    }

    /// Fills one of the caches for which the kernel would ask mountd.
    fn tell(&self, cache: &str, text: &str) -> Result<()> {
        let path = format!("/proc/thread-self/net/rpc/{cache}/channel");
        let line = format!("{text}\n");
        self.namespace
            .run(|| fs::write(&path, &line).with_context(|| format!("writing {text} to {path}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The machine ends with the test.
        drop(self.stop());
        let _unmounted = umount2(&self.control, MntFlags::MNT_DETACH);
    }
}

/// What is mounted of the server at this address. One that says nothing for some seconds is asked again by a new
/// connection.
pub fn source(at: SocketAddr) -> Source {
    let (device, protocol) = match at.ip() {
        IpAddr::V4(address) => (format!("{address}:/"), "tcp"),
        IpAddr::V6(address) => (format!("[{address}]:/"), "tcp6"),
    };
    Source {
        kind: "nfs4",
        device,
        options: format!(
            "vers=4.2,proto={protocol},addr={},port={},hard,timeo=10,retrans=1",
            at.ip(),
            at.port()
        ),
    }
}
