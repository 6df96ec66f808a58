mod beside;
mod endpoints;
mod forwarding;
mod oracle;
mod rule;
mod served;
mod touched;

use proxy_common::layout::{FrontendKind, When};

use super::*;
use crate::plan::{List, protocol_name};
use crate::source::objects;

/// A model of node `here` in zone `west` that holds these objects.
fn model(manifests: &[&str]) -> Model {
    let mut model = Model::new("here");
    let node =
        "apiVersion: v1\nkind: Node\nmetadata: {name: here, labels: {topology.kubernetes.io/zone: west}}";
    apply(&mut model, node);
    for manifest in manifests {
        apply(&mut model, manifest);
    }
    model
}

fn apply(model: &mut Model, manifest: &str) -> Touched {
    model.apply(objects(manifest).into_iter().map(Change::Upsert).collect())
}

fn service_with(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{{spec}}}\n")
}

fn service(spec: &str) -> String {
    service_with(&format!(
        "clusterIP: 10.96.0.1, ports: [{{port: 80, nodePort: 30080}}], {spec}"
    ))
}

fn slice(endpoints: &[&str]) -> String {
    slice_named("web-1", endpoints)
}

fn slice_named(name: &str, endpoints: &[&str]) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{}]
",
        endpoints.join(", ")
    )
}

/// An endpoint 10.1.0.N: `h` on this node, `r` ready, `s` serving, `t` terminating.
fn endpoint(number: u8, letters: &str, more: &str) -> String {
    let has = |letter| letters.contains(letter);
    let node = if has('h') { "here" } else { "there" };
    let (ready, serving, terminating) = (has('r'), has('s'), has('t'));
    format!(
        "{{addresses: [10.1.0.{number}], nodeName: {node}, conditions: {{ready: {ready}, serving: {serving}, terminating: {terminating}}}, {more}}}"
    )
}

fn slice_of(endpoints: &[(u8, &str)]) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|(number, letters)| endpoint(*number, letters, ""))
        .collect();
    slice(&endpoints.iter().map(String::as_str).collect::<Vec<_>>())
}

fn compile(model: &Model) -> Vec<ServicePort> {
    model.compile(&ObjectName::new("default", "web"))
}

/// The last octets of a list's endpoints, or what happens without.
fn list(port: &ServicePort, list: &List) -> String {
    let last = |endpoint: &crate::plan::Endpoint| {
        endpoint
            .address
            .to_string()
            .rsplit('.')
            .next()
            .unwrap()
            .to_owned()
    };
    let members: Vec<String> = port.members(list).map(last).collect();
    match (members.is_empty(), list.when_empty) {
        (false, _) => members.join(" "),
        (true, When::Reject) => "reject".into(),
        (true, When::Drop) => "drop".into(),
        (true, When::Pass) => "pass".into(),
    }
}

/// Internal, external and shortcut list of the only port.
fn lists(model: &Model) -> [String; 3] {
    let ports = compile(model);
    let [port] = &ports[..] else { panic!("{ports:?}") };
    [&port.internal, &port.external, &port.shortcut].map(|wanted| list(port, wanted))
}

fn frontends(port: &ServicePort) -> Vec<String> {
    let text = |(frontend, kind): &(crate::plan::Frontend, FrontendKind)| {
        let protocol = protocol_name(frontend.protocol);
        format!(
            "{kind:?} {} {} {protocol}",
            frontend.address,
            frontend.port.number()
        )
    };
    port.frontends.iter().map(text).collect()
}
