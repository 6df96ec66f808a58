//! Objects that would leave in the maps what is in them, as far as that can be told.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::Arc;

use proxy_common::layout::{Family, FrontendKind};

use super::lists::{Lists, Stance, policies};
use crate::name::ObjectName;
use crate::plan::{Endpoint, Frontend, ServicePort};
use crate::source::{
    self, Address, AffinitySeconds, ClientIpConfig, ClusterIp, Conditions, EndpointAddress, EndpointSlice,
    Hints, Ingress, IpMode, Labels, LoadBalancerStatus, Metadata, Named, Placement, PortNumber, Protocol,
    Service, ServiceSpec, ServiceStatus, ServiceType, SessionAffinity, SessionAffinityConfig,
    SliceAddressType, SlicePort, SourceRange,
};

fn metadata(name: &ObjectName, uid: Arc<str>, labels: Labels) -> Metadata {
    Metadata {
        name: name.name.clone(),
        namespace: Some(name.namespace.clone()),
        uid,
        creation_timestamp: None,
        is_deleting: Default::default(),
        annotations: Default::default(),
        labels,
    }
}

/// The Service that these ports are of.
pub(super) fn service(name: &ObjectName, uid: Arc<str>, ports: &[ServicePort]) -> Service {
    let has = |wanted: FrontendKind| {
        let mut kinds = ports.iter().flat_map(|port| &port.frontends);
        kinds.any(|(_, kind)| *kind == wanted)
    };
    let addresses = |wanted: &dyn Fn(FrontendKind) -> bool| -> BTreeSet<std::net::IpAddr> {
        let frontends = ports.iter().flat_map(|port| &port.frontends);
        let wanted = frontends.filter(|(_, kind)| wanted(*kind));
        wanted.map(|(frontend, _)| frontend.address).collect()
    };
    let cluster_ips = addresses(&|kind| kind == FrontendKind::ClusterIp);
    let ingress = addresses(&is_load_balancer);
    let external_ips = addresses(&|kind| kind == FrontendKind::ExternalIp);
    let [internal, external] = policies(ports).map(|policy| policy.map(|policy| policy.is));
    let ranges: BTreeSet<_> = ports
        .iter()
        .flat_map(|port| port.source_ranges.iter().copied())
        .collect();
    let affinity = ports.iter().map(|port| port.affinity).max().unwrap_or_default();
    Service {
        metadata: metadata(name, uid, Labels::default()),
        spec: ServiceSpec {
            kind: match () {
                () if !ingress.is_empty() => ServiceType::LoadBalancer,
                () if has(FrontendKind::NodePort) => ServiceType::NodePort,
                () => ServiceType::ClusterIp,
            },
            cluster_ip: cluster_ips
                .first()
                .map_or(ClusterIp::Unset, |ip| ClusterIp::Address(*ip)),
            cluster_ips: cluster_ips.into_iter().map(ClusterIp::Address).collect(),
            external_ips: external_ips.into_iter().map(Address).collect(),
            ports: spec_ports(ports),
            internal_traffic_policy: internal.unwrap_or_default(),
            external_traffic_policy: external.unwrap_or_default(),
            session_affinity: match affinity {
                0 => SessionAffinity::None,
                _ => SessionAffinity::ClientIp,
            },
            session_affinity_config: SessionAffinityConfig {
                client_ip: ClientIpConfig {
                    timeout_seconds: AffinitySeconds(affinity),
                },
            },
            health_check_node_port: 0,
            load_balancer_source_ranges: ranges
                .into_iter()
                .map(|range| SourceRange {
                    address: range.address,
                    length: range.length,
                })
                .collect(),
        },
        status: ServiceStatus {
            load_balancer: LoadBalancerStatus {
                ingress: ingress
                    .into_iter()
                    .map(|ip| Ingress {
                        ip: Some(Address(ip)),
                        ip_mode: IpMode::Vip,
                    })
                    .collect(),
            },
        },
    }
}

fn is_load_balancer(kind: FrontendKind) -> bool {
    matches!(
        kind,
        FrontendKind::LoadBalancer | FrontendKind::GuardedLoadBalancer
    )
}

/// Each port once, whatever its families.
fn spec_ports(ports: &[ServicePort]) -> Box<[source::ServicePort]> {
    let mut spec: Vec<source::ServicePort> = Vec::new();
    for port in ports {
        let Some(protocol) = protocol_of(port) else {
            continue;
        };
        let number = |is_node_port: bool| {
            let is_wanted = |kind| (kind == FrontendKind::NodePort) == is_node_port;
            let found = port.frontends.iter().find(|(_, kind)| is_wanted(*kind));
            found.map(|(Frontend { port, .. }, _)| port.number())
        };
        let node_port = number(true).unwrap_or_default();
        let same =
            |other: &&mut source::ServicePort| other.name == port.key.port_name && other.protocol == protocol;
        if let Some(other) = spec.iter_mut().find(same) {
            other.node_port = other.node_port.max(node_port);
        } else if let Some(number) = number(false).and_then(NonZeroU16::new) {
            spec.push(source::ServicePort {
                name: port.key.port_name.clone(),
                protocol,
                port: PortNumber(number),
                node_port,
            });
        }
    }
    spec.into()
}

fn protocol_of(port: &ServicePort) -> Option<Protocol> {
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    all.into_iter()
        .find(|protocol| protocol.number() == port.key.protocol)
}

/// Slices with the endpoints of a service port, but for those that are left out: one for each port that they listen at.
pub(super) fn slices(
    port: &ServicePort,
    node: &str,
    is_left_out: impl Fn(&Endpoint) -> bool,
) -> Vec<EndpointSlice> {
    let Some(protocol) = protocol_of(port) else {
        return Vec::new();
    };
    let lists = Lists::of(port);
    let endpoints = || {
        (0..)
            .zip(&port.endpoints)
            .filter(|(_, endpoint)| !is_left_out(endpoint))
    };
    let has_hints = endpoints().any(|(index, endpoint)| lists.stance(index, endpoint) == Stance::ForOthers);
    let numbers: BTreeSet<u16> = endpoints().map(|(_, endpoint)| endpoint.port.number()).collect();
    let slice = |number: NonZeroU16| {
        // No name of an object holds a slash: none that is given has this one.
        let name = format!(
            "maps/{}/{:?}/{}/{number}",
            port.key.port_name, protocol, port.key.service.name
        );
        let name = ObjectName::new(&port.key.service.namespace, &name);
        let labels = Labels {
            service_name: Some(port.key.service.name.clone()),
            ..Labels::default()
        };
        let here = endpoints().filter(|(_, endpoint)| endpoint.port.number() == number.get());
        EndpointSlice {
            metadata: metadata(&name, Arc::default(), labels),
            address_type: address_type(port.key.family),
            endpoints: here
                .map(|(index, endpoint)| {
                    let stance = lists.stance(index, endpoint);
                    written(endpoint, stance, has_hints.then_some(node), node)
                })
                .collect(),
            ports: Box::new([SlicePort {
                name: (&*port.key.port_name).into(),
                protocol,
                port: Some(PortNumber(number)),
            }]),
        }
    };
    numbers
        .into_iter()
        .filter_map(NonZeroU16::new)
        .map(slice)
        .collect()
}

pub(super) fn address_type(family: Family) -> SliceAddressType {
    match family {
        Family::V4 => SliceAddressType::V4,
        Family::V6 => SliceAddressType::V6,
    }
}

fn written(endpoint: &Endpoint, stance: Stance, hinted: Option<&str>, node: &str) -> source::Endpoint {
    let hints = hinted
        .filter(|_| stance != Stance::Terminating)
        .map(|node| Hints {
            for_zones: Vec::new(),
            for_nodes: vec![Named {
                // No name of a Node is empty.
                name: if stance == Stance::Ready {
                    node.into()
                } else {
                    "".into()
                },
            }],
        });
    source::Endpoint {
        address: EndpointAddress::Ip(endpoint.address),
        conditions: match stance {
            Stance::Ready | Stance::ForOthers => Conditions::default(),
            Stance::Terminating => Conditions::TERMINATING,
        },
        placement: Some(Arc::new(Placement {
            node_name: endpoint.local.then(|| node.into()),
            hints,
        })),
    }
}

/// Whether an endpoint of a slice has hints for zones.
pub(super) fn has_zone_hints(slice: &EndpointSlice) -> bool {
    let hints = slice.endpoints.iter().filter_map(|endpoint| endpoint.hints());
    hints.into_iter().any(|hints| !hints.for_zones.is_empty())
}
