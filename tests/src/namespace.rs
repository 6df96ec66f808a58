//! Network namespaces.

use std::fs::File;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use crate::ip::ip;

/// A named network namespace below /run/netns. It is deleted by [`crate::clean()`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it, with its loopback up and IPv6 addresses that can be used at once.
    pub(crate) fn create(name: &str) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let namespace = Self {
            name: name.to_owned(),
        };
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
            namespace.sysctl(&format!("ipv6/conf/{scope}/accept_ra"), "0")?;
        }
        // Tests see refusals by ICMP errors: none may be left out because there were many.
        namespace.sysctl("ipv4/icmp_ratemask", "0")?;
        namespace.sysctl("ipv6/icmp/ratemask", "\n")?;
        namespace.ip(&["link set lo up".to_owned()])?;
        Ok(namespace)
    }

    /// One that exists.
    pub(crate) fn existing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }

    /// Its name below /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs the closure in a thread inside the namespace. Processes that it starts are inside too, and keep the
    /// mounts of this process: `ip netns exec` would hide bpffs and the cgroups.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(self.path()).with_context(|| format!("opening the namespace {}", self.name))?;
        let inside = move || {
            setns(file, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
            action()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .map_err(|_| anyhow!("a thread inside {} panicked", self.name))?
    }

    /// Sets a value below /proc/sys/net of this namespace.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys/net").join(key);
        self.run(|| {
            std::fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
        })
        .with_context(|| format!("in the namespace {}", self.name))
    }

    /// Runs ip(8) commands in this namespace, all or an error.
    pub fn ip(&self, commands: &[String]) -> Result<()> {
        crate::ip::batch(&self.name, commands)
    }
}
