//! metadata, as far as a node's proxy reads it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::scalar::{Presence, moment, null_as_default, timestamp};
use crate::name::ObjectName;

/// metadata of any object.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// metadata.name
    pub name: Arc<str>,
    /// metadata.namespace; `default` where none is given.
    pub namespace: Option<Arc<str>>,
    /// metadata.uid; empty in manifests that were written by hand.
    #[serde(default, deserialize_with = "null_as_default")]
    pub uid: Arc<str>,
    /// metadata.creationTimestamp, as the API server writes it (RFC 3339 in UTC), so that text order is time order.
    #[serde(default, deserialize_with = "timestamp")]
    pub creation_timestamp: Option<Arc<str>>,
    /// metadata.deletionTimestamp is there: the object waits for its finalizers.
    #[serde(default, rename = "deletionTimestamp", deserialize_with = "null_as_default")]
    pub is_deleting: Presence,
    /// metadata.annotations
    #[serde(default, deserialize_with = "null_as_default")]
    pub annotations: Annotations,
    /// metadata.labels
    #[serde(default, deserialize_with = "null_as_default")]
    pub labels: Labels,
}

/// The annotations that mean something to a node's proxy.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub struct Annotations {
    /// When the change of pods or Service happened that an EndpointSlice's last change is due to.
    #[serde(
        default,
        rename = "endpoints.kubernetes.io/last-change-trigger-time",
        deserialize_with = "moment"
    )]
    pub last_change: Option<Timestamp>,
    /// What becomes of the host's TCP connections through a Service to an endpoint that is gone.
    #[serde(default, rename = "shunt.dev/on-endpoint-gone")]
    pub on_endpoint_gone: Option<Arc<str>>,
}

/// The labels that mean something to a node's proxy.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub struct Labels {
    /// The Service that an EndpointSlice belongs to.
    #[serde(rename = "kubernetes.io/service-name")]
    pub service_name: Option<Arc<str>>,
    /// Present: another proxy serves this Service.
    #[serde(default, rename = "service.kubernetes.io/service-proxy-name")]
    pub service_proxy_name: Presence,
    /// Present: the Service, or the EndpointSlice's Service, is headless.
    #[serde(default, rename = "service.kubernetes.io/headless")]
    pub headless: Presence,
    /// A Node's zone.
    #[serde(rename = "topology.kubernetes.io/zone")]
    pub zone: Option<Arc<str>>,
}

impl Metadata {
    /// Namespace (`default` where none is given) and name.
    pub fn object_name(&self) -> ObjectName {
        ObjectName {
            namespace: self.namespace.clone().unwrap_or_else(|| Arc::from("default")),
            name: self.name.clone(),
        }
    }
}
