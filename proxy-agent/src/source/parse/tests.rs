use super::*;
use crate::source::{ObjectKey, Protocol};

fn keys(text: &str) -> Vec<String> {
    parse("a.yaml", text)
        .unwrap()
        .objects
        .iter()
        .map(|object| object.key().to_string())
        .collect()
}

fn refusal(text: &str) -> String {
    parse("a.yaml", text).unwrap_err().to_string()
}

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  clusterIP: 10.96.0.1
  ports:
  - port: 80
";

#[test]
fn several_documents_and_lists_are_read_in_order() {
    let text = "# a comment before all
---
apiVersion: v1
kind: Service
metadata: {name: one, namespace: blue}
---
# nothing but a comment
---
kind: List
apiVersion: v1
items:
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: one-abc, labels: {kubernetes.io/service-name: one, app: 3}}
  addressType: IPv4
- {apiVersion: apps/v1, kind: Deployment, spec: [anything]}
- {apiVersion: v1, kind: Node, metadata: {name: node-a}}
---
apiVersion: v1
kind: ServiceList
items:
- metadata: {name: two}
";
    assert_eq!(
        keys(text),
        [
            "Service blue/one",
            "EndpointSlice default/one-abc",
            "Node node-a",
            "Service default/two"
        ]
    );
    assert_eq!(parse("a.yaml", text).unwrap().ignored, ["apps/v1 Deployment"]);
}

#[test]
fn json_is_read_with_keys_in_any_order_and_tabs() {
    let text = "{\n\t\"addressType\": \"IPv6\",\n\t\"endpoints\": [{\"addresses\": [\"fd00::1\"]}],\n\t\"apiVersion\": \"discovery.k8s.io/v1\",\n\t\"kind\": \"EndpointSlice\",\n\t\"metadata\": {\"name\": \"x\"}\n}\n";
    assert_eq!(keys(text), ["EndpointSlice default/x"]);
}

#[test]
fn an_object_of_the_api_server_is_read() {
    let text = "apiVersion: v1
kind: Service
metadata:
  creationTimestamp: \"2026-01-31T12:00:00Z\"
  labels: null
  name: web
  namespace: shop
  uid: 6ac7a0a4-9f55-4b3a-a0a3-4a2a5e1bb2c1
spec:
  allocateLoadBalancerNodePorts: true
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, 'fd00:96::1']
  externalTrafficPolicy: Local
  internalTrafficPolicy: Cluster
  ipFamilies: [IPv4, IPv6]
  ports:
  - {name: dns, nodePort: 30053, port: 53, protocol: UDP, targetPort: dns}
  selector: {app: web}
  sessionAffinity: None
  type: LoadBalancer
status:
  loadBalancer:
    ingress:
    - {ip: 192.0.2.1, ipMode: VIP}
    - {hostname: lb.example.org}
";
    let parsed = parse("a.yaml", text).unwrap();
    let [Object::Service(service)] = &parsed.objects[..] else {
        panic!("{parsed:?}")
    };
    assert_eq!(service.spec.ports[0].protocol, Protocol::Udp);
    assert_eq!(service.spec.cluster_ips.len(), 2);
    assert_eq!(service.status.load_balancer.ingress.len(), 2);
    assert_eq!(
        parsed.objects[0].key(),
        ObjectKey::Service(crate::name::ObjectName::new("shop", "web"))
    );
}

#[test]
fn a_wrong_value_is_named_with_file_line_column_and_field() {
    let with = |from: &str, to: &str| {
        refusal(&format!(
            "{{kind: X, apiVersion: x/v1}}\n---\n{}",
            SERVICE.replace(from, to)
        ))
    };
    for (from, to, expected) in [
        (
            "port: 80",
            "port: 0",
            "a.yaml:10:11: spec.ports[0].port: invalid value: integer `0`, expected a port from 1 to 65535",
        ),
        (
            "port: 80",
            "port: 70000",
            "a.yaml:10:11: spec.ports[0].port: invalid value: integer `70000`",
        ),
        ("port: 80", "port: http", "a.yaml:10:11: spec.ports[0].port: "),
        (
            "port: 80",
            "protocol: TCPP",
            "a.yaml:10:15: spec.ports[0].protocol: ",
        ),
        (
            "10.96.0.1",
            "10.96.0.300",
            "a.yaml:8:14: spec.clusterIP: invalid value: string \"10.96.0.300\", expected an IP address",
        ),
        (
            "name: web",
            "name: web\n  creationTimestamp: now",
            "a.yaml:7:22: metadata.creationTimestamp: ",
        ),
        ("  - port: 80", "  - {port: 80", "a.yaml:"),
        ("  name: web", "  namespace: web", "a.yaml:6:3: metadata: "),
        (
            "port: 80",
            "port: 80\n  - {port: 80, name: b}",
            "a.yaml:11:12: spec.ports[1].port: another port",
        ),
    ] {
        let refusal = with(from, to);
        assert!(refusal.starts_with(expected), "{to}: {refusal}");
        assert!(!refusal.contains('\n'), "{refusal}");
    }
}

#[test]
fn a_wrong_value_inside_a_list_is_found() {
    let text = "apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: a}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: b}
  addressType: IPv4
  endpoints:
  - addresses: [10.0.0.1]
  - addresses:
    - fd00::1
";
    assert_eq!(
        refusal(text),
        "a.yaml:12:7: items[1].endpoints[1].addresses[0]: fd00::1 is no IPv4 address, as addressType says (EndpointSlice default/b)"
    );
    assert!(
        refusal(&text.replace("fd00::1", "pod-1"))
            .ends_with("string \"pod-1\", expected an IP address (EndpointSlice default/b)")
    );
    assert!(parse("a.yaml", &text.replace("IPv4", "FQDN")).is_ok());
    let number = refusal(&text.replace("name: b", "name: [b]"));
    assert!(
        number.starts_with("a.yaml:7:20: items[1].metadata.name: "),
        "{number}"
    );
}

#[test]
fn an_object_may_stand_in_a_file_once() {
    let text = format!("{SERVICE}---\n{SERVICE}");
    assert_eq!(
        refusal(&text),
        "a.yaml:13:9: metadata.name: Service default/web stands in this file twice"
    );
}

#[test]
fn a_document_must_say_its_kind() {
    assert!(refusal("a: 1\n---\n\nb: 2\n").starts_with("a.yaml:1:1: the document has no `kind`"));
    assert!(
        refusal("{kind: X, apiVersion: x/v1}\n---\nb: 2\n")
            .starts_with("a.yaml:3:1: the document has no `kind`")
    );
}

#[test]
fn a_document_must_say_its_version() {
    let refusal = refusal(&SERVICE.replace("apiVersion: v1\n", ""));
    assert_eq!(
        refusal,
        "a.yaml:1:1: the document has no `apiVersion` (Service default/web)"
    );
    let other = SERVICE.replace("apiVersion: v1", "apiVersion: serving.knative.dev/v1");
    assert_eq!(
        parse("a.yaml", &other).unwrap().ignored,
        ["serving.knative.dev/v1 Service"]
    );
}

#[test]
fn empty_files_hold_nothing() {
    for text in ["", "\n", "# only a comment\n", "---\n", "---\n---\n# x\n"] {
        assert!(parse("a.yaml", text).unwrap().objects.is_empty(), "{text:?}");
    }
}

#[test]
fn a_list_may_be_as_large_as_a_cluster() {
    let mut text = "apiVersion: v1\nkind: List\nitems:\n".to_owned();
    for number in 0..30_000 {
        text += &format!(
            "- {{apiVersion: v1, kind: Node, metadata: {{name: n{number}, labels: {{a: b, c: d}}}}}}\n"
        );
    }
    assert_eq!(parse("a.yaml", &text).unwrap().objects.len(), 30_000);
}

#[test]
fn the_type_is_found_however_it_is_written() {
    for text in [
        "apiVersion: v1\nkind: Node\nmetadata: {name: a}\n",
        "metadata: {name: a}\nkind: \"Node\" # quoted\napiVersion: 'v1'\n",
        "{metadata: {name: a}, kind: Node, apiVersion: v1}",
        "apiVersion: v1 # of the core\nkind: Node\nmetadata: {name: a}\n",
        "kind:   Node\napiVersion:\n  v1\nmetadata:\n  name: a\n  annotations:\n    text: |\n      kind: Service\n",
    ] {
        assert_eq!(keys(text), ["Node a"], "{text}");
    }
}
