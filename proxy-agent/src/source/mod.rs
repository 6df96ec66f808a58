//! Where Services, EndpointSlices and Nodes come from: a stream of batches of changes.

mod catalog;
mod folder;
mod identify;
mod kubernetes;
mod locate;
mod names;
mod object;
mod parse;
mod refusal;
mod seed;
mod status;
mod validate;

#[cfg(test)]
pub(crate) use parse::tests_support::objects;

use std::sync::Arc;
use std::time::Instant;

pub use folder::{Folder, FolderError, read_folder, read_folder_names};
pub use kubernetes::{ApiError, ApiOptions, Kubernetes, Master, SERVICE_ACCOUNT, share};
pub(crate) use locate::{Path as FieldPath, locate};
pub use names::parse_names;
pub(crate) use object::Presence;
pub use object::{
    Address, AffinitySeconds, Annotations, ClientIpConfig, ClusterIp, Conditions, Endpoint, EndpointAddress,
    EndpointSlice, Hints, Ingress, IpMode, Labels, LoadBalancerStatus, Metadata, Named, Node, NodeAddress,
    NodeSpec, NodeStatus, Placement, PortNumber, Protocol, Service, ServiceCidr, ServiceCidrSpec,
    ServicePort, ServiceSpec, ServiceStatus, ServiceType, SessionAffinity, SessionAffinityConfig,
    SliceAddressType, SlicePort, SourceRange, Taint, TrafficPolicy,
};
pub(crate) use parse::options as yaml_options;
pub use parse::parse_manifest;
pub use refusal::Refusal;
pub use status::{Status, Watched};

use crate::name::ObjectName;

/// What arrived together. The first batch of a source is everything that there is.
#[derive(Debug, Default)]
pub struct Batch {
    /// Base names of the files that were read, or that went away.
    pub files: Vec<String>,
    /// What changed, at most once an object.
    pub changes: Vec<Change>,
    /// What could not be taken over; the last good state of it stands.
    pub refusals: Vec<Refusal>,
    /// There are files that could not be read since the start: what they hold is not known, not even the last good
    /// state of it.
    pub has_unread_files: bool,
    /// When the first of it was heard of.
    pub heard: Option<Instant>,
}

impl Batch {
    /// Appends what arrived later.
    pub fn append(&mut self, later: Self) {
        self.files.extend(later.files);
        self.changes.extend(later.changes);
        self.refusals.extend(later.refusals);
        self.has_unread_files = later.has_unread_files;
        self.heard = self.heard.or(later.heard);
    }
}

/// An object came, changed or went.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is new, or it changed.
    Upsert(Object),
    /// It is gone.
    Delete(ObjectKey),
}

impl Change {
    /// Which object changed.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Upsert(object) => object.key(),
            Self::Delete(key) => key.clone(),
        }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice.
    Slice(Arc<EndpointSlice>),
    /// A Node.
    Node(Arc<Node>),
    /// A ServiceCIDR.
    ServiceCidr(Arc<ServiceCidr>),
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKey {
    /// A Service.
    Service(ObjectName),
    /// An EndpointSlice.
    Slice(ObjectName),
    /// A Node, by its name.
    Node(Arc<str>),
    /// A ServiceCIDR, by its name.
    ServiceCidr(Arc<str>),
}

impl Object {
    /// Which object it is.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Service(service) => ObjectKey::Service(service.metadata.object_name()),
            Self::Slice(slice) => ObjectKey::Slice(slice.metadata.object_name()),
            Self::Node(node) => ObjectKey::Node(node.metadata.name.clone()),
            Self::ServiceCidr(cidr) => ObjectKey::ServiceCidr(cidr.metadata.name.clone()),
        }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service {name}"),
            Self::Slice(name) => write!(f, "EndpointSlice {name}"),
            Self::Node(name) => write!(f, "Node {name}"),
            Self::ServiceCidr(name) => write!(f, "ServiceCIDR {name}"),
        }
    }
}
