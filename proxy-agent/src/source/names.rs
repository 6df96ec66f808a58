//! Which objects a manifest names, without reading more of them: what deleting them asks for.

use serde::Deserialize;

use super::locate::{Path, Segment};
use super::parse::{Document, Fault, documents, read};
use super::seed::Kind;
use super::{ObjectKey, Refusal};
use crate::name::ObjectName;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    metadata: Option<Names>,
    #[serde(default)]
    items: Option<Vec<Shape>>,
}

#[derive(Default, Deserialize)]
struct Names {
    name: Option<String>,
    namespace: Option<String>,
}

/// The objects that a manifest's text names and that a node's proxy uses; `file` is what a refusal calls it.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse_names(file: &str, text: &str) -> Result<Vec<ObjectKey>, Refusal> {
    let mut keys = Vec::new();
    for document in documents(text) {
        let refuse = |fault: Fault| fault.of_object(document.text).refusal(file, document.line);
        keys.extend(of_document(&document).map_err(refuse)?);
    }
    Ok(keys)
}

fn of_document(document: &Document<'_>) -> Result<Vec<ObjectKey>, Fault> {
    let text = document.text;
    let Some(shape) = read(text, std::marker::PhantomData::<Option<Shape>>)? else {
        return Ok(Vec::new());
    };
    let missing = |field| Fault::located(text, Path::default(), format!("the document has no `{field}`"));
    let kind = shape.kind.as_deref().ok_or_else(|| missing("kind"))?;
    let version = shape.api_version.as_deref();
    let version = version.ok_or_else(|| missing("apiVersion"))?;
    let Some(item_kind) = kind.strip_suffix("List") else {
        let key = of_object(text, &shape, version, kind, Path::default())?;
        return Ok(key.into_iter().collect());
    };
    let mut keys = Vec::new();
    for (index, item) in shape.items.iter().flatten().enumerate() {
        // Items of a typed list, such as ServiceList, need not repeat their kind.
        let version = item.api_version.as_deref().unwrap_or(version);
        let kind = item.kind.as_deref().unwrap_or(item_kind);
        let place = Path::from([Segment::Key("items"), Segment::Index(index)]);
        keys.extend(of_object(text, item, version, kind, place)?);
    }
    Ok(keys)
}

fn of_object(
    text: &str,
    shape: &Shape,
    version: &str,
    kind: &str,
    place: Path<'static>,
) -> Result<Option<ObjectKey>, Fault> {
    let Some(kind) = Kind::of(version, kind) else {
        return Ok(None);
    };
    let names = shape.metadata.as_ref();
    let name = names
        .and_then(|names| names.name.as_deref())
        .filter(|name| !name.is_empty());
    let Some(name) = name else {
        let path = place.join(Path::from([Segment::Key("metadata"), Segment::Key("name")]));
        return Err(Fault::located(text, path, "it names no object".to_owned()));
    };
    let namespace = names.and_then(|names| names.namespace.as_deref());
    let namespaced = || ObjectName::new(namespace.unwrap_or("default"), name);
    Ok(Some(match kind {
        Kind::Service => ObjectKey::Service(namespaced()),
        Kind::Slice => ObjectKey::Slice(namespaced()),
        Kind::Node => ObjectKey::Node(name.into()),
        Kind::ServiceCidr => ObjectKey::ServiceCidr(name.into()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let keys = parse_names("test.yaml", text).unwrap();
        keys.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_is_enough_and_what_else_is_there_may_be_wrong() {
        let text = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: nonsense}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: node-a}}
- {apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: more}}
---
{apiVersion: v1, kind: ServiceList, items: [{metadata: {name: late}}]}
";
        assert_eq!(
            names(text),
            [
                "EndpointSlice shop/web-1",
                "Service default/web",
                "Node node-a",
                "ServiceCIDR more",
                "Service default/late"
            ]
        );
        assert_eq!(names(""), Vec::<String>::new());
    }

    #[test]
    fn what_names_nothing_is_refused_by_its_place() {
        for (text, parts) in [
            ("kind: Service\nmetadata: {name: a}\n", &["apiVersion"][..]),
            ("apiVersion: v1\nmetadata: {name: a}\n", &["`kind`"]),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: ''}\n",
                &["metadata.name", "names no object"],
            ),
            (
                "apiVersion: v1\nkind: Service\n",
                &["metadata.name", "names no object"],
            ),
            (
                "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Service, metadata: {}}]\n",
                &["items[0].metadata.name"],
            ),
            ("apiVersion: v1\nkind: [\n", &["test.yaml"]),
        ] {
            let error = parse_names("test.yaml", text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }
}
