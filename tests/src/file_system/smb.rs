//! The kernel's SMB server, and its program. It serves in the initial network namespace alone: in a machine of the test's own
//! that is a computer outside of the lab.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Source, has_module};
use crate::Namespace;
use crate::address::{Family, Pair};
use crate::ip::ip;

/// Where it listens.
pub const PORT: u16 = 445;
/// Its addresses: two, so that one can go.
pub const ADDRESSES: [Pair; 2] = [address(1), address(2)];
/// Its interface, and the other end in the lab's network.
const INTERFACE: &str = "files";
/// Where `cargo xtask vm` puts programs with all that they need.
const PROGRAMS: &str = "/opt/debian";

/// Whether this kernel has server and client, and the server its program.
pub fn is_there() -> bool {
    ["ksmbd", "cifs"].into_iter().all(has_module) && Path::new(PROGRAMS).is_dir()
}

/// The server, ended with its value.
#[derive(Debug)]
pub struct Server {
    program: Child,
}

impl Server {
    /// Connects the initial network namespace to the lab's network, and serves the directory there as the share `files` to
    /// the user `lab`; the server's settings are written beside the directory.
    pub fn start(lab: &Namespace, directory: &Path) -> Result<Self> {
        connect(lab)?;
        // The server has no users of this machine: who comes is nobody here.
        fs::set_permissions(directory, Permissions::from_mode(0o777))
            .with_context(|| format!("opening {} to all", directory.display()))?;
        let write = |name, text: String| {
            let file = directory.with_file_name(name);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            anyhow::Ok(file)
        };
        let settings = write(
            "ksmbd.conf",
            format!(
                "[global]\nnetbios name = LAB\nserver min protocol = SMB3_11\n\
                 [files]\npath = {}\nread only = no\n",
                directory.display()
            ),
        )?;
        // MD4 of the word `password` in UTF-16.
        let users = write("users", "lab:iEb36u6PsRetBr3YMLdYbA==\n".to_owned())?;
        let libraries = format!("{PROGRAMS}/usr/lib/x86_64-linux-gnu");
        let program = Command::new(format!("{libraries}/ld-linux-x86-64.so.2"))
            .args(["--library-path", &libraries])
            .arg(format!("{PROGRAMS}/usr/sbin/ksmbd.mountd"))
            .arg("--nodetach")
            .arg("--config")
            .arg(settings)
            .arg("--pwddb")
            .arg(users)
            .stdin(Stdio::null())
            .spawn()
            .context("starting ksmbd.mountd")?;
        let server = Self { program };
        server.wait_listening()?;
        Ok(server)
    }

    /// Takes one of its addresses away, or gives it back.
    pub fn set_address(&self, number: usize, is_there: bool) -> Result<()> {
        let verb = if is_there { "add" } else { "delete" };
        for family in Family::BOTH {
            give(verb, &ADDRESSES[number].of(family).to_string())?;
        }
        Ok(())
    }

    /// The kernel tells nobody when it serves: it is tried.
    fn wait_listening(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let at = ADDRESSES[0].at(Family::V4, PORT);
        while let Err(error) = TcpStream::connect(at) {
            ensure!(
                Instant::now() < deadline,
                "ksmbd does not listen at {at}: {error}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

const fn address(number: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(192, 168, 30, number),
        v6: Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, number as u16),
    }
}

fn connect(lab: &Namespace) -> Result<()> {
    let gateway = address(0xfe);
    ip(&[
        "link",
        "add",
        INTERFACE,
        "type",
        "veth",
        "peer",
        "name",
        INTERFACE,
        "netns",
        lab.name(),
    ])?;
    lab.ip(&[
        format!("address add {}/24 dev {INTERFACE}", gateway.v4),
        format!("address add {}/64 dev {INTERFACE} nodad", gateway.v6),
        format!("link set {INTERFACE} up"),
    ])?;
    ip(&["link", "set", INTERFACE, "up"])?;
    for family in Family::BOTH {
        for own in ADDRESSES {
            give("add", &own.of(family).to_string())?;
        }
        let gateway = gateway.of(family).to_string();
        ip(&[
            "route", "add", "default", "via", &gateway, "dev", INTERFACE, "onlink",
        ])?;
    }
    Ok(())
}

/// Addresses alone, without a network: one does not go with another.
fn give(verb: &str, address: &str) -> Result<()> {
    ip(&["address", verb, address, "dev", INTERFACE])
}

impl Drop for Server {
    fn drop(&mut self) {
        // The machine ends with the test.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

/// What is mounted of the server at this address. It is asked every second whether it is still there.
pub fn source(at: SocketAddr) -> Source {
    Source {
        kind: "cifs",
        device: "//files/files".to_owned(),
        options: format!(
            "ip={},port={},vers=3.1.1,username=lab,password=password,hard,echo_interval=1",
            at.ip(),
            at.port()
        ),
    }
}
