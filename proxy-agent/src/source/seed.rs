//! Objects of known kinds, alone and in Lists.

use std::sync::Arc;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Object;
use super::object::{EndpointSlice, Node, Service, ServiceCidr};

/// The kinds that a node's proxy uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Service,
    Slice,
    Node,
    ServiceCidr,
}

impl Kind {
    pub(super) fn of(api_version: &str, kind: &str) -> Option<Self> {
        match (api_version, kind) {
            ("v1", "Service") => Some(Self::Service),
            ("discovery.k8s.io/v1", "EndpointSlice") => Some(Self::Slice),
            ("v1", "Node") => Some(Self::Node),
            ("networking.k8s.io/v1" | "networking.k8s.io/v1beta1", "ServiceCIDR") => Some(Self::ServiceCidr),
            _ => None,
        }
    }
}

/// An object of a kind, or nothing where the kind is none of ours.
#[derive(Clone, Copy)]
pub(super) struct ObjectSeed(pub(super) Option<Kind>);

impl<'de> DeserializeSeed<'de> for ObjectSeed {
    type Value = Option<Object>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Ok(match self.0 {
            Some(Kind::Service) => Some(Object::Service(Arc::new(Service::deserialize(deserializer)?))),
            Some(Kind::Slice) => Some(Object::Slice(Arc::new(EndpointSlice::deserialize(deserializer)?))),
            Some(Kind::Node) => Some(Object::Node(Arc::new(Node::deserialize(deserializer)?))),
            Some(Kind::ServiceCidr) => Some(Object::ServiceCidr(Arc::new(ServiceCidr::deserialize(
                deserializer,
            )?))),
            None => {
                IgnoredAny::deserialize(deserializer)?;
                None
            }
        })
    }
}

/// The items of a list whose kinds are known.
pub(super) struct ListSeed<'a>(pub(super) &'a [Option<Kind>]);

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = Vec<Option<Object>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = Vec<Option<Object>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" && !self.0.is_empty() {
                objects = map.next_value_seed(ItemsSeed(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(objects)
    }
}

struct ItemsSeed<'a>(&'a [Option<Kind>]);

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = Vec<Option<Object>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = Vec<Option<Object>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::with_capacity(self.0.len());
        for kind in self.0 {
            objects.extend(list.next_element_seed(ObjectSeed(*kind))?);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(objects)
    }
}
