//! What becomes of a new flow, read off the rules one after another.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::node_ports;
use super::world::{Endpoint, Protocol, Service, ServicePort, World};

/// A new flow.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Its source.
    pub from: IpAddr,
    /// Its destination.
    pub to: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
}

/// What becomes of a new flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it goes on.
    pub verdict: Verdict,
    /// Every backend that it could get.
    pub backends: BTreeSet<SocketAddr>,
    /// Whose address the backend sees.
    pub source: Source,
    /// Whether clients of the Service that was met keep their backends.
    pub affinity: bool,
}

/// Whether a flow goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To a backend.
    Forward,
    /// Its sender hears that nobody is there.
    Reject,
    /// Its sender hears nothing.
    Drop,
    /// Nobody asked for it to be looked at.
    NotAService,
}

/// Whose address a backend sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's.
    Kept,
    /// The node's.
    Masqueraded,
    /// The node's if the backend is on another node.
    MasqueradedToRemote,
}

/// Where a source stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Host,
    PodOfThisNode,
    Outside,
}

/// What a frontend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ClusterIp,
    LoadBalancer,
    ExternalIp,
    NodePort,
}

impl Answer {
    fn without_backend(verdict: Verdict, affinity: bool) -> Self {
        Self {
            verdict,
            backends: BTreeSet::new(),
            source: Source::Kept,
            affinity,
        }
    }
}

/// What becomes of a new flow.
pub fn answer(world: &World, question: &Question) -> Answer {
    let Some((service, port, kind)) = frontend(world, question) else {
        return Answer::without_backend(unserved(world, question), false);
    };
    let affinity = service.affinity.is_some();
    let place = place(world, question.from);
    if kind == Kind::LoadBalancer && !is_let_in(world, service, question, place) {
        return Answer::without_backend(Verdict::Drop, affinity);
    }
    let is_local_only = match kind {
        Kind::ClusterIp => service.is_internal_local,
        // Whoever is on this node stands for the way out to the load balancer and back to any node.
        _ => service.is_external_local && place == Place::Outside,
    };
    let endpoints = endpoints(world, service, port, question.to.is_ipv4());
    let chosen: Vec<&Candidate<'_>> = if is_local_only {
        local_list(world, &endpoints)
    } else {
        cluster_list(world, &endpoints)
    };
    if chosen.is_empty() {
        let is_any_usable = endpoints.iter().any(|one| is_ready(one) || is_last_resort(one));
        let verdict = if is_any_usable {
            Verdict::Drop
        } else {
            Verdict::Reject
        };
        return Answer::without_backend(verdict, affinity);
    }
    let is_itself = |one: &&Candidate<'_>| one.endpoint.address == question.from;
    let source = if place != Place::Host && chosen.iter().all(is_itself) {
        Source::Masqueraded
    } else if place == Place::Outside && !is_local_only {
        // Named difference from kube-proxy: a backend of this node sees who calls.
        Source::MasqueradedToRemote
    } else {
        Source::Kept
    };
    Answer {
        verdict: Verdict::Forward,
        backends: chosen
            .iter()
            .map(|one| SocketAddr::new(one.endpoint.address, one.port))
            .collect(),
        source,
        affinity,
    }
}

/// A5: what no Service serves at a cluster address is refused; at another address of a Service it may not go back to where it
/// came from.
fn unserved(world: &World, question: &Question) -> Verdict {
    let to = question.to.ip();
    let has = |kinds: &[Kind]| {
        let services = world.services.iter().filter(|service| is_served(service));
        services
            // A18: without a cluster address of the family it has nothing there; without a port it has no frontend.
            .filter(|service| service.cluster_ips.iter().any(|ip| ip.is_ipv4() == to.is_ipv4()))
            .filter(|service| !service.ports.is_empty())
            .any(|service| kinds.iter().any(|kind| addresses(service, *kind).contains(&to)))
    };
    if world.node_addresses.contains(&to) {
        Verdict::NotAService
    } else if has(&[Kind::ClusterIp]) {
        Verdict::Reject
    } else if has(&[Kind::LoadBalancer, Kind::ExternalIp]) && place(world, question.from) == Place::Outside {
        Verdict::Drop
    } else {
        Verdict::NotAService
    }
}

/// A1: Services with an address of their own, which no other proxy has.
fn is_served(service: &Service) -> bool {
    !service.is_another_proxys && service.kind != "ExternalName" && !service.cluster_ips.is_empty()
}

/// Whose frontend a destination is: an address counts before a node port, and of two that claim it the older.
fn frontend<'a>(world: &'a World, question: &Question) -> Option<(&'a Service, &'a ServicePort, Kind)> {
    let mut by_address = Vec::new();
    let mut by_node_port = Vec::new();
    let to = question.to;
    for service in world.services.iter().filter(|service| is_served(service)) {
        // A18: what a Service has of a family hangs on its cluster address of that family.
        if !service.cluster_ips.iter().any(|ip| ip.is_ipv4() == to.is_ipv4()) {
            continue;
        }
        for port in service
            .ports
            .iter()
            .filter(|port| port.protocol == question.protocol)
        {
            for kind in [Kind::ClusterIp, Kind::LoadBalancer, Kind::ExternalIp] {
                if port.port == to.port() && addresses(service, kind).contains(&to.ip()) {
                    by_address.push((service, port, kind));
                    break;
                }
            }
            let has_node_ports = matches!(service.kind, "NodePort" | "LoadBalancer");
            if has_node_ports && port.node_port == to.port() && port.node_port != 0 {
                by_node_port.push((service, port, Kind::NodePort));
            }
        }
    }
    let oldest = |claims: Vec<(&'a Service, &'a ServicePort, Kind)>| {
        claims
            .into_iter()
            .min_by_key(|(service, _, _)| (service.created, &service.name))
    };
    let is_answered = node_ports::answer_at(world, to.ip());
    oldest(by_address).or_else(|| oldest(by_node_port).filter(|_| is_answered))
}

fn addresses(service: &Service, kind: Kind) -> Vec<IpAddr> {
    match kind {
        Kind::ClusterIp => service.cluster_ips.clone(),
        Kind::ExternalIp => service.external_ips.clone(),
        // A8: a name is no address, and `ipMode: Proxy` asks for its packets to go out to it.
        Kind::LoadBalancer if service.kind == "LoadBalancer" => {
            let ours = service.ingress.iter().filter(|ingress| !ingress.is_proxy);
            ours.filter_map(|ingress| ingress.ip).collect()
        }
        Kind::LoadBalancer | Kind::NodePort => Vec::new(),
    }
}

fn place(world: &World, from: IpAddr) -> Place {
    if world.node_addresses.contains(&from) || from.is_loopback() {
        return Place::Host;
    }
    if world.pod_ranges.iter().any(|range| is_within(from, *range)) {
        Place::PodOfThisNode
    } else {
        Place::Outside
    }
}

/// A8: the ranges of the flow's family, if there are any, say who may come.
fn is_let_in(world: &World, service: &Service, question: &Question, place: Place) -> bool {
    let is_v4 = question.to.is_ipv4();
    let source = match place {
        Place::Host => world
            .node_addresses
            .iter()
            .copied()
            .find(|ip| ip.is_ipv4() == is_v4),
        _ => Some(question.from),
    };
    let mut ranges = service
        .source_ranges
        .iter()
        .filter(|range| range.0.is_ipv4() == is_v4)
        .peekable();
    ranges.peek().is_none() || source.is_some_and(|source| ranges.any(|range| is_within(source, *range)))
}

pub(super) fn is_within(address: IpAddr, (first, length): (IpAddr, u8)) -> bool {
    let bits = |ip: IpAddr| -> Vec<bool> {
        let octets = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let of_octet = |octet: u8| (0..8).rev().map(move |bit| octet >> bit & 1 == 1);
        octets
            .into_iter()
            .flat_map(of_octet)
            .take(length.into())
            .collect()
    };
    address.is_ipv4() == first.is_ipv4() && bits(address) == bits(first)
}

/// One endpoint at one port.
struct Candidate<'a> {
    endpoint: &'a Endpoint,
    port: u16,
}

/// A2: all slices of the Service and of the family, by the port's name; of two with one address and port the one that
/// lives.
fn endpoints<'a>(world: &'a World, service: &Service, port: &ServicePort, is_v4: bool) -> Vec<Candidate<'a>> {
    let mut all: Vec<Candidate<'a>> = Vec::new();
    for slice in &world.slices {
        if slice.service != service.name || slice.is_v4 != is_v4 {
            continue;
        }
        for slice_port in &slice.ports {
            if slice_port.name != port.name || slice_port.protocol != port.protocol {
                continue;
            }
            for endpoint in &slice.endpoints {
                let candidate = Candidate {
                    endpoint,
                    port: slice_port.port,
                };
                let same = |other: &Candidate<'_>| {
                    other.endpoint.address == endpoint.address && other.port == candidate.port
                };
                match all.iter().position(same) {
                    None => all.push(candidate),
                    Some(place) if is_terminating(&all[place]) && !is_terminating(&candidate) => {
                        all[place] = candidate;
                    }
                    Some(_) => {}
                }
            }
        }
    }
    all
}

/// A2: what is not said of readiness is yes, of termination no.
fn is_ready(candidate: &Candidate<'_>) -> bool {
    candidate.endpoint.ready != Some(false)
}

fn is_terminating(candidate: &Candidate<'_>) -> bool {
    candidate.endpoint.terminating == Some(true)
}

/// A3: serves while it ends.
fn is_last_resort(candidate: &Candidate<'_>) -> bool {
    candidate.endpoint.serving != Some(false) && is_terminating(candidate)
}

/// A3, 1: ready ones that topology allows; if there are none, whoever serves while it ends.
fn cluster_list<'a, 'b>(world: &World, all: &'a [Candidate<'b>]) -> Vec<&'a Candidate<'b>> {
    let ready: Vec<&Candidate<'_>> = all.iter().filter(|one| is_ready(one)).collect();
    let for_this_node = |one: &Candidate<'_>| one.endpoint.node_hints.contains(&world.node);
    let for_this_zone = |one: &Candidate<'_>| {
        let mut zones = one.endpoint.zone_hints.iter();
        zones.any(|zone| Some(zone) == world.zone.as_ref())
    };
    let all_say_nodes = ready.iter().all(|one| !one.endpoint.node_hints.is_empty());
    let all_say_zones = ready.iter().all(|one| !one.endpoint.zone_hints.is_empty());
    let allowed: Vec<&Candidate<'_>> = if all_say_nodes && ready.iter().any(|one| for_this_node(one)) {
        ready.into_iter().filter(|one| for_this_node(one)).collect()
    } else if all_say_zones && ready.iter().any(|one| for_this_zone(one)) {
        ready.into_iter().filter(|one| for_this_zone(one)).collect()
    } else {
        ready
    };
    if allowed.is_empty() {
        all.iter().filter(|one| is_last_resort(one)).collect()
    } else {
        allowed
    }
}

/// A3, 2: the same of this node, whatever the topology.
fn local_list<'a, 'b>(world: &World, all: &'a [Candidate<'b>]) -> Vec<&'a Candidate<'b>> {
    let is_here = |one: &&Candidate<'_>| one.endpoint.node.as_ref() == Some(&world.node);
    let ready: Vec<&Candidate<'_>> = all.iter().filter(is_here).filter(|one| is_ready(one)).collect();
    if ready.is_empty() {
        all.iter()
            .filter(is_here)
            .filter(|one| is_last_resort(one))
            .collect()
    } else {
        ready
    }
}
