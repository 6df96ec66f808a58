//! The endpoints of a service port (semantics A2).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proxy_common::layout::{Family, Port};

use super::{Model, rule};
use crate::name::ObjectName;
use crate::plan::{Endpoint, Weight};
use crate::source::{
    Conditions, EndpointAddress, EndpointSlice, Hints, Protocol, SliceAddressType, SlicePort,
};

/// An endpoint of a service port, serving or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) conditions: Conditions,
    pub(super) hints: Option<&'a Hints>,
    /// nodeName
    pub(super) node: Option<&'a str>,
    pub(super) weight: Weight,
}

impl Model {
    /// All endpoints of a service port, each address and port once, in the order of addresses and ports.
    pub(super) fn candidates(
        &self,
        service: &ObjectName,
        port_name: &str,
        protocol: Protocol,
        family: Family,
    ) -> Vec<Candidate<'_>> {
        let mut candidates = self.entries(service, port_name, protocol, family);
        candidates.dedup_by(|later, first| is_same(later, first));
        candidates
    }

    /// All entries of a service port: of those with one address and port the first is the one that counts.
    pub(super) fn entries(
        &self,
        service: &ObjectName,
        port_name: &str,
        protocol: Protocol,
        family: Family,
    ) -> Vec<Candidate<'_>> {
        let mut candidates = Vec::new();
        let slices = self.slices.get(service).into_iter().flatten();
        for slice in slices.filter(|slice| has_family(slice, family)) {
            let ports = slice
                .ports
                .iter()
                .filter(|port| &*port.name == port_name && port.protocol == protocol);
            for port in ports {
                self.add_endpoints(slice, port, &mut candidates);
            }
        }
        // An address that is in use again may still stand among the terminating ones.
        candidates.sort_by_key(|candidate| (key(candidate), candidate.conditions.terminating()));
        candidates
    }

    /// All endpoints of a Service's slices in a family, serving or not, at whatever port: while a port gets another name, its
    /// endpoints are there.
    pub(super) fn present(
        &self,
        service: &ObjectName,
        protocol: Protocol,
        family: Family,
    ) -> BTreeSet<SocketAddr> {
        let mut candidates = Vec::new();
        let slices = self.slices.get(service).into_iter().flatten();
        for slice in slices.filter(|slice| has_family(slice, family)) {
            for port in slice.ports.iter().filter(|port| port.protocol == protocol) {
                self.add_endpoints(slice, port, &mut candidates);
            }
        }
        let endpoints = candidates.iter().map(|candidate| candidate.endpoint);
        endpoints
            .map(|endpoint| SocketAddr::new(endpoint.address, endpoint.port.number()))
            .collect()
    }

    fn add_endpoints<'a>(
        &self,
        slice: &'a EndpointSlice,
        port: &SlicePort,
        candidates: &mut Vec<Candidate<'a>>,
    ) {
        let Some(number) = port.port else { return };
        let weight = rule::weight(slice);
        for endpoint in &slice.endpoints {
            let EndpointAddress::Ip(address) = &endpoint.address else {
                continue;
            };
            candidates.push(Candidate {
                endpoint: Endpoint {
                    address: *address,
                    port: Port::new(number.0.get()),
                    local: endpoint.node_name().is_some_and(|node| self.is_this_node(node)),
                },
                conditions: endpoint.conditions,
                hints: endpoint.hints(),
                node: endpoint.node_name(),
                weight,
            });
        }
    }

    pub(super) fn is_this_node(&self, name: &str) -> bool {
        *self.node_name == *name
    }

    pub(super) fn is_this_zone(&self, name: &str) -> bool {
        self.zone.as_deref() == Some(name)
    }
}

fn key(candidate: &Candidate<'_>) -> (IpAddr, u16) {
    (candidate.endpoint.address, candidate.endpoint.port.number())
}

/// Whether two entries stand for one endpoint.
pub(super) fn is_same(one: &Candidate<'_>, other: &Candidate<'_>) -> bool {
    key(one) == key(other)
}

pub(super) fn has_family(slice: &EndpointSlice, family: Family) -> bool {
    matches!(
        (slice.address_type, family),
        (SliceAddressType::V4, Family::V4) | (SliceAddressType::V6, Family::V6)
    )
}
