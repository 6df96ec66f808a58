//! Where a Service asks to be reached (semantics A1, A8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proxy_common::layout::{Family, FrontendKind, Port};

use super::balancer::Balancer;
use super::{ExternalIps, Warning};
use crate::name::ObjectName;
use crate::plan::{Frontend, Range};
use crate::source::{Address, ClusterIp, Service, ServicePort, ServiceType};

/// A frontend that a Service asks for, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Index into spec.ports.
    pub(super) port: usize,
    pub(super) family: Family,
    pub(super) frontend: Frontend,
    pub(super) kind: FrontendKind,
}

/// What of a Service is served.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) families: Vec<Family>,
    /// Each frontend once, in the order of the kinds.
    pub(super) frontends: Vec<Wanted>,
    /// Who may use the load balancer's addresses, if not everyone.
    pub(super) source_ranges: Vec<Range>,
    pub(super) warnings: Vec<Warning>,
}

impl Served {
    /// What of a Service is served by this proxy.
    pub(super) fn by(service: &Service, external_ips: &ExternalIps) -> Self {
        let mut served = Self::default();
        if is_another_proxys(service) {
            return served;
        }
        let name = service.metadata.object_name();
        let cluster_ips = cluster_ips(service);
        if cluster_ips.is_empty() {
            served.warnings.push(Warning::NoClusterIp { service: name });
            return served;
        }
        served.families = cluster_ips.iter().map(|address| family_of(*address)).collect();
        let addresses = served.addresses(service, &name, cluster_ips, external_ips);
        for (index, port) in service.spec.ports.iter().enumerate() {
            served.add_port(index, port, &addresses, has_node_ports(service));
        }
        served
    }

    /// All addresses of a Service that are its own alone, without its nodes'.
    fn addresses(
        &mut self,
        service: &Service,
        name: &ObjectName,
        cluster_ips: Vec<IpAddr>,
        allowed: &ExternalIps,
    ) -> Vec<(IpAddr, FrontendKind)> {
        self.source_ranges = source_ranges(service);
        let balancer = Balancer::of(service, allowed);
        self.warnings.extend(balancer.warnings);
        let load_balancer: Vec<(IpAddr, FrontendKind)> = balancer
            .addresses
            .into_iter()
            .map(|address| (address, self.balancer_kind(family_of(address))))
            .collect();
        let is_open = |(_, kind): &&(IpAddr, FrontendKind)| *kind == FrontendKind::LoadBalancer;
        let open: Vec<IpAddr> = load_balancer.iter().filter(is_open).map(|(ip, _)| *ip).collect();
        if !self.source_ranges.is_empty() && !open.is_empty() {
            self.warnings.push(Warning::OpenFamily {
                service: name.clone(),
                addresses: open,
            });
        }
        let external = service.spec.external_ips.iter().map(|Address(ip)| *ip);
        let (external, refused): (Vec<_>, Vec<_>) = external.partition(|ip| allowed.allow(*ip));
        if !refused.is_empty() {
            self.warnings.push(Warning::ExternalIpsNotAllowed {
                service: name.clone(),
                addresses: refused,
            });
        }
        let external = external.into_iter().map(|ip| (ip, FrontendKind::ExternalIp));
        let cluster_ips = cluster_ips.into_iter().map(|ip| (ip, FrontendKind::ClusterIp));
        // The first kind of an address counts: what the ranges guard is not open under another name.
        let all = cluster_ips.chain(load_balancer).chain(external);
        let mut addresses: Vec<(IpAddr, FrontendKind)> = Vec::new();
        for (address, kind) in all {
            if !self.families.contains(&family_of(address)) {
                self.warnings.push(Warning::FamilyNotServed {
                    service: name.clone(),
                    address,
                });
            } else if !addresses.iter().any(|(other, _)| *other == address) {
                addresses.push((address, kind));
            }
        }
        addresses
    }

    /// A family of which there is no range is open to everyone, as kube-proxy has it.
    fn balancer_kind(&self, family: Family) -> FrontendKind {
        let mut ranges = self.source_ranges.iter();
        if ranges.any(|range| family_of(range.address) == family) {
            FrontendKind::GuardedLoadBalancer
        } else {
            FrontendKind::LoadBalancer
        }
    }

    fn add_port(
        &mut self,
        index: usize,
        port: &ServicePort,
        addresses: &[(IpAddr, FrontendKind)],
        node_ports: bool,
    ) {
        let protocol = port.protocol.number();
        let mut add = |address: IpAddr, number: u16, kind| {
            let frontend = Frontend {
                address,
                port: Port::new(number),
                protocol,
            };
            self.frontends.push(Wanted {
                port: index,
                family: family_of(address),
                frontend,
                kind,
            });
        };
        for (address, kind) in addresses {
            add(*address, port.port.0.get(), *kind);
        }
        if node_ports && port.node_port != 0 {
            for family in &self.families {
                add(unspecified(*family), port.node_port, FrontendKind::NodePort);
            }
        }
    }
}

/// Whether a Service is none of ours: without an address by design, or another proxy's.
fn is_another_proxys(service: &Service) -> bool {
    let labels = &service.metadata.labels;
    let ips = &service.spec.cluster_ips;
    labels.service_proxy_name.0
        || labels.headless.0
        || service.spec.kind == ServiceType::ExternalName
        || service.spec.cluster_ip == ClusterIp::Headless
        || ips.contains(&ClusterIp::Headless)
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let spec = &service.spec;
    let first = std::slice::from_ref(&spec.cluster_ip);
    let all = if spec.cluster_ips.is_empty() {
        first
    } else {
        &spec.cluster_ips
    };
    let address = |ip: &ClusterIp| match ip {
        ClusterIp::Address(address) => Some(*address),
        ClusterIp::Unset | ClusterIp::Headless => None,
    };
    all.iter().filter_map(address).collect()
}

fn source_ranges(service: &Service) -> Vec<Range> {
    let ranges = service.spec.load_balancer_source_ranges.iter();
    let mut ranges: Vec<Range> = ranges
        .map(|range| Range::new(range.address, range.length))
        .collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

fn has_node_ports(service: &Service) -> bool {
    matches!(
        service.spec.kind,
        ServiceType::NodePort | ServiceType::LoadBalancer
    )
}

pub(super) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}
