//! The kinds that are watched, as the API names them.

use std::fmt::Debug;

use serde::de::DeserializeSeed;
use serde_path_to_error::Track;

use super::super::locate::Path;
use super::super::seed::{self, ObjectSeed};
use super::super::validate::validate;
use crate::source::Object;

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Path of the field; empty: the object as a whole.
    pub(super) field: String,
    pub(super) message: String,
}

/// A kind of objects of the API.
pub(super) trait Kind: Clone + Debug + Send + Sync + 'static {
    /// What is kept of an object.
    type Object: Clone + Debug + Send + Sync + 'static;
    const NAME: &'static str;
    const GROUP: &'static str;
    const PLURAL: &'static str;

    /// Reads an object from its JSON.
    fn read(text: &str) -> Result<Self::Object, Fault>;
}

#[derive(Clone, Debug)]
pub(super) struct Services;

#[derive(Clone, Debug)]
pub(super) struct Slices;

#[derive(Clone, Debug)]
pub(super) struct Nodes;

#[derive(Clone, Debug)]
pub(super) struct ServiceCidrs;

impl Kind for Services {
    type Object = Object;
    const NAME: &'static str = "Service";
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "services";

    fn read(text: &str) -> Result<Object, Fault> {
        read_object(seed::Kind::Service, text)
    }
}

impl Kind for Slices {
    type Object = Object;
    const NAME: &'static str = "EndpointSlice";
    const GROUP: &'static str = "discovery.k8s.io";
    const PLURAL: &'static str = "endpointslices";

    fn read(text: &str) -> Result<Object, Fault> {
        read_object(seed::Kind::Slice, text)
    }
}

impl Kind for Nodes {
    type Object = Object;
    const NAME: &'static str = "Node";
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "nodes";

    fn read(text: &str) -> Result<Object, Fault> {
        read_object(seed::Kind::Node, text)
    }
}

/// The ranges that cluster IPs are allocated from.
impl Kind for ServiceCidrs {
    type Object = Object;
    const NAME: &'static str = "ServiceCIDR";
    const GROUP: &'static str = "networking.k8s.io";
    const PLURAL: &'static str = "servicecidrs";

    fn read(text: &str) -> Result<Object, Fault> {
        read_object(seed::Kind::ServiceCidr, text)
    }
}

fn read_object(kind: seed::Kind, text: &str) -> Result<Object, Fault> {
    let object = read(text, ObjectSeed(Some(kind)))?.ok_or_else(|| Fault {
        field: String::new(),
        message: "it is of another kind".into(),
    })?;
    validate(&object).map_err(|(field, message)| Fault {
        field: field.to_string(),
        message,
    })?;
    Ok(object)
}

/// Reads; an object that can't be read is read once more, to name the field.
fn read<'de, S>(text: &'de str, seed: S) -> Result<S::Value, Fault>
where
    S: DeserializeSeed<'de> + Copy,
{
    if let Ok(value) = seed.deserialize(&mut serde_json::Deserializer::from_str(text)) {
        return Ok(value);
    }
    let mut track = Track::new();
    let mut json = serde_json::Deserializer::from_str(text);
    seed.deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track))
        .map_err(|error| Fault {
            field: Path::from(&track.path()).to_string(),
            message: without_place(&error.to_string()),
        })
}

/// The line and column of one long line help nobody.
fn without_place(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let fault = Services::read(
            r#"{"metadata": {"name": "a"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 70000}]}}"#,
        )
        .unwrap_err();
        assert_eq!(fault.field, "spec.ports[0].port");
        assert_eq!(
            fault.message,
            "invalid value: integer `70000`, expected a port from 1 to 65535"
        );
        let fault = Slices::read(
            r#"{"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{"addresses": ["fd00::1"]}]}"#,
        )
        .unwrap_err();
        assert_eq!(fault.field, "endpoints[0].addresses[0]");
        assert!(fault.message.contains("no IPv4 address"), "{}", fault.message);
    }

    /// A cluster has 100,000 endpoints and tens of thousands of Services and slices, all of which are kept.
    #[test]
    fn what_is_kept_takes_little_room() {
        use crate::source::{Endpoint, EndpointSlice, Service};
        let sizes = (
            size_of::<Endpoint>(),
            size_of::<EndpointSlice>(),
            size_of::<Service>(),
        );
        assert!(sizes.0 <= 40 && sizes.1 <= 200 && sizes.2 <= 320, "{sizes:?}");
    }

    #[test]
    fn the_ranges_of_cluster_ips_are_read() {
        let read = |cidrs: &str| {
            ServiceCidrs::read(&format!(
                r#"{{"metadata": {{"name": "a"}}, "spec": {{"cidrs": {cidrs}}}}}"#
            ))
        };
        let Object::ServiceCidr(object) = read(r#"["10.96.0.0/12", "fd00:10::/108"]"#).unwrap() else {
            panic!("another object");
        };
        assert_eq!(object.spec.cidrs.len(), 2);
        let fault = read(r#"["10.96.0.0/12", "all"]"#).unwrap_err();
        assert_eq!(fault.field, "spec.cidrs[1]");
    }
}
