//! A Node.

use std::net::IpAddr;

use serde::Deserialize;

use super::Metadata;
use super::scalar::{SourceRange, null_as_default, parse_address, parse_range};

/// The taint that the cluster autoscaler puts on a node that it is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node: its name and, among the labels, its zone. A running agent reads its addresses from its interfaces; who asks
/// without one takes those of the status.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Node {
    /// metadata
    pub metadata: Metadata,
    /// spec
    #[serde(default, deserialize_with = "null_as_default")]
    pub spec: NodeSpec,
    /// status
    #[serde(default, deserialize_with = "null_as_default")]
    pub status: NodeStatus,
}

/// spec of a Node.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// spec.taints
    #[serde(deserialize_with = "null_as_default")]
    pub taints: Vec<Taint>,
    /// spec.podCIDR
    #[serde(rename = "podCIDR", deserialize_with = "null_as_default")]
    pod_cidr: Box<str>,
    /// spec.podCIDRs, one a family; spec.podCIDR is the first of them.
    #[serde(rename = "podCIDRs", deserialize_with = "null_as_default")]
    pod_cidrs: Box<[Box<str>]>,
}

/// status of a Node.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// status.addresses
    #[serde(deserialize_with = "null_as_default")]
    pub addresses: Box<[NodeAddress]>,
}

/// One of status.addresses.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, or a kind of name.
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: Box<str>,
    /// An address or a name.
    #[serde(deserialize_with = "null_as_default")]
    pub address: Box<str>,
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

    /// The addresses of the status, each once: those of the type InternalIP first, as the API server has them ordered.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let of_kind = |kind: &'static str| {
            let addresses = self.status.addresses.iter();
            addresses
                .filter(move |address| &*address.kind == kind)
                .filter_map(|address| parse_address(&address.address))
        };
        let mut addresses = Vec::new();
        for address in of_kind("InternalIP").chain(of_kind("ExternalIP")) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Where its pods' addresses are from.
    pub fn pod_ranges(&self) -> Vec<SourceRange> {
        let NodeSpec {
            pod_cidr, pod_cidrs, ..
        } = &self.spec;
        let texts: Vec<&str> = match &**pod_cidrs {
            [] => vec![pod_cidr],
            cidrs => cidrs.iter().map(|cidr| &**cidr).collect(),
        };
        texts.into_iter().filter_map(parse_range).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn addresses_and_ranges_of_pods_are_read_and_names_are_none() {
        let node = node(
            "metadata: {name: a}
spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}
status:
  addresses:
  - {type: Hostname, address: a}
  - {type: ExternalIP, address: 203.0.113.5}
  - {type: InternalIP, address: 192.0.2.1}
  - {type: InternalIP, address: '2001:db8::1'}
  - {type: InternalIP, address: 192.0.2.1}
",
        );
        let addresses: [IpAddr; 3] =
            ["192.0.2.1", "2001:db8::1", "203.0.113.5"].map(|text| text.parse().unwrap());
        assert_eq!(node.addresses(), addresses);
        let lengths: Vec<u8> = node.pod_ranges().iter().map(|range| range.length).collect();
        assert_eq!(lengths, [24, 64]);
    }

    #[test]
    fn one_range_may_stand_alone_and_all_may_be_missing() {
        assert_eq!(
            node("{metadata: {name: a}, spec: {podCIDR: 10.1.0.0/24}}")
                .pod_ranges()
                .len(),
            1
        );
        let bare = node("{metadata: {name: a}}");
        assert_eq!((bare.addresses().len(), bare.pod_ranges().len()), (0, 0));
    }
}
