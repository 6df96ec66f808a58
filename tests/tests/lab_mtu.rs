//! A way that is narrower behind the node: what is handed to another node's pod around the stack must fit, and its
//! sender must be told.

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Options};

const NODE_PORT: u16 = 30_080;
const MTU: u32 = 1300;

#[test]
fn a_client_learns_of_a_narrow_way_to_a_remote_backend() -> Result<()> {
    for offloads in [true, false] {
        let mut lab = Lab::start(Options {
            offloads,
            ..Options::default()
        })?;
        lab.add_pod("c", 2)?;
        let service = Service::new("narrow", 1, 80, ECHO_PORT)
            .node_port(NODE_PORT)
            .over([lab.pod("c")]);
        lab.apply(&service)?;
        let pods = address::pod_networks(2);
        let routes: Vec<_> = Family::BOTH
            .into_iter()
            .zip(pods)
            .map(|(family, pods)| {
                let gateway = address::node(2).of(family);
                format!("route replace {pods} via {gateway} mtu lock {MTU}")
            })
            .collect();
        lab.host(1).namespace().ip(&routes)?;
        for family in Family::BOTH {
            let before = counter(&lab, "too_big")?;
            lab.client
                .transfer(address::node(1).at(family, NODE_PORT), 1_000_000)
                .with_context(|| format!("{family}, offloads {offloads}"))?;
            let after = counter(&lab, "too_big")?;
            ensure!(
                after > before,
                "{family}, offloads {offloads}: nothing was too big: the way was not narrow"
            );
        }
    }
    Ok(())
}

fn counter(lab: &Lab, name: &str) -> Result<u64> {
    let drops = lab.agent(1).ask("drops")?;
    let rows = drops.as_array().context("drops are no list")?;
    let row = rows
        .iter()
        .find(|row| row["name"] == name)
        .with_context(|| format!("no counter {name} in {drops}"))?;
    row["value"]
        .as_u64()
        .with_context(|| format!("no count in {row}"))
}
