//! Uplinks that stand on others, by real sockets: an overlay between the nodes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Transport};
use lab::events::Mark;
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Options};

const NODE_PORT: u16 = 30_082;
const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::OneUdpSocket];
const CALLS: usize = 10;
const BULK: usize = 2_000_000;

fn wait_attached(lab: &Lab, node: u8, interface: &str) -> Result<()> {
    lab.agent(node)
        .events()?
        .wait(Mark::START, &format!("{interface} to be attached to"), |event| {
            event.message() == "attached" && event.text("interface") == interface
        })
        .map(drop)
}

fn serve(lab: &mut Lab) -> Result<()> {
    lab.add_pod("b", 1)?;
    lab.add_pod("c", 2)?;
    for (name, number, node_port, pod) in [("near", 1, NODE_PORT + 1, "b"), ("far", 2, NODE_PORT, "c")] {
        let service = Service::new(name, number, 80, ECHO_PORT).node_port(node_port);
        lab.apply(&service.over([lab.pod(pod)]))?;
    }
    Ok(())
}

/// Calls that the pod must answer, and the addresses from which it sees them.
fn calls(lab: &Lab, to: SocketAddr, pod: &str) -> Result<BTreeSet<IpAddr>> {
    let mut peers = BTreeSet::new();
    for transport in TRANSPORTS {
        let outcomes = lab.client.calls(Calls {
            payload: 1200,
            ..Calls::new(transport, to, CALLS)
        })?;
        ensure!(
            outcomes.all_answered() && outcomes.by_name().contains_key(pod),
            "{transport} to {to}: {outcomes}"
        );
        peers.extend(outcomes.answers().map(|answer| answer.peer.ip()));
    }
    Ok(peers)
}

/// Pods of the other node are reached through a VXLAN: a device with link-layer headers and an address of its own.
#[test]
fn an_overlay_is_sent_by_with_its_own_address() -> Result<()> {
    for (strict, offloads) in [(false, true), (true, false)] {
        let mut lab = Lab::build(Options {
            strict,
            offloads,
            ..Options::default()
        })?;
        for (own, other) in [(1, 2), (2, 1)] {
            let node = lab.host(own).namespace();
            let (near, far) = (address::tunnel(own), address::tunnel(other));
            let [pods4, pods6] = address::pod_networks(other);
            node.ip(&[
                format!(
                    "link add vx0 type vxlan id 7 dstport 4789 local {} remote {} dev eth0",
                    address::node(own).v4,
                    address::node(other).v4
                ),
                "link set vx0 up".to_owned(),
                format!("address add {}/24 dev vx0", near.v4),
                format!("address add {}/64 dev vx0 nodad", near.v6),
                format!("route replace {pods4} via {}", far.v4),
                format!("route replace {pods6} via {}", far.v6),
            ])?;
        }
        lab.start_agents()?;
        wait_attached(&lab, 1, "vx0")?;
        serve(&mut lab)?;
        for family in Family::BOTH {
            let what = || format!("{family} {}", lab.options());
            let to = address::node(1).at(family, NODE_PORT);
            let peers = calls(&lab, to, "c").with_context(what)?;
            let own = address::tunnel(1).of(family);
            ensure!(
                peers == BTreeSet::from([own]),
                "{}: the pod sees {peers:?}, not {own}",
                what()
            );
            lab.client.transfer(to, BULK).with_context(what)?;
            // The client's own address, through the stack.
            let to = address::node(1).at(family, NODE_PORT + 1);
            let peers = calls(&lab, to, "b").with_context(what)?;
            ensure!(peers == BTreeSet::from([address::CLIENT.of(family)]), "{peers:?}");
        }
    }
    Ok(())
}
