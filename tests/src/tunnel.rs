//! A tunnel between the nodes that carries what pods of different nodes say to each other: interfaces without a
//! link-layer header, and a process that copies packets from one to the other.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::address::{self, Pair};
use crate::cgroup::Cgroup;
use crate::{Namespace, Place, programs};

/// The nodes' ends.
pub(crate) const INTERFACE: &str = "tun0";
/// The largest packet that a tunnel carries.
const PACKET: usize = 65_536;

/// Starts the process that is the tunnel's wire, and connects the nodes by it.
pub(crate) fn connect(lab: &Cgroup, network: &Namespace, nodes: &[Namespace]) -> Result<Child> {
    let place = Place {
        name: "wire".to_owned(),
        namespace: network.clone(),
        cgroup: lab.child("wire")?,
    };
    let mut command = place.command(programs::lab()?);
    command
        .arg("wire")
        .args(nodes.iter().map(Namespace::name))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut wire = place.spawn(&mut command)?;
    let stdout = wire.stdout.take().context("the tunnel's wire has no output")?;
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .context("reading from the tunnel's wire")?;
    ensure!(line == READY, "the tunnel's wire did not start");
    for (number, node) in (1..).zip(nodes) {
        let Pair { v4, v6 } = address::tunnel(number);
        node.ip(&[
            format!("address add {v4}/24 dev {INTERFACE}"),
            format!("address add {v6}/64 dev {INTERFACE} nodad"),
            format!("link set {INTERFACE} up"),
        ])?;
    }
    Ok(wire)
}

const READY: &str = "the wire is there\n";

/// The wire's own main function: makes an interface in each of two namespaces and copies packets between them.
pub fn wire(first: &str, second: &str) -> Result<()> {
    let [first, second] = [first, second].map(|name| Namespace::existing(name).run(open));
    let (first, second) = (first?, second?);
    print!("{READY}");
    std::io::stdout()
        .flush()
        .context("telling that the wire is there")?;
    thread::scope(|scope| {
        scope.spawn(|| copy(&first, &second));
        copy(&second, &first);
    });
    bail!("an end of the tunnel is gone")
}

/// Makes the interface in this thread's namespace; it lives as long as the file.
fn open() -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .context("opening /dev/net/tun")?;
    // SAFETY: an ifreq is integers and bytes, and is whole when they are all zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(INTERFACE.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the file is open, and the request is an ifreq that outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
    ensure!(
        result == 0,
        "making {INTERFACE}: {}",
        std::io::Error::last_os_error()
    );
    Ok(file)
}

/// Until an end is gone. A packet that the other end cannot take is lost, as on any wire.
fn copy(mut from: &File, mut to: &File) {
    let mut packet = vec![0; PACKET];
    while let Ok(length) = from.read(&mut packet) {
        drop(to.write(&packet[..length]));
    }
}
