//! An EndpointSlice.

use std::sync::Arc;

use serde::Deserialize;

use super::Metadata;
use super::scalar::{EndpointAddress, PortNumber, Protocol, null_as_default};

/// An EndpointSlice.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// metadata
    pub metadata: Metadata,
    /// addressType
    pub address_type: SliceAddressType,
    /// endpoints
    #[serde(default, deserialize_with = "null_as_default")]
    pub endpoints: Vec<Endpoint>,
    /// ports
    #[serde(default, deserialize_with = "null_as_default")]
    pub ports: Vec<SlicePort>,
}

/// addressType
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SliceAddressType {
    /// IPv4 addresses.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6 addresses.
    #[serde(rename = "IPv6")]
    V6,
    /// Names, which a proxy can't use.
    #[serde(rename = "FQDN")]
    Name,
}

/// One of endpoints.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The first of addresses.
    #[serde(default, rename = "addresses", deserialize_with = "null_as_default")]
    pub address: EndpointAddress,
    /// conditions
    #[serde(default, deserialize_with = "null_as_default")]
    pub conditions: Conditions,
    /// nodeName
    pub node_name: Option<Arc<str>>,
    /// hints
    pub hints: Option<Arc<Hints>>,
}

/// conditions of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl Conditions {
    /// It takes new flows; true where nothing is given.
    pub fn ready(self) -> bool {
        self.ready.unwrap_or(true)
    }

    /// It passes its readiness probe, terminating or not; true where nothing is given.
    pub fn serving(self) -> bool {
        self.serving.unwrap_or(true)
    }

    /// It is shutting down; false where nothing is given.
    pub fn terminating(self) -> bool {
        self.terminating.unwrap_or(false)
    }
}

/// hints of an endpoint: whose traffic should use it.
#[derive(Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    /// Zones.
    #[serde(deserialize_with = "null_as_default")]
    pub for_zones: Vec<Named>,
    /// Nodes.
    #[serde(deserialize_with = "null_as_default")]
    pub for_nodes: Vec<Named>,
}

/// A zone or a node, by its name.
#[derive(Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Named {
    /// The name.
    pub name: Box<str>,
}

/// One of ports.
#[derive(Debug, PartialEq, Deserialize)]
pub struct SlicePort {
    /// Name of the Service's port; empty for the only one.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: Box<str>,
    /// The protocol.
    #[serde(default, deserialize_with = "null_as_default")]
    pub protocol: Protocol,
    /// The port that the endpoints listen at; none: nothing to balance.
    pub port: Option<PortNumber>,
}
