//! Overlays: what pods of different nodes say to each other goes through a tunnel of the kernel's.

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::events::Mark;
use lab::{ECHO_PORT, Lab};

use crate::services::from_everywhere;
use crate::{FAR, cluster, received};

/// There and back, each byte compared.
const BYTES: usize = 300_000;

/// A tunnel's devices: what makes them on a node, by its number and the other's, and which carries a family.
struct Overlay {
    devices: fn(own: u8, other: u8) -> Vec<String>,
    carries: fn(Family) -> &'static str,
}

const GENEVE: Overlay = Overlay {
    devices: |_, other| {
        let remote = address::node(other).v4;
        vec![format!("link add gnv0 type geneve id 7 remote {remote}")]
    },
    carries: |_| "gnv0",
};

/// As Calico has it. What our own nodes hand on by DSR looks the same from outside.
const IP_IN_IP: Overlay = Overlay {
    devices: |own, other| {
        let (own, other) = (address::node(own), address::node(other));
        vec![
            format!("link add ipip0 type ipip local {} remote {}", own.v4, other.v4),
            format!(
                "link add ipip6 type ip6tnl mode ip6ip6 local {} remote {} encaplimit none",
                own.v6, other.v6
            ),
        ]
    },
    carries: |family| match family {
        Family::V4 => "ipip0",
        Family::V6 => "ipip6",
    },
};

impl Overlay {
    /// Makes it on a node, leads the other node's pods through it, and waits until the agent has attached to it.
    fn make(&self, lab: &Lab, own: u8, other: u8) -> Result<()> {
        let mut commands = (self.devices)(own, other);
        let addresses = [
            format!("{}/24", address::tunnel(own).v4),
            format!("{}/64", address::tunnel(own).v6),
        ];
        for ((family, address), network) in Family::BOTH
            .into_iter()
            .zip(addresses)
            .zip(address::pod_networks(other))
        {
            let (gateway, device) = (address::tunnel(other).of(family), (self.carries)(family));
            commands.push(format!("link set {device} up"));
            commands.push(format!("address add {address} dev {device}"));
            commands.push(format!("route replace {network} via {gateway} dev {device}"));
        }
        lab.host(own).namespace().ip(&commands)?;
        for family in Family::BOTH {
            let device = (self.carries)(family);
            lab.agent(own)
                .events()?
                .wait(Mark::START, &format!("{device} to be attached to"), |event| {
                    event.message() == "attached" && event.text("interface") == device
                })?;
        }
        Ok(())
    }

    /// Leads the other node's pods by the nodes' own network again, and takes the devices away.
    fn unmake(&self, lab: &Lab, own: u8, other: u8) -> Result<()> {
        let mut commands = Vec::new();
        for (family, network) in Family::BOTH.into_iter().zip(address::pod_networks(other)) {
            commands.push(format!(
                "route replace {network} via {}",
                address::node(other).of(family)
            ));
        }
        let devices = Family::BOTH.map(self.carries);
        commands.push(format!("link delete {}", devices[0]));
        if devices[0] != devices[1] {
            commands.push(format!("link delete {}", devices[1]));
        }
        lab.host(own).namespace().ip(&commands)
    }

    fn serves(&self, lab: &Lab) -> Result<()> {
        self.make(lab, 1, 2)?;
        self.make(lab, 2, 1)?;
        from_everywhere(lab)?;
        for family in Family::BOTH {
            let device = (self.carries)(family);
            let before = received(lab, device)?.1;
            let near = lab.place("near")?;
            let direct = lab.pod("far").address.at(family, ECHO_PORT);
            near.transfer(direct, BYTES).context("past every Service")?;
            near.transfer(cluster(FAR, family), BYTES)?;
            let bytes = received(lab, device)?.1 - before;
            ensure!(bytes >= 2 * BYTES as u64, "only {bytes} bytes by {device}");
        }
        self.unmake(lab, 1, 2)?;
        self.unmake(lab, 2, 1)
    }
}

pub(crate) fn geneve_serves(lab: &Lab) -> Result<()> {
    GENEVE.serves(lab)
}

pub(crate) fn ip_in_ip_serves(lab: &Lab) -> Result<()> {
    IP_IN_IP.serves(lab)
}
