//! A real API server's opinion: its schemas, its defaults, its validation.

use std::sync::OnceLock;

use lab::cluster::{ControlPlane, Controllers};
use serde_json::Value;

use super::helm::rendered;
use super::tool::with_file;
use super::yaml::objects;

fn plane() -> &'static ControlPlane {
    static PLANE: OnceLock<ControlPlane> = OnceLock::new();
    PLANE.get_or_init(|| ControlPlane::start(Controllers::None).unwrap_or_else(|error| panic!("{error:#}")))
}

/// Gives objects to the API server, which stores nothing.
fn try_out(objects: &[Value]) -> Result<String, String> {
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    with_file(&list.to_string(), |path| {
        plane()
            .kubectl(&[
                "apply",
                "--server-side",
                "--dry-run=server",
                "--validate=strict",
                "--filename",
                path,
            ])
            .map_err(|error| format!("{error:#}"))
    })
}

#[test]
fn it_takes_the_bases_and_the_chart() {
    for (what, objects) in [
        ("manifests", objects("manifests")),
        ("cleanup", objects("cleanup")),
        ("chart", rendered(&[])),
        ("downgrade", super::downgrade::objects()),
        (
            "downgrade by the chart",
            rendered(&super::downgrade::BY_THE_CHART),
        ),
    ] {
        let said = try_out(&objects).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            said.matches("serverside-applied").count(),
            objects.len(),
            "{what}: {said}"
        );
    }
}

#[test]
fn it_refuses_a_field_that_does_not_exist_and_a_value_that_can_not_be() {
    let mut misspelt = objects("manifests");
    let set = misspelt
        .iter_mut()
        .find(|object| object["kind"] == "DaemonSet")
        .unwrap();
    set["spec"]["template"]["spec"]["hostNetworks"] = true.into();
    let error = try_out(&misspelt).unwrap_err();
    assert!(error.contains("hostNetworks"), "{error}");
    let mut wrong = objects("manifests");
    let set = wrong
        .iter_mut()
        .find(|object| object["kind"] == "DaemonSet")
        .unwrap();
    set["spec"]["template"]["spec"]["dnsPolicy"] = "Nodes".into();
    let error = try_out(&wrong).unwrap_err();
    assert!(error.contains("dnsPolicy"), "{error}");
}
