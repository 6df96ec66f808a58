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
    pub endpoints: Box<[Endpoint]>,
    /// ports
    #[serde(default, deserialize_with = "null_as_default")]
    pub ports: Box<[SlicePort]>,
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

/// One of endpoints. A cluster has more of these than of anything else: what many have in common stands apart.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(from = "Written")]
pub struct Endpoint {
    /// The first of addresses.
    pub address: EndpointAddress,
    /// conditions
    pub conditions: Conditions,
    /// Where it is, if that is given.
    pub placement: Option<Arc<Placement>>,
}

/// Where an endpoint is, and whose traffic it is for.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    /// nodeName
    pub node_name: Option<Box<str>>,
    /// hints
    pub hints: Option<Hints>,
}

/// One of endpoints as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default, rename = "addresses", deserialize_with = "null_as_default")]
    address: EndpointAddress,
    #[serde(default, deserialize_with = "null_as_default")]
    conditions: Conditions,
    node_name: Option<Box<str>>,
    hints: Option<Hints>,
}

impl From<Written> for Endpoint {
    fn from(written: Written) -> Self {
        let placement = Placement {
            node_name: written.node_name,
            hints: written.hints,
        };
        Self {
            address: written.address,
            conditions: written.conditions,
            placement: (placement != Placement::default()).then(|| Arc::new(placement)),
        }
    }
}

impl Endpoint {
    /// nodeName
    pub fn node_name(&self) -> Option<&str> {
        self.placement.as_deref()?.node_name.as_deref()
    }

    /// hints
    pub fn hints(&self) -> Option<&Hints> {
        self.placement.as_deref()?.hints.as_ref()
    }
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
    /// Of an endpoint that serves while it shuts down.
    pub(crate) const TERMINATING: Self = Self {
        ready: Some(false),
        serving: Some(true),
        terminating: Some(true),
    };

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
