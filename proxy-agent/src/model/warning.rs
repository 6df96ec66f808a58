//! What is not served as the objects ask, by name.

use std::net::IpAddr;

use proxy_common::layout::{Family, HintFallback};

use super::{forwarding, gone, nobody, rule};
use crate::name::ObjectName;
use crate::plan::{Frontend, RangeKind, TableSize, UnknownRanges, family_name};
use crate::source::{EndpointAddress, EndpointSlice, Service, SliceAddressType};

/// Something that an object asks for and does not get. Found once a change of that object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Source ranges of one family leave the other open.
    #[error(
        "Service {service}: its load balancer addresses {} are open to everyone: loadBalancerSourceRanges has no range \
         of their family; add one to close them", list(.addresses)
    )]
    OpenFamily {
        /// The Service.
        service: ObjectName,
        /// The addresses that are open.
        addresses: Vec<IpAddr>,
    },
    /// External addresses that the agent was told not to serve.
    #[error(
        "Service {service}: its externalIPs {} are left out: the agent's --external-ips does not allow them",
        list(.addresses)
    )]
    ExternalIpsNotAllowed {
        /// The Service.
        service: ObjectName,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// A load balancer's addresses by annotation that are none, or of a Service that has no load balancer.
    #[error(
        "Service {service}: its annotation shunt.dev/load-balancer-ips is `{value}` and is ignored: {why}"
    )]
    LoadBalancerIpsIgnored {
        /// The Service.
        service: ObjectName,
        /// The annotation's value.
        value: String,
        /// Why.
        why: &'static str,
    },
    /// A load balancer's addresses by annotation that the agent was told not to serve.
    #[error(
        "Service {service}: the addresses {} of its annotation shunt.dev/load-balancer-ips are left out: the agent's \
         --external-ips does not allow them",
        list(.addresses)
    )]
    LoadBalancerIpsNotAllowed {
        /// The Service.
        service: ObjectName,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// A Service without an address can't be reached.
    #[error("Service {service}: it has no spec.clusterIP: set one, or \"None\" if it is headless")]
    NoClusterIp {
        /// The Service.
        service: ObjectName,
    },
    /// An address in a family that the Service has no cluster IP of.
    #[error("Service {service}: {address} is left out: the Service has no cluster IP of its family")]
    FamilyNotServed {
        /// The Service.
        service: ObjectName,
        /// The address.
        address: IpAddr,
    },
    /// Two Services want one frontend.
    #[error("Services {winner} and {loser} both claim {frontend}: {winner} has it, as the older one")]
    FrontendTaken {
        /// What both want.
        frontend: Frontend,
        /// Who has it.
        winner: ObjectName,
        /// Who does without.
        loser: ObjectName,
    },
    /// Hints are given, and all endpoints are used nevertheless.
    #[error(
        "Service {service}: port {port} ({}): its topology hints are not followed, all endpoints are used: {why}",
        family_name(*.family)
    )]
    HintsNotFollowed {
        /// The Service.
        service: ObjectName,
        /// The port.
        port: u16,
        /// The family.
        family: Family,
        /// Why not.
        why: HintFallback,
    },
    /// There are more ranges of addresses than the programs can know.
    #[error(
        "{}: {ranges}: {}",
        match .ranges.kind { RangeKind::Service => "ServiceCIDRs", RangeKind::Local => "spec.podCIDRs of this Node" },
        match .ranges.kind {
            RangeKind::Service => "an address in them that no Service has is routed on and not dropped; make fewer and larger \
                                   ServiceCIDRs",
            RangeKind::Local => "its pods are told by their interfaces",
        }
    )]
    RangesNotKnown {
        /// All of that kind and family.
        ranges: UnknownRanges,
    },
    /// An annotation says what nobody understands.
    #[error(
        "Service {service}: its annotation shunt.dev/on-endpoint-gone is `{value}` and counts as `keep`: write `reset` or \
         `keep`"
    )]
    UnknownOnEndpointGone {
        /// The Service.
        service: ObjectName,
        /// The annotation's value.
        value: String,
    },
    /// An annotation asks for a rule that nobody knows.
    #[error(
        "Service {service}: its annotation shunt.dev/choice is `{value}` and counts as `random`: write `random`, \
         `least-connections`, `maglev` or `maglev/` with a table's size ({})",
        sizes()
    )]
    UnknownChoice {
        /// The Service.
        service: ObjectName,
        /// The annotation's value.
        value: String,
    },
    /// A time that is none.
    #[error(
        "Service {service}: its annotation shunt.dev/slow-start is `{value}` and is ignored: write seconds, from `1s` to `3600s`"
    )]
    UnknownSlowStart {
        /// The Service.
        service: ObjectName,
        /// The annotation's value.
        value: String,
    },
    /// An annotation asks for what nobody can do.
    #[error(
        "Service {service}: its annotation shunt.dev/without-endpoints is `{value}` and counts as `reject`: write `reject`, `drop` or `pass`"
    )]
    UnknownWithoutEndpoints {
        /// The Service.
        service: ObjectName,
        /// The annotation's value.
        value: String,
    },
    /// An annotation asks for a way that nobody knows.
    #[error(
        "Service {service}: its annotation shunt.dev/forwarding is `{value}` and is ignored, so that the agent's --forwarding \
         counts: write `snat` or `dsr`"
    )]
    UnknownForwarding {
        /// The Service.
        service: ObjectName,
        /// The annotation's value.
        value: String,
    },
    /// A weight that is none.
    #[error(
        "EndpointSlice {slice}: its annotation shunt.dev/weight is `{value}` and counts as `1`: write a number from 1 to 255"
    )]
    UnknownWeight {
        /// The slice.
        slice: ObjectName,
        /// The annotation's value.
        value: String,
    },
    /// A slice that belongs to nobody.
    #[error("EndpointSlice {slice}: it has no label kubernetes.io/service-name and is ignored")]
    SliceWithoutService {
        /// The slice.
        slice: ObjectName,
    },
    /// A port of a slice without a number.
    #[error("EndpointSlice {slice}: its port `{port}` has no number and is ignored")]
    PortWithoutNumber {
        /// The slice.
        slice: ObjectName,
        /// The port's name.
        port: String,
    },
    /// An endpoint without an address.
    #[error("EndpointSlice {slice}: endpoint {index} has no address and is ignored")]
    EndpointWithoutAddress {
        /// The slice.
        slice: ObjectName,
        /// Its place in the slice.
        index: usize,
    },
}

impl Warning {
    /// The Service that it is about; none: it is about a slice, or the node.
    pub fn service(&self) -> Option<&ObjectName> {
        match self {
            Self::OpenFamily { service, .. }
            | Self::ExternalIpsNotAllowed { service, .. }
            | Self::LoadBalancerIpsIgnored { service, .. }
            | Self::LoadBalancerIpsNotAllowed { service, .. }
            | Self::HintsNotFollowed { service, .. }
            | Self::NoClusterIp { service }
            | Self::UnknownOnEndpointGone { service, .. }
            | Self::UnknownChoice { service, .. }
            | Self::UnknownSlowStart { service, .. }
            | Self::UnknownWithoutEndpoints { service, .. }
            | Self::UnknownForwarding { service, .. }
            | Self::FamilyNotServed { service, .. }
            | Self::FrontendTaken { loser: service, .. } => Some(service),
            Self::SliceWithoutService { .. }
            | Self::UnknownWeight { .. }
            | Self::PortWithoutNumber { .. }
            | Self::EndpointWithoutAddress { .. }
            | Self::RangesNotKnown { .. } => None,
        }
    }
}

fn sizes() -> String {
    let sizes: Vec<String> = TableSize::ALL.iter().map(u32::to_string).collect();
    sizes.join(", ")
}

fn list(addresses: &[IpAddr]) -> String {
    addresses
        .iter()
        .map(IpAddr::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What of a Service's annotations is not understood.
pub(super) fn of_annotations(service: &Service) -> impl Iterator<Item = Warning> + use<> {
    let warnings = [
        gone::warning(service),
        rule::warning(service),
        rule::slow_start_warning(service),
        nobody::warning(service),
        forwarding::warning(service),
    ];
    warnings.into_iter().flatten()
}

/// What of a slice is not used.
pub(super) fn of_slice(name: &ObjectName, slice: &EndpointSlice) -> Vec<Warning> {
    let labels = &slice.metadata.labels;
    if labels.headless.0 || slice.address_type == SliceAddressType::Name {
        return Vec::new();
    }
    if labels.service_name.is_none() {
        return vec![Warning::SliceWithoutService { slice: name.clone() }];
    }
    let ports = slice.ports.iter().filter(|port| port.port.is_none());
    let ports = ports.map(|port| Warning::PortWithoutNumber {
        slice: name.clone(),
        port: port.name.to_string(),
    });
    let endpoints = slice.endpoints.iter().enumerate();
    let endpoints = endpoints.filter(|(_, endpoint)| endpoint.address == EndpointAddress::Missing);
    let endpoints = endpoints.map(|(index, _)| Warning::EndpointWithoutAddress {
        slice: name.clone(),
        index,
    });
    let weight = rule::slice_warning(name, slice);
    weight.into_iter().chain(ports).chain(endpoints).collect()
}
