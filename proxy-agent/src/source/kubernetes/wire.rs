//! An object as the API server sends it: one that can't be read must not take the list or the watch with it.

use std::borrow::Cow;

use kube::core::{ClusterResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::kind::{Fault, Kind};

/// What every object has, and the object or what is wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Wire<K: Kind> {
    /// Name, namespace and version alone.
    pub(super) metadata: ObjectMeta,
    pub(super) object: Result<K::Object, Fault>,
}

#[derive(Deserialize)]
struct Head {
    metadata: HeadMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMetadata {
    name: String,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl<'de, K: Kind> Deserialize<'de> for Wire<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let Head { metadata } = serde_json::from_str(text).map_err(serde::de::Error::custom)?;
        Ok(Self {
            metadata: ObjectMeta {
                name: Some(metadata.name),
                namespace: metadata.namespace,
                resource_version: metadata.resource_version,
                ..ObjectMeta::default()
            },
            object: K::read(text),
        })
    }
}

impl<K: Kind> kube::Resource for Wire<K> {
    type DynamicType = ();
    // All namespaces at once, for those kinds that have one.
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::NAME.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};

    use super::super::kind::Services;
    use super::*;

    const GOOD: &str = r#"{"metadata": {"name": "good", "namespace": "n", "resourceVersion": "7",
        "managedFields": [{"manager": "kubectl"}]}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}"#;
    const BAD: &str = r#"{"metadata": {"name": "bad", "namespace": "n", "resourceVersion": "8"},
        "spec": {"clusterIP": "here", "ports": [{"port": 80}]}}"#;

    #[test]
    fn one_object_that_cannot_be_read_does_not_take_the_list_with_it() {
        let text = format!(
            r#"{{"kind": "ServiceList", "apiVersion": "v1", "metadata": {{"resourceVersion": "9"}}, "items": [{GOOD}, {BAD}]}}"#
        );
        let list: ObjectList<Wire<Services>> = serde_json::from_str(&text).unwrap();
        assert_eq!(list.items.len(), 2);
        assert!(list.items[0].object.is_ok());
        assert!(list.items[0].metadata.managed_fields.is_none());
        assert_eq!(list.items[1].metadata.name.as_deref(), Some("bad"));
        assert_eq!(list.items[1].object.as_ref().unwrap_err().field, "spec.clusterIP");
    }

    #[test]
    fn nor_does_it_end_the_watch() {
        let text = format!(r#"{{"type": "MODIFIED", "object": {BAD}}}"#);
        let WatchEvent::Modified(wire) = serde_json::from_str::<WatchEvent<Wire<Services>>>(&text).unwrap()
        else {
            panic!("{text}");
        };
        assert_eq!(wire.metadata.resource_version.as_deref(), Some("8"));
        assert!(wire.object.is_err());
    }
}
