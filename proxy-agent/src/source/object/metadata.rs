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
#[serde(from = "Written")]
pub struct Annotations {
    /// When the change of pods or Service happened that an EndpointSlice's last change is due to.
    pub last_change: Option<Timestamp>,
    /// Shunt's own. Few objects have one, and there are many objects.
    own: Option<Box<Own>>,
}

/// Shunt's annotations, as they are written.
#[derive(Debug, Default, PartialEq)]
struct Own {
    on_endpoint_gone: Option<Box<str>>,
    choice: Option<Box<str>>,
    slow_start: Option<Box<str>>,
    weight: Option<Box<str>>,
    without_endpoints: Option<Box<str>>,
    load_balancer_ips: Option<Box<str>>,
    forwarding: Option<Box<str>>,
}

/// The annotations as they are written.
#[derive(Deserialize)]
struct Written {
    #[serde(
        default,
        rename = "endpoints.kubernetes.io/last-change-trigger-time",
        deserialize_with = "moment"
    )]
    last_change: Option<Timestamp>,
    #[serde(default, rename = "shunt.dev/on-endpoint-gone")]
    on_endpoint_gone: Option<Box<str>>,
    #[serde(default, rename = "shunt.dev/choice")]
    choice: Option<Box<str>>,
    #[serde(default, rename = "shunt.dev/slow-start")]
    slow_start: Option<Box<str>>,
    #[serde(default, rename = "shunt.dev/weight")]
    weight: Option<Box<str>>,
    #[serde(default, rename = "shunt.dev/without-endpoints")]
    without_endpoints: Option<Box<str>>,
    #[serde(default, rename = "shunt.dev/load-balancer-ips")]
    load_balancer_ips: Option<Box<str>>,
    #[serde(default, rename = "shunt.dev/forwarding")]
    forwarding: Option<Box<str>>,
}

impl From<Written> for Annotations {
    fn from(written: Written) -> Self {
        let own = Own {
            on_endpoint_gone: written.on_endpoint_gone,
            choice: written.choice,
            slow_start: written.slow_start,
            weight: written.weight,
            without_endpoints: written.without_endpoints,
            load_balancer_ips: written.load_balancer_ips,
            forwarding: written.forwarding,
        };
        Self {
            last_change: written.last_change,
            own: (own != Own::default()).then(|| Box::new(own)),
        }
    }
}

impl Annotations {
    /// What becomes of the host's TCP connections through a Service to an endpoint that is gone.
    pub fn on_endpoint_gone(&self) -> Option<&str> {
        self.own.as_ref()?.on_endpoint_gone.as_deref()
    }

    /// How a Service's new flows get their endpoint.
    pub fn choice(&self) -> Option<&str> {
        self.own.as_ref()?.choice.as_deref()
    }

    /// How long a Service's new endpoints take to their whole share of new flows.
    pub fn slow_start(&self) -> Option<&str> {
        self.own.as_ref()?.slow_start.as_deref()
    }

    /// How many flows the endpoints of an EndpointSlice get, beside those of others of the Service.
    pub fn weight(&self) -> Option<&str> {
        self.own.as_ref()?.weight.as_deref()
    }

    /// What becomes of calls to a Service of which no endpoint is usable anywhere.
    pub fn without_endpoints(&self) -> Option<&str> {
        self.own.as_ref()?.without_endpoints.as_deref()
    }

    /// Addresses of a load balancer whose status has none.
    pub fn load_balancer_ips(&self) -> Option<&str> {
        self.own.as_ref()?.load_balancer_ips.as_deref()
    }

    /// How a Service's packets from outside go to endpoints of other nodes.
    pub fn forwarding(&self) -> Option<&str> {
        self.own.as_ref()?.forwarding.as_deref()
    }
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
