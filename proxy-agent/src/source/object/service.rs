//! A Service.

use std::sync::Arc;

use serde::Deserialize;

use super::Metadata;
use super::scalar::{
    Address, AffinitySeconds, ClusterIp, PortNumber, Protocol, SourceRange, null_as_default,
};

/// A Service.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Service {
    /// metadata
    pub metadata: Metadata,
    /// spec
    #[serde(default, deserialize_with = "null_as_default")]
    pub spec: ServiceSpec,
    /// status
    #[serde(default, deserialize_with = "null_as_default")]
    pub status: ServiceStatus,
}

/// spec of a Service.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// spec.type
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: ServiceType,
    /// spec.clusterIP
    #[serde(rename = "clusterIP", deserialize_with = "null_as_default")]
    pub cluster_ip: ClusterIp,
    /// spec.clusterIPs
    #[serde(rename = "clusterIPs", deserialize_with = "null_as_default")]
    pub cluster_ips: Box<[ClusterIp]>,
    /// spec.externalIPs
    #[serde(rename = "externalIPs", deserialize_with = "null_as_default")]
    pub external_ips: Box<[Address]>,
    /// spec.ports
    #[serde(deserialize_with = "null_as_default")]
    pub ports: Box<[ServicePort]>,
    /// spec.internalTrafficPolicy
    #[serde(deserialize_with = "null_as_default")]
    pub internal_traffic_policy: TrafficPolicy,
    /// spec.externalTrafficPolicy
    #[serde(deserialize_with = "null_as_default")]
    pub external_traffic_policy: TrafficPolicy,
    /// spec.sessionAffinity
    #[serde(deserialize_with = "null_as_default")]
    pub session_affinity: SessionAffinity,
    /// spec.sessionAffinityConfig
    #[serde(deserialize_with = "null_as_default")]
    pub session_affinity_config: SessionAffinityConfig,
    /// spec.healthCheckNodePort; 0: none
    #[serde(deserialize_with = "null_as_default")]
    pub health_check_node_port: u16,
    /// spec.loadBalancerSourceRanges
    #[serde(deserialize_with = "null_as_default")]
    pub load_balancer_source_ranges: Box<[SourceRange]>,
}

/// spec.type
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ServiceType {
    /// ClusterIP, also where none is given.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// NodePort
    NodePort,
    /// LoadBalancer
    LoadBalancer,
    /// ExternalName
    ExternalName,
}

/// Which endpoints a policy allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TrafficPolicy {
    /// All endpoints, also where none is given.
    #[default]
    Cluster,
    /// Endpoints of this node.
    Local,
}

/// spec.sessionAffinity
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum SessionAffinity {
    /// None, also where none is given.
    #[default]
    None,
    /// By the client's address.
    #[serde(rename = "ClientIP")]
    ClientIp,
}

/// spec.sessionAffinityConfig
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SessionAffinityConfig {
    /// spec.sessionAffinityConfig.clientIP
    #[serde(rename = "clientIP", deserialize_with = "null_as_default")]
    pub client_ip: ClientIpConfig,
}

/// spec.sessionAffinityConfig.clientIP
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpConfig {
    /// How long a client keeps its endpoint; three hours where none is given.
    #[serde(deserialize_with = "null_as_default")]
    pub timeout_seconds: AffinitySeconds,
}

/// One of spec.ports.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name; empty for the only port of a Service.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: Arc<str>,
    /// The protocol.
    #[serde(default, deserialize_with = "null_as_default")]
    pub protocol: Protocol,
    /// The port at the Service's addresses.
    pub port: PortNumber,
    /// The port at the nodes' addresses; 0: none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub node_port: u16,
}

/// status of a Service.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// status.loadBalancer
    #[serde(deserialize_with = "null_as_default")]
    pub load_balancer: LoadBalancerStatus,
}

/// status.loadBalancer
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// status.loadBalancer.ingress
    #[serde(deserialize_with = "null_as_default")]
    pub ingress: Box<[Ingress]>,
}

/// One of status.loadBalancer.ingress.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ingress {
    /// The address; none where the load balancer is known by name only.
    pub ip: Option<Address>,
    /// How the load balancer hands packets on.
    #[serde(deserialize_with = "null_as_default")]
    pub ip_mode: IpMode,
}

/// Whether packets to the load balancer's address reach the nodes with that destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum IpMode {
    /// They do, also where nothing is given.
    #[default]
    #[serde(rename = "VIP")]
    Vip,
    /// They don't: they must go through the load balancer.
    Proxy,
}
