//! Random clusters of few names, addresses and ports, so that everything collides, and the questions worth asking there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lab::oracle::{
    Endpoint, Ingress, NodePorts, Protocol, Question, Service, ServicePort, Slice, SlicePort, World,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const NODE: &str = "here";
const PORTS: [u16; 3] = [80, 443, 30080];
const NODE_PORTS: [u16; 3] = [0, 30080, 30081];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
const PORT_NAMES: [&str; 2] = ["a", "b"];
const SERVICES: usize = 3;
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// An address of a network of the family: 10.N.0.last, or fdNN::last. The kernel's test run routes those of nodes and pods.
fn address(is_v4: bool, network: u8, last: u8) -> IpAddr {
    if is_v4 {
        Ipv4Addr::new(10, network, 0, last).into()
    } else {
        Ipv6Addr::new(0xfd00 + u16::from(network), 0, 0, 0, 0, 0, 0, last.into()).into()
    }
}

fn network(is_v4: bool, network: u8) -> (IpAddr, u8) {
    (address(is_v4, network, 0), if is_v4 { 24 } else { 64 })
}

const CLUSTER: u8 = 0x60;
const BALANCER: u8 = 0x61;
const NODES: u8 = 1;
/// Where the node has its second addresses.
const BESIDE: u8 = 6;
const PODS_HERE: u8 = 4;
const PODS_THERE: u8 = 5;
const WORLD: u8 = 8;

fn node_address(is_v4: bool) -> IpAddr {
    address(is_v4, NODES, 1)
}

fn node_ports() -> impl Strategy<Value = Vec<NodePorts>> {
    let within = |is_v4, of| {
        let (address, length) = network(is_v4, of);
        NodePorts::Within(address, length)
    };
    select(vec![
        vec![],
        vec![],
        vec![NodePorts::All],
        vec![NodePorts::Primary],
        vec![NodePorts::Localhost],
        vec![NodePorts::Primary, NodePorts::Localhost],
        vec![within(true, BESIDE)],
        vec![within(false, BESIDE), NodePorts::Localhost],
        vec![within(true, NODES), within(false, BESIDE)],
        vec![within(true, WORLD)],
    ])
}

fn families() -> impl Strategy<Value = Vec<bool>> {
    select(vec![
        vec![true],
        vec![false],
        vec![true, false],
        vec![false, true],
    ])
}

/// Addresses that several Services may ask for; one of them is the node's own.
fn shared_address() -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), 0..3_u8).prop_map(|(is_v4, last)| match last {
        0 => node_address(is_v4),
        last => address(is_v4, BALANCER, last),
    })
}

fn ingress() -> impl Strategy<Value = Ingress> {
    let ip = prop::option::weighted(0.9, shared_address());
    (ip, prop::bool::weighted(0.2)).prop_map(|(ip, is_proxy)| Ingress { ip, is_proxy })
}

fn source_range() -> impl Strategy<Value = (IpAddr, u8)> {
    (any::<bool>(), select(vec![NODES, PODS_HERE, WORLD])).prop_map(|(is_v4, of)| network(is_v4, of))
}

/// One port or two, of which names, numbers and node ports differ.
fn service_ports() -> impl Strategy<Value = Vec<ServicePort>> {
    let port = (
        select(PORTS.to_vec()),
        select(NODE_PORTS.to_vec()),
        select(PROTOCOLS.to_vec()),
    );
    prop::collection::vec(port, 1..=2).prop_map(|ports| {
        let mut all: Vec<ServicePort> = Vec::new();
        for ((port, node_port, protocol), name) in ports.into_iter().zip(PORT_NAMES) {
            let is_taken = |other: &ServicePort| {
                other.protocol == protocol
                    && (other.port == port || other.node_port != 0 && other.node_port == node_port)
            };
            if !all.iter().any(is_taken) {
                all.push(ServicePort {
                    name,
                    protocol,
                    port,
                    node_port,
                });
            }
        }
        all
    })
}

fn service(number: usize) -> impl Strategy<Value = Service> {
    let kind = select(vec![
        "ClusterIP",
        "NodePort",
        "LoadBalancer",
        "LoadBalancer",
        "ExternalName",
    ]);
    let own = (
        0..4_u32,
        prop::bool::weighted(0.1),
        kind,
        prop::option::weighted(0.95, families()),
    );
    let policies = (
        any::<bool>(),
        any::<bool>(),
        prop::option::weighted(0.3, 1..86_400_u32),
    );
    let reached = (
        service_ports(),
        prop::collection::vec(shared_address(), 0..2),
        prop::collection::vec(ingress(), 0..3),
        prop::collection::vec(source_range(), 0..2),
    );
    (own, policies, reached).prop_map(move |(own, policies, reached)| {
        let (created, is_another_proxys, kind, families) = own;
        let (is_internal_local, is_external_local, affinity) = policies;
        let (ports, external_ips, ingress, source_ranges) = reached;
        let families = families.unwrap_or_default().into_iter();
        Service {
            name: format!("s{number}"),
            created,
            is_another_proxys,
            kind,
            cluster_ips: families
                .map(|is_v4| address(is_v4, CLUSTER, number as u8 + 1))
                .collect(),
            ports,
            is_internal_local,
            is_external_local,
            external_ips,
            ingress,
            source_ranges,
            affinity,
        }
    })
}

fn endpoint(is_v4: bool) -> impl Strategy<Value = Endpoint> {
    let place = select(vec![
        (Some(NODE), PODS_HERE),
        (Some("there"), PODS_THERE),
        (None, PODS_THERE),
    ]);
    let condition = |yes: f64| prop::option::weighted(0.8, prop::bool::weighted(yes));
    let conditions = (condition(0.7), condition(0.8), condition(0.3));
    let hints = prop_oneof![
        2 => Just(None),
        1 => Just(Some((vec![NODE], vec!["z1"]))),
        1 => Just(Some((vec!["there"], vec!["z1"]))),
        1 => Just(Some((vec!["there"], vec!["z2"]))),
        1 => Just(Some((vec![], vec!["z1", "z2"]))),
    ];
    (place, 1..4_u8, conditions, hints).prop_map(move |((node, of), last, conditions, hints)| {
        let (node_hints, zone_hints) = hints.unwrap_or_default();
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        Endpoint {
            address: address(is_v4, of, last),
            ready: conditions.0,
            serving: conditions.1,
            terminating: conditions.2,
            node: node.map(str::to_owned),
            node_hints: owned(node_hints),
            zone_hints: owned(zone_hints),
        }
    })
}

/// Most of the ports that Services may ask for.
fn slice_ports() -> impl Strategy<Value = Vec<SlicePort>> {
    let all: Vec<(&str, Protocol)> = PORT_NAMES
        .into_iter()
        .flat_map(|name| PROTOCOLS.map(|protocol| (name, protocol)))
        .collect();
    let count = all.len();
    let chosen = subsequence(all, count - 1..=count);
    (chosen, select(vec![8080_u16, 9090])).prop_map(|(chosen, port)| {
        let port = |(name, protocol)| SlicePort { name, protocol, port };
        chosen.into_iter().map(port).collect()
    })
}

fn slice() -> impl Strategy<Value = Slice> {
    (any::<bool>(), 0..SERVICES).prop_flat_map(|(is_v4, service)| {
        let endpoints = prop::collection::vec(endpoint(is_v4), 0..5);
        (slice_ports(), endpoints).prop_map(move |(ports, endpoints)| Slice {
            name: String::new(),
            service: format!("s{service}"),
            is_v4,
            ports,
            endpoints,
        })
    })
}

/// A cluster as one node sees it.
pub(crate) fn world() -> impl Strategy<Value = World> {
    let services = subsequence((0..SERVICES).collect::<Vec<_>>(), SERVICES - 1..=SERVICES)
        .prop_flat_map(|numbers| numbers.into_iter().map(service).collect::<Vec<_>>());
    let zone = prop::option::weighted(0.8, select(vec!["z1", "z2", "z3"]));
    let slices = prop::collection::vec(slice(), 2..10);
    (services, zone, slices, node_ports()).prop_map(|(services, zone, mut slices, node_ports)| {
        for (number, slice) in slices.iter_mut().enumerate() {
            slice.name = format!("slice-{number}");
        }
        World {
            node: NODE.to_owned(),
            zone: zone.map(str::to_owned),
            node_addresses: vec![
                node_address(true),
                node_address(false),
                address(true, BESIDE, 1),
                address(false, BESIDE, 1),
            ],
            node_ports,
            pod_ranges: vec![network(true, PODS_HERE), network(false, PODS_HERE)],
            services,
            slices,
        }
    })
}

/// From everywhere to all that Services may be reached at, and to some places where none is.
pub(crate) fn questions(world: &World) -> Vec<Question> {
    let mut to: BTreeSet<(IpAddr, u16, Protocol)> = BTreeSet::new();
    for service in &world.services {
        let ingress = service.ingress.iter().filter_map(|ingress| ingress.ip);
        let own = service.cluster_ips.iter().chain(&service.external_ips).copied();
        let own: Vec<IpAddr> = own.chain(ingress).collect();
        for port in &service.ports {
            to.extend(own.iter().map(|ip| (*ip, port.port, port.protocol)));
            to.extend(
                world
                    .node_addresses
                    .iter()
                    .chain(&LOOPBACK)
                    .map(|ip| (*ip, port.node_port.max(1), port.protocol)),
            );
        }
        to.extend(own.iter().map(|ip| (*ip, 81, Protocol::Tcp)));
    }
    to.insert((address(true, CLUSTER, 9), 80, Protocol::Tcp));
    to.insert((address(false, PODS_THERE, 1), 8080, Protocol::Udp));
    let from = |is_v4| {
        [
            node_address(is_v4),
            address(is_v4, BESIDE, 1),
            address(is_v4, PODS_HERE, 1),
            address(is_v4, PODS_HERE, 9),
            address(is_v4, PODS_THERE, 1),
            address(is_v4, WORLD, 7),
        ]
    };
    to.into_iter()
        .flat_map(|(ip, port, protocol)| {
            // Nobody else's packets to loopback come to a node.
            let callers = if ip.is_loopback() {
                vec![ip]
            } else {
                from(ip.is_ipv4()).to_vec()
            };
            callers.into_iter().map(move |from| Question {
                from,
                to: SocketAddr::new(ip, port),
                protocol,
            })
        })
        .collect()
}
