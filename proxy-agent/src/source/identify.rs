//! Which object a document is that can't be read: its kind and name, as far as those can.

use serde_json::Value;

use super::parse::options;

/// `Service default/web`, of the document or of the item of a list that a field's path leads into.
pub(super) fn identify(text: &str, field: &str) -> Option<String> {
    let document: Value = serde_saphyr::from_str_with_options(text, options()).ok()?;
    let item = field
        .strip_prefix("items[")
        .and_then(|rest| rest.split(']').next());
    let item = item.and_then(|index| document.get("items")?.get(index.parse::<usize>().ok()?));
    let object = item.unwrap_or(&document);
    let kind = object.get("kind").or_else(|| document.get("kind"))?.as_str()?;
    // Items of a ServiceList need not say that they are Services.
    let kind = if object.get("kind").is_none() {
        kind.strip_suffix("List")?
    } else {
        kind
    };
    let metadata = object.get("metadata")?;
    let name = metadata.get("name")?.as_str()?;
    let namespace = metadata.get("namespace").and_then(Value::as_str);
    Some(match (kind, namespace) {
        ("Node" | "ServiceCIDR", _) => format!("{kind} {name}"),
        (_, namespace) => format!("{kind} {}/{name}", namespace.unwrap_or("default")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_as_far_as_it_can_be_read() {
        let list =
            "kind: ServiceList\nitems: [{metadata: {name: a}}, {kind: Node, metadata: {name: node-a}}]";
        for (text, field, expected) in [
            (
                "kind: Service\nmetadata: {name: web}\nspec: 3",
                "spec",
                Some("Service default/web"),
            ),
            (
                "kind: Service\nmetadata: {name: web, namespace: shop}",
                "",
                Some("Service shop/web"),
            ),
            ("kind: Node\nmetadata: {name: node-a}", "", Some("Node node-a")),
            (list, "items[0].spec", Some("Service default/a")),
            (list, "items[1].spec", Some("Node node-a")),
            (list, "items", None),
            ("kind: Service\nmetadata: {name: [web]}", "metadata.name", None),
            ("kind: [", "", None),
            ("", "", None),
        ] {
            assert_eq!(identify(text, field).as_deref(), expected, "{text} {field}");
        }
    }
}
