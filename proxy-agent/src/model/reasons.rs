//! Why a service port has the endpoints that it has, and why an address is no Service's: what the model itself decides
//! by, for people who ask.

use std::net::IpAddr;
use std::sync::Arc;

use super::choice::{HintUse, Standing, Standings, Topology};
use super::endpoints::{Candidate, has_family, is_same};
use super::frontends::family_of;
use super::{Model, balancer};
use crate::name::ObjectName;
use crate::plan::{Endpoint, Frontend, PortKey, protocol_name};
use crate::source::{Address, ClusterIp, IpMode, Service, ServiceType, TrafficPolicy};

/// One entry of an EndpointSlice, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// nodeName
    pub node: Option<String>,
    /// What it is to both lists.
    pub standings: Standings,
}

/// Why a service port has its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reasons {
    /// spec.internalTrafficPolicy
    pub internal: TrafficPolicy,
    /// spec.externalTrafficPolicy
    pub external: TrafficPolicy,
    /// Every entry, in the order of addresses and ports.
    pub endpoints: Vec<Judged>,
    /// What becomes of the hints for nodes.
    pub node_hints: HintUse,
    /// What becomes of the hints for zones, where those for nodes are not followed.
    pub zone_hints: HintUse,
    /// Slices of the Service and family that give this port no endpoint, and why.
    pub unused_slices: Vec<(ObjectName, String)>,
}

/// A Service that names an address and is not served there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The Service.
    pub service: ObjectName,
    /// Why it is not served.
    pub reason: &'static str,
}

impl Model {
    /// Why a service port has its endpoints; none: there is no such port.
    pub fn reasons(&self, key: &PortKey) -> Option<Reasons> {
        let service = self.services.get(&key.service)?;
        let mut ports = service.spec.ports.iter();
        let port = ports.find(|port| port.name == key.port_name && port.protocol.number() == key.protocol)?;
        let entries = self.entries(&key.service, &port.name, port.protocol, key.family);
        let mut distinct: Vec<Candidate<'_>> = entries.clone();
        distinct.dedup_by(|later, first| is_same(later, first));
        let mut standings = self.standings(&distinct).into_iter();
        let mut before: Option<&Candidate<'_>> = None;
        let mut judge = |entry| {
            let is_first = before.replace(entry).is_none_or(|before| !is_same(entry, before));
            let counts = if is_first { standings.next() } else { None };
            Judged {
                endpoint: entry.endpoint,
                node: entry.node.map(str::to_owned),
                standings: counts.unwrap_or(Standings {
                    cluster: Standing::Duplicate,
                    local: Standing::Duplicate,
                }),
            }
        };
        Some(Reasons {
            internal: service.spec.internal_traffic_policy,
            external: service.spec.external_traffic_policy,
            endpoints: entries.iter().map(&mut judge).collect(),
            node_hints: self.hint_use(Topology::Node, &distinct),
            zone_hints: self.hint_use(Topology::Zone, &distinct),
            unused_slices: self.unused_slices(key),
        })
    }

    /// This node's zone, if it is known.
    pub fn zone(&self) -> Option<&Arc<str>> {
        self.zone.as_ref()
    }

    /// The frontends that a Service asks for, whether it has them or not.
    pub fn asked_by(&self, service: &ObjectName) -> Vec<Frontend> {
        let served = self.services.get(service).map(|service| self.served(service));
        let wanted = served.map(|served| served.frontends).unwrap_or_default();
        wanted.iter().map(|wanted| wanted.frontend).collect()
    }

    /// The Services that ask for a frontend; the first has it.
    pub fn claimants(&self, frontend: &Frontend) -> Vec<&ObjectName> {
        self.claims.claimants(frontend)
    }

    /// Whether an address is that of an endpoint on this node.
    pub fn is_local_endpoint(&self, address: IpAddr) -> bool {
        let endpoints = self
            .slices
            .values()
            .flatten()
            .flat_map(|slice| slice.endpoints.iter());
        let mut local =
            endpoints.filter(|endpoint| endpoint.node_name().is_some_and(|node| self.is_this_node(node)));
        local.any(|endpoint| endpoint.address == crate::source::EndpointAddress::Ip(address))
    }

    /// The Services that name an address and are not served by us, by name.
    pub fn unserved_at(&self, address: IpAddr) -> Vec<Unserved> {
        let named = self
            .services
            .iter()
            .filter(|(_, service)| names(service, address));
        let mut unserved: Vec<Unserved> = named
            .filter_map(|(name, service)| {
                Some(Unserved {
                    service: name.clone(),
                    reason: self.why_unserved(service, address)?,
                })
            })
            .collect();
        unserved.sort_by(|one, other| one.service.cmp(&other.service));
        unserved
    }

    fn unused_slices(&self, key: &PortKey) -> Vec<(ObjectName, String)> {
        let reason = |slice: &crate::source::EndpointSlice| {
            let mut ports = slice
                .ports
                .iter()
                .filter(|port| *port.name == *key.port_name && port.protocol.number() == key.protocol);
            match ports.next() {
                Some(port) if port.port.is_some() => None,
                Some(_) => Some("its port has no number".to_owned()),
                None if key.port_name.is_empty() => Some(format!(
                    "it has no {} port without a name",
                    protocol_name(key.protocol)
                )),
                None => Some(format!(
                    "it has no {} port `{}`",
                    protocol_name(key.protocol),
                    key.port_name
                )),
            }
        };
        let slices = self.slices.get(&key.service).into_iter().flatten();
        slices
            .filter(|slice| has_family(slice, key.family))
            .filter_map(|slice| Some((slice.metadata.object_name(), reason(slice)?)))
            .collect()
    }
}

/// Whether a Service names an address as its own.
fn names(service: &Service, address: IpAddr) -> bool {
    let spec = &service.spec;
    let cluster_ips = spec.cluster_ips.iter().chain([&spec.cluster_ip]);
    let mut cluster_ips = cluster_ips.filter(|ip| **ip == ClusterIp::Address(address));
    let ingress = service.status.load_balancer.ingress.iter();
    cluster_ips.next().is_some()
        || spec.external_ips.contains(&Address(address))
        || ingress
            .filter_map(|ingress| ingress.ip)
            .any(|ip| ip == Address(address))
        || balancer::is_named(service, address)
}

impl Model {
    /// Why a Service is not served at an address that it names; none: it is.
    fn why_unserved(&self, service: &Service, address: IpAddr) -> Option<&'static str> {
        let labels = &service.metadata.labels;
        if labels.service_proxy_name.0 {
            return Some("its label service.kubernetes.io/service-proxy-name gives it to another proxy");
        }
        if labels.headless.0 {
            return Some("its label service.kubernetes.io/headless makes it headless");
        }
        if service.spec.kind == ServiceType::ExternalName {
            return Some("it is of the type ExternalName");
        }
        let served = self.served(service);
        if served.families.is_empty() {
            return Some("it is headless, or has no clusterIP");
        }
        let mut addresses = served.frontends.iter().map(|wanted| wanted.frontend.address);
        if addresses.any(|served| served == address) {
            return None;
        }
        let mut ingress = service.status.load_balancer.ingress.iter();
        Some(if !served.families.contains(&family_of(address)) {
            "it has no cluster IP of this family"
        } else if service.spec.external_ips.contains(&Address(address)) {
            "--external-ips does not allow it, or its ports are of a protocol that is not served"
        } else if ingress
            .any(|ingress| ingress.ip == Some(Address(address)) && ingress.ip_mode == IpMode::Proxy)
        {
            "its ipMode is Proxy: packets must go through the load balancer"
        } else if balancer::is_named(service, address) {
            "its annotation shunt.dev/load-balancer-ips names it, and --external-ips does not allow it, or it has no load balancer"
        } else if service.spec.kind != ServiceType::LoadBalancer {
            "it stands in its status, but the Service is not of the type LoadBalancer"
        } else {
            "its ports are of a protocol that is not served"
        })
    }
}
