//! What load balancers are to hear of a Service's endpoints here (semantics A10).

use std::collections::BTreeSet;

use proxy_common::layout::Family;

use super::Model;
use crate::name::ObjectName;
use crate::source::{Service, ServiceType, TrafficPolicy};

/// What the server at spec.healthCheckNodePort says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// spec.healthCheckNodePort
    pub port: u16,
    /// Ready endpoints on this node, each address once; of two families the larger number. Those that terminate do not
    /// count, though they serve: the load balancer is to turn to other nodes.
    pub endpoints: usize,
}

impl Model {
    /// Of a Service of type LoadBalancer with the external traffic policy Local, if it asks for it.
    pub fn health_check(&self, name: &ObjectName) -> Option<HealthCheck> {
        let service = self.services.get(name)?;
        let spec = &service.spec;
        let port = spec.health_check_node_port;
        let is_asked_for = spec.kind == ServiceType::LoadBalancer
            && spec.external_traffic_policy == TrafficPolicy::Local
            && port != 0;
        if !is_asked_for {
            return None;
        }
        let families = self.served(service).families;
        let endpoints = families
            .into_iter()
            .map(|family| self.ready_here(name, service, family));
        endpoints.max().map(|endpoints| HealthCheck { port, endpoints })
    }

    fn ready_here(&self, name: &ObjectName, service: &Service, family: Family) -> usize {
        let ports = service.spec.ports.iter();
        let candidates = ports.flat_map(|port| self.candidates(name, &port.name, port.protocol, family));
        let ready = candidates.filter(|candidate| candidate.endpoint.local && candidate.conditions.ready());
        ready
            .map(|candidate| candidate.endpoint.address)
            .collect::<BTreeSet<_>>()
            .len()
    }
}
