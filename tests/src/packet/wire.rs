//! A network namespace of the test's own thread, with an uplink, a pod's interface and routes, so that the programs'
//! look-ups in the routing table are real.
//!
//! ```text
//! uplink   10.1.0.1/16,  fd01::1/16   MTU 1500; other nodes' pods are 10.5.0.0/16 and fd05::/16 by .2, and so is 8.0.1.0/24
//! narrow   10.6.0.1/16,  fd06::1/16   MTU 1280
//! pod      10.4.0.0/16,  fd04::/16    this node's pods
//! ```
//! The neighbours .2, .20 and .21 (hexadecimal) of uplink and narrow are known. There is no default route: 10.9.0.0/16 and fd09::/16 lead nowhere.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use crate::ip::{ip, run};

/// The interfaces' indices.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// To other nodes.
    pub uplink: u32,
    /// To other nodes, too, with a small MTU.
    pub narrow: u32,
    /// A pod's.
    pub pod: u32,
}

/// The address of all its interfaces.
const OWN: &str = "02:00:00:00:00:01";

/// Moves this thread into a namespace of its own and sets it up. It ends with the thread.
pub fn enter() -> Result<Wire> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace: run as root")?;
    for (name, prefix, mtu) in [("uplink", 1, "1500"), ("narrow", 6, "1280"), ("pod", 4, "1500")] {
        let far = format!("{name}-far");
        ip(&[
            "link", "add", "name", name, "address", OWN, "mtu", mtu, "type", "veth", "peer", "name", &far,
        ])?;
        set("ipv6/conf", name, "accept_dad", "0")?;
        // Without it a veth has no queues of XDP, and the kernel runs no XDP program in its name.
        run(Command::new("ethtool").args(["-K", name, "gro", "on"]))?;
        ip(&["link", "set", &far, "up"])?;
        ip(&["link", "set", name, "up"])?;
        ip(&["address", "add", &format!("10.{prefix}.0.1/16"), "dev", name])?;
        ip(&["address", "add", &format!("fd0{prefix}::1/16"), "dev", name])?;
    }
    ip(&["route", "add", "10.5.0.0/16", "via", "10.1.0.2"])?;
    ip(&["route", "add", "8.0.1.0/24", "via", "10.1.0.2"])?;
    ip(&["route", "add", "fd05::/16", "via", "fd01::2"])?;
    for (name, prefix) in [("uplink", 1), ("narrow", 6)] {
        // The way on, and two clients of whom XDP must know how to reach them.
        let hosts =
            [2, 0x20, 0x21].map(|host| [format!("10.{prefix}.0.{host}"), format!("fd0{prefix}::{host:x}")]);
        for hop in hosts.concat() {
            ip(&[
                "neighbour",
                "add",
                &hop,
                "lladdr",
                "02:00:00:00:00:02",
                "dev",
                name,
            ])?;
        }
    }
    for family in ["ipv4", "ipv6"] {
        set(&format!("{family}/conf"), "all", "forwarding", "1")?;
    }
    Ok(Wire {
        uplink: if_nametoindex("uplink")?,
        narrow: if_nametoindex("narrow")?,
        pod: if_nametoindex("pod")?,
    })
}

impl Wire {
    /// Changes the namespace by a command of `ip`.
    pub fn change(&self, command: &str) {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        ip(&arguments).unwrap_or_else(|error| panic!("{error:?}"));
    }
}

fn set(folder: &str, interface: &str, key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net").join(folder).join(interface).join(key);
    std::fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
}
