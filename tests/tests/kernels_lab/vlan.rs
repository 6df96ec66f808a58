//! A VLAN's own device as an uplink, beside the device below it, whose XDP must leave tagged frames to TC.
//!
//! ```text
//! client ──── network ═══ eth0 ───── n1     untagged: XDP at eth0
//!                    └─── eth0.5 ─────┘     tagged, on the same cable: TC at eth0.5
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family, Pair};
use lab::call::Transport;
use lab::{Lab, Namespace};

use crate::{CALLS, FAR, NEAR, TRANSPORTS, call, node_port, received, tells_xdp_features};

const VLAN: &str = "eth0.5";
/// The node's addresses in the VLAN, and the network's.
const NODE: Pair = Pair {
    v4: Ipv4Addr::new(192, 168, 50, 1),
    v6: Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 1),
};
const NETWORK: Pair = Pair {
    v4: Ipv4Addr::new(192, 168, 50, 254),
    v6: Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 0xfe),
};

pub(crate) fn serves(lab: &Lab) -> Result<()> {
    // Before there is a VLAN, XDP takes part where a veth can.
    let native = if tells_xdp_features()? {
        "eth0: native"
    } else {
        "eth0: TC only: the other end"
    };
    ensure!(xdp(lab)?.starts_with(native), "{}", xdp(lab)?);
    let before = forwarded(lab)?;
    for transport in [Transport::Tcp, Transport::Udp] {
        call(
            &lab.client,
            transport,
            address::node(1).at(Family::V4, node_port(FAR)),
            1,
        )?;
    }
    ensure!(
        (forwarded(lab)? > before) == tells_xdp_features()?,
        "from {before} to {} packets by XDP",
        forwarded(lab)?
    );
    make(lab)?;
    // Tags may stand beside the frame, where XDP does not see them, or in it. On a veth its other end decides.
    for (length, beside) in [(998, true), (999, false)] {
        let switch = if beside { "on" } else { "off" };
        offload(lab.network(), "n1", "txvlan", switch)?;
        offload(lab.host(1).namespace(), "eth0", "rxvlan", switch)?;
        look_again(lab, length)?;
        let said = xdp(lab)?;
        println!("tags beside frames: {switch}: {said}");
        let expected = if beside {
            "eth0: TC only: VLANs stand on it"
        } else {
            native
        };
        ensure!(said.starts_with(expected), "tags beside frames: {switch}: {said}");
        let (before, packets) = (forwarded(lab)?, received(lab, VLAN)?.0);
        for family in Family::BOTH {
            for transport in TRANSPORTS {
                for number in [NEAR, FAR] {
                    call(&lab.client, transport, NODE.at(family, node_port(number)), 1)?;
                }
            }
        }
        let (sent, packets) = (forwarded(lab)? - before, received(lab, VLAN)?.0 - packets);
        ensure!(
            sent == 0,
            "{said}: XDP at eth0 sent {sent} packets of the VLAN's calls on"
        );
        let least = (2 * TRANSPORTS.len() * 2 * CALLS) as u64;
        ensure!(packets >= least, "only {packets} packets came by {VLAN}");
    }
    unmake(lab)
}

fn make(lab: &Lab) -> Result<()> {
    let node = lab.host(1).namespace();
    for (namespace, lower, device, own) in
        [(lab.network(), "n1", "n1.5", NETWORK), (node, "eth0", VLAN, NODE)]
    {
        namespace.ip(&[
            format!("link add link {lower} name {device} type vlan id 5"),
            format!("link set {device} up"),
            format!("address add {}/24 dev {device}", own.v4),
            format!("address add {}/64 dev {device}", own.v6),
        ])?;
    }
    let mark = lab.agent(1).mark();
    // What makes it an uplink.
    node.ip(&[
        format!("route add default via {} dev {VLAN} metric 5000", NETWORK.v4),
        format!("route add default via {} dev {VLAN} metric 5000", NETWORK.v6),
    ])?;
    lab.agent(1)
        .events()?
        .wait(mark, "the VLAN to be attached to", |event| {
            event.message() == "attached" && event.text("interface") == VLAN
        })
        .map(drop)
}

fn unmake(lab: &Lab) -> Result<()> {
    lab.host(1).namespace().ip(&[format!("link delete {VLAN}")])?;
    lab.network().ip(&["link delete n1.5".to_owned()])
}

/// Packets that XDP of the first node has sent on.
fn forwarded(lab: &Lab) -> Result<u64> {
    lab.agent(1).counter("xdp_forwarded")
}

/// What the doctor says of XDP at the cable.
fn xdp(lab: &Lab) -> Result<String> {
    let checks = lab.agent(1).doctor()?;
    let found = checks
        .as_array()
        .context("doctor prints a list")?
        .iter()
        .filter(|check| check["name"] == "xdp")
        .filter_map(|check| check["found"].as_str())
        .find(|found| found.starts_with("eth0: "));
    found
        .map(str::to_owned)
        .context("the doctor says nothing of XDP at eth0")
}

fn offload(namespace: &Namespace, device: &str, name: &str, switch: &str) -> Result<()> {
    let output = namespace.run(|| {
        let mut command = Command::new("ethtool");
        command
            .args(["-K", device, name, switch])
            .output()
            .context("starting ethtool")
    })?;
    ensure!(output.status.success(), "{device} {name} {switch}: {output:?}");
    Ok(())
}

/// Lets the agent look at its uplinks again, and waits until it has: UPLINKS shows what it found.
fn look_again(lab: &Lab, length: u32) -> Result<()> {
    lab.host(1)
        .namespace()
        .ip(&[format!("link set eth0 txqueuelen {length}")])?;
    // What the agent says of a later event comes after what it did about this one.
    let mark = lab.agent(1).mark();
    let probe = format!("seen{length}");
    lab.host(1).namespace().ip(&[
        format!("link add {probe} type bridge"),
        format!("link set {probe} up"),
        format!("address add 192.168.60.1/24 dev {probe}"),
        format!("route add 192.168.61.0/24 via 192.168.60.2 dev {probe}"),
    ])?;
    lab.agent(1)
        .events()?
        .wait(mark, "the agent to have seen a change", |event| {
            event.message() == "attached" && event.text("interface") == probe
        })?;
    lab.host(1).namespace().ip(&[format!("link delete {probe}")])
}
