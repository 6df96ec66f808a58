//! A Node.

use serde::Deserialize;

use super::Metadata;
use super::scalar::null_as_default;

/// The taint that the cluster autoscaler puts on a node that it is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node: its name and, among the labels, its zone. Its addresses are read from its interfaces.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Node {
    /// metadata
    pub metadata: Metadata,
    /// spec
    #[serde(default, deserialize_with = "null_as_default")]
    pub spec: NodeSpec,
}

/// spec of a Node.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub struct NodeSpec {
    /// spec.taints
    #[serde(default, deserialize_with = "null_as_default")]
    pub taints: Vec<Taint>,
}

/// One of spec.taints.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: Box<str>,
}

impl Node {
    /// Whether it is about to go: load balancers should not send to it any more.
    pub fn is_leaving(&self) -> bool {
        self.metadata.is_deleting.0 || self.spec.taints.iter().any(|taint| &*taint.key == TO_BE_DELETED)
    }
}
