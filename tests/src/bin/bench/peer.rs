//! kube-proxy on the first node of a lab: the peer that Shunt is measured beside.

use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::cluster::ControlPlane;
use lab::cluster::iptables::Iptables;
use lab::{Lab, Place, address};
use serde_json::json;

use crate::usage;

/// The Node whose Services it serves: the lab's first.
const NODE: &str = "n1";
/// How often its work is looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// Longer than it leaves between two syncs if there is something to do.
const QUIET: Duration = Duration::from_millis(1500);
/// The part of one core's time below which nothing is done.
const IDLE: f64 = 0.03;

/// A kube-proxy that runs; it ends with the value.
pub(crate) struct Peer {
    child: Child,
    /// On the lab's node, with a cgroup of its own.
    place: Place,
    /// Its own, and those of the programs that it calls.
    pub(crate) versions: Vec<String>,
}

impl Peer {
    /// Leads the lab's first node to the API server, and starts kube-proxy there.
    pub(crate) fn start(lab: &Lab, plane: &ControlPlane, mode: &str, iptables: Iptables) -> Result<Self> {
        lead_to_api(lab, plane)?;
        let place = plane.apart(lab.host(1), &format!("{mode}-{}", iptables.name()))?;
        let versions = plane.kube_proxy_versions(&place, iptables)?;
        let mut command = plane.kube_proxy(&place, NODE, mode, iptables)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self {
            child: place.spawn(&mut command)?,
            place,
            versions,
        })
    }

    /// That it has ended is an error.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("asking for its end")? {
            Some(status) => bail!("kube-proxy ended with {status}"),
            None => Ok(()),
        }
    }

    /// Waits until it has done all that there was to do.
    pub(crate) fn wait_quiet(&mut self, patience: Duration) -> Result<()> {
        let begin = Instant::now();
        let (mut since, mut last) = (begin, usage::cpu(self.place.cgroup())?);
        while since.elapsed() < QUIET {
            self.check()?;
            ensure!(
                begin.elapsed() < patience,
                "kube-proxy is still at work after {patience:?}"
            );
            let looked = Instant::now();
            std::thread::sleep(PERIOD);
            let now = usage::cpu(self.place.cgroup())?;
            if now - last > IDLE * looked.elapsed().as_secs_f64() {
                since = Instant::now();
            }
            last = now;
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Makes the Node that every peer is on, with its address, for which kube-proxy waits.
pub(crate) fn publish_node(plane: &ControlPlane) -> Result<()> {
    plane.apply(&format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}}}\n"
    ))?;
    let address = address::node(1).v4;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}}).to_string();
    let patch = [
        "patch",
        "node",
        NODE,
        "--subresource=status",
        "--type=merge",
        "--patch",
    ];
    plane.kubectl(&[patch.as_slice(), &[&status]].concat()).map(drop)
}

/// Connects the first node to the network of the API server.
fn lead_to_api(lab: &Lab, plane: &ControlPlane) -> Result<()> {
    static NEXT: AtomicU8 = AtomicU8::new(210);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let node = lab.host(1).namespace();
    plane.place().namespace().ip(&[
        format!(
            "link add lab{number} type veth peer name api netns {}",
            node.name()
        ),
        format!("link set lab{number} master nodes up"),
    ])?;
    let address = Ipv4Addr::from([172, 31, 99, number]);
    node.ip(&[
        "link set api up".to_owned(),
        format!("address add {address}/24 dev api"),
    ])
}
