//! The network between nodes and client, and the nodes' own settings.

use std::process::Command;

use anyhow::Result;

use crate::address::{self, Family, Pair};
use crate::options::Options;
use crate::{Namespace, ip};

/// A node's name.
pub(crate) fn node_name(number: u8) -> String {
    format!("n{number}")
}

/// The interface that leads out of a node, a pod or the client.
pub(crate) const UPLINK: &str = "eth0";

/// Connects client, nodes and the network between them.
pub(crate) fn connect(
    network: &Namespace,
    client: &Namespace,
    nodes: &[Namespace],
    options: &Options,
) -> Result<()> {
    forward(network)?;
    let mut commands = vec![
        "link add nodes type bridge forward_delay 0".to_owned(),
        "link set nodes up".to_owned(),
    ];
    commands.extend(addresses("nodes", address::NODE_GATEWAY));
    commands.push(veth("client", client));
    commands.push("link set client up".to_owned());
    commands.extend(addresses("client", address::CLIENT_GATEWAY));
    for (number, node) in (1..).zip(nodes) {
        let port = node_name(number);
        commands.push(veth(&port, node));
        commands.push(format!("link set {port} master nodes up"));
    }
    network.ip(&commands)?;
    end(client, address::CLIENT, address::CLIENT_GATEWAY)?;
    for (number, node) in (1..).zip(nodes) {
        forward(node)?;
        reverse_path_filter(node, options.strict)?;
        end(node, address::node(number), address::NODE_GATEWAY)?;
    }
    if options.strict {
        nodes.iter().try_for_each(firewall)?;
    }
    Ok(())
}

/// Routes pods' networks: between nodes by the tunnel if there is one, and from the network and the client by the nodes'
/// addresses, as a cloud's network may.
pub(crate) fn route_pods(network: &Namespace, nodes: &[Namespace], options: &Options) -> Result<()> {
    let gateway = if options.tunnel {
        address::tunnel
    } else {
        address::node
    };
    for (own, node) in (1..).zip(nodes) {
        let others = (1..).take(nodes.len()).filter(|&number| number != own);
        node.ip(&others
            .flat_map(|other| pod_routes(other, gateway(other)))
            .collect::<Vec<_>>())?;
    }
    let all = (1..)
        .take(nodes.len())
        .flat_map(|number| pod_routes(number, address::node(number)));
    network.ip(&all.collect::<Vec<_>>())
}

/// Lets the network route load balancer addresses and externalIPs to a node.
pub(crate) fn route_services_to(network: &Namespace, node: u8) -> Result<()> {
    let gateway = address::node(node);
    let commands = address::ROUTED_TO_A_NODE.map(|prefix| {
        let family = if prefix.contains(':') {
            Family::V6
        } else {
            Family::V4
        };
        format!("route replace {prefix} via {}", gateway.of(family))
    });
    network.ip(&commands)
}

/// One end of a veth pair here, the other, named eth0, in `peer`.
pub(crate) fn veth(name: &str, peer: &Namespace) -> String {
    format!(
        "link add {name} type veth peer name {UPLINK} netns {}",
        peer.name()
    )
}

/// Switches checksum and segmentation offloads of an interface off.
pub(crate) fn switch_offloads_off(namespace: &Namespace, interface: &str) -> Result<()> {
    let mut command = Command::new("ethtool");
    command.args([
        "-K", interface, "rx", "off", "tx", "off", "tso", "off", "gso", "off", "gro", "off",
    ]);
    namespace.run(|| ip::run(&mut command))
}

/// Lets an interface take frames that XDP at its other end sends: a veth loses them unless it receives by NAPI.
pub(crate) fn take_from_xdp(namespace: &Namespace, interface: &str) -> Result<()> {
    let mut command = Command::new("ethtool");
    command.args(["-K", interface, "gro", "on"]);
    namespace.run(|| ip::run(&mut command))
}

fn addresses(interface: &str, pair: Pair) -> [String; 2] {
    [
        format!("address add {}/24 dev {interface}", pair.v4),
        format!("address add {}/64 dev {interface} nodad", pair.v6),
    ]
}

fn end(namespace: &Namespace, own: Pair, gateway: Pair) -> Result<()> {
    let mut commands = vec![format!("link set {UPLINK} up")];
    commands.extend(addresses(UPLINK, own));
    commands.push(format!("route add default via {}", gateway.v4));
    commands.push(format!("route add default via {}", gateway.v6));
    namespace.ip(&commands)
}

fn pod_routes(node: u8, gateway: Pair) -> [String; 2] {
    let [v4, v6] = address::pod_networks(node);
    [
        format!("route add {v4} via {}", gateway.v4),
        format!("route add {v6} via {}", gateway.v6),
    ]
}

fn forward(namespace: &Namespace) -> Result<()> {
    namespace.sysctl("ipv4/ip_forward", "1")?;
    namespace.sysctl("ipv6/conf/all/forwarding", "1")
}

fn reverse_path_filter(node: &Namespace, strict: bool) -> Result<()> {
    let value = if strict { "1" } else { "0" };
    node.sysctl("ipv4/conf/all/rp_filter", value)?;
    node.sysctl("ipv4/conf/default/rp_filter", value)?;
    // It was made before the default was set.
    node.sysctl(&format!("ipv4/conf/{UPLINK}/rp_filter"), value)
}

/// What hardened nodes do: nothing that conntrack calls invalid, and only pods' traffic is forwarded.
fn firewall(node: &Namespace) -> Result<()> {
    const RULES: &str = "
        table inet strict {
            chain input {
                type filter hook input priority 0; policy accept;
                ct state invalid drop
            }
            chain forward {
                type filter hook forward priority 0; policy drop;
                ct state invalid drop
                ip saddr 10.244.0.0/16 accept
                ip daddr 10.244.0.0/16 accept
                ip6 saddr fd00:244::/32 accept
                ip6 daddr fd00:244::/32 accept
            }
        }";
    let mut command = Command::new("nft");
    command.arg(RULES);
    node.run(|| ip::run(&mut command))
}
