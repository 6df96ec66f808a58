//! Slim types of the objects: only the fields that a node's proxy uses.
//!
//! Unknown fields are ignored, `null` is the same as leaving a field out, and what the API server would fill in is
//! filled in here. A value of the wrong type is an error. A cluster has many of them, and they are kept: lists have no room
//! beyond what they hold.

mod metadata;
mod node;
mod scalar;
mod service;
mod service_cidr;
mod slice;

pub use metadata::{Annotations, Labels, Metadata};
pub use node::{Node, NodeAddress, NodeSpec, NodeStatus, Taint};
pub(crate) use scalar::Presence;
pub use scalar::{Address, AffinitySeconds, ClusterIp, EndpointAddress, PortNumber, Protocol, SourceRange};
pub use service::{
    ClientIpConfig, Ingress, IpMode, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
    ServiceType, SessionAffinity, SessionAffinityConfig, TrafficPolicy,
};
pub use service_cidr::{ServiceCidr, ServiceCidrSpec};
pub use slice::{Conditions, Endpoint, EndpointSlice, Hints, Named, Placement, SliceAddressType, SlicePort};
