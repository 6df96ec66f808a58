//! Control planes of the tests.

use std::sync::{Mutex, OnceLock};

use lab::cluster::control_plane::server;
use lab::cluster::{ControlPlane, Controllers};
use proxy_agent::source::ApiOptions;

/// One for all tests that leave the API server alone. Its guardian removes it when the process ends.
pub(crate) fn shared() -> &'static ControlPlane {
    static SHARED: OnceLock<ControlPlane> = OnceLock::new();
    SHARED.get_or_init(|| ControlPlane::start(Controllers::None).unwrap())
}

/// How an administrator reaches it.
pub(crate) fn options(plane: &ControlPlane) -> ApiOptions {
    ApiOptions {
        kubeconfig: Some(plane.kubeconfig().to_owned()),
        ..ApiOptions::default()
    }
}

/// Where the API server answers.
pub(crate) fn address() -> std::net::SocketAddr {
    server().trim_start_matches("https://").parse().unwrap()
}

/// Makes a namespace of the cluster for a test of its own.
pub(crate) fn namespace(plane: &ControlPlane, name: &str) {
    plane.kubectl(&["create", "namespace", name]).unwrap();
}

/// Applies manifests.
pub(crate) fn apply(plane: &ControlPlane, manifests: &str) {
    // Each writes its own file: tests run side by side.
    static NEXT: Mutex<u32> = Mutex::new(0);
    let number = {
        let mut next = NEXT.lock().unwrap();
        *next += 1;
        *next
    };
    let file = plane.folder().join(format!("apply-{number}.yaml"));
    std::fs::write(&file, manifests).unwrap();
    plane
        .kubectl(&["apply", "--server-side", "--filename", file.to_str().unwrap()])
        .unwrap();
}

/// A Service without a selector; its address is the API server's choice.
pub(crate) fn service(namespace: &str, name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: {namespace}, name: {name}{more}}}\n\
         spec: {{ports: [{{name: http, port: 80}}]}}\n"
    )
}

/// A slice of a Service with these addresses.
pub(crate) fn slice(namespace: &str, service: &str, name: &str, addresses: &[&str]) -> String {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| format!("{{addresses: [{address}]}}"))
        .collect();
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{namespace: {namespace}, name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}\n\
         endpoints: [{}]\nports: [{{name: http, port: 8080, protocol: TCP}}]\n",
        endpoints.join(", ")
    )
}
