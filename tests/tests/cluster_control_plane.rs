//! A control plane alone: what it keeps over the API server's end, and that it leaves nothing behind.

use std::path::Path;

use lab::cluster::{ControlPlane, Controllers};

#[test]
fn the_api_server_keeps_services_over_its_restart() {
    let mut control_plane = ControlPlane::start(Controllers::None).unwrap();
    let create = ["create", "service", "clusterip", "kept", "--tcp=80:8080"];
    control_plane.kubectl(&create).unwrap();
    control_plane.stop_api().unwrap();
    let error = control_plane
        .kubectl(&["get", "service", "kept"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("kubectl get service kept failed"), "{error}");
    control_plane.start_api().unwrap();
    let families = ["get", "service", "kept", "--output=jsonpath={.spec.clusterIP}"];
    let address = control_plane.kubectl(&families).unwrap();
    assert!(address.starts_with("10.96."), "{address}");
}

#[test]
fn services_of_both_families_and_service_accounts_are_made() {
    let control_plane = ControlPlane::start(Controllers::All).unwrap();
    let create = ["create", "service", "clusterip", "pair", "--tcp=80:8080"];
    control_plane.kubectl(&create).unwrap();
    let patch = r#"{"spec":{"ipFamilyPolicy":"RequireDualStack"}}"#;
    control_plane
        .kubectl(&["patch", "service", "pair", "--patch", patch])
        .unwrap();
    let addresses = control_plane
        .kubectl(&["get", "service", "pair", "--output=jsonpath={.spec.clusterIPs}"])
        .unwrap();
    assert!(
        addresses.contains("10.96.") && addresses.contains("fd00:96::"),
        "{addresses}"
    );
}

#[test]
fn nothing_is_left_behind() {
    let control_plane = ControlPlane::start(Controllers::None).unwrap();
    let folder = control_plane.folder().to_owned();
    let namespace = control_plane.place().namespace().path();
    let group = Path::new("/sys/fs/cgroup/unified").join(control_plane.id());
    for path in [&folder, &namespace, &group] {
        assert!(path.exists(), "{} is not there", path.display());
    }
    drop(control_plane);
    for path in [folder, namespace, group] {
        assert!(!path.exists(), "{} is left", path.display());
    }
}
