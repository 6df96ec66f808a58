//! What the agent tells over HTTP, asked as load balancers, kubelets and Prometheus ask.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod place;
mod running;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use place::Place;
use running::{Agent, write};
use serde_json::Value;

const SERVICES: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.1
  externalTrafficPolicy: Local
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: shop}
spec: {clusterIP: 'fd00::1', internalTrafficPolicy: Local, ports: [{port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.1.0.1], nodeName: there}, {addresses: [10.1.0.2], nodeName: there}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, namespace: shop, labels: {kubernetes.io/service-name: dns}}
addressType: IPv6
ports: [{port: 53, protocol: UDP}]
endpoints: [{addresses: ['fd01::1'], nodeName: there}]
";
const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: here}}";
const TAINTED: &str = "{apiVersion: v1, kind: Node, metadata: {name: here},
  spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}}";

/// The answer as a whole.
fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

/// Asks until the answer is as it should be.
fn eventually(address: &str, path: &str, expected: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = get(address, path);
        match answer {
            Ok(answer) if expected(&answer) => return answer,
            answer => assert!(Instant::now() < deadline, "{path}: {answer:?}"),
        }
        std::thread::yield_now();
    }
}

fn place(name: &str) -> Place {
    let place = Place::enter(name);
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.expect("ip (iproute2) can't be run").success());
    place
}

#[test]
fn load_balancers_kubelets_and_prometheus_are_answered() {
    let place = place("serve");
    write(&place, "node.yaml", NODE);
    write(&place, "services.yaml", SERVICES);
    let mut agent = Agent::start(&place);
    agent.wait("ready");

    for address in ["127.0.0.1:10256", "[::1]:10256"] {
        let healthz = get(address, "/healthz").unwrap();
        assert!(healthz.starts_with("HTTP/1.1 200 OK\r\n"), "{healthz}");
        let healthz: Value = serde_json::from_str(body(&healthz)).unwrap();
        assert_eq!(
            (&healthz["nodeEligible"], &healthz["healthy"]),
            (&true.into(), &true.into())
        );
        assert_eq!(healthz["lastUpdated"], healthz["currentTime"]);
        let livez = get(address, "/livez").unwrap();
        assert!(
            livez.starts_with("HTTP/1.1 200 OK\r\n") && !livez.contains("nodeEligible"),
            "{livez}"
        );
    }

    let metrics = get("127.0.0.1:10249", "/metrics").unwrap();
    assert!(
        metrics.contains("content-type: application/openmetrics-text"),
        "{metrics}"
    );
    for line in [
        "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 1",
        "kubeproxy_sync_proxy_rules_service_changes_total 2",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\",ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\",ip_family=\"IPv4\"} 0",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\",ip_family=\"IPv6\"} 1",
        "kubeproxy_proxy_healthz_total{code=\"200\"} 2",
        "kubeproxy_proxy_livez_total{code=\"200\"} 2",
        "shunt_map_entries{map=\"FRONTENDS4\"} 2",
        "shunt_map_entries{map=\"FRONTENDS6\"} 1",
        "shunt_map_entries{map=\"SERVICES\"} 2",
        "shunt_map_entries{map=\"BACKENDS\"} 3",
        "shunt_drops_total{reason=\"no_endpoint\"} 0",
        "shunt_events_total{event=\"flow_created\"} 0",
        "shunt_failed_services 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in {metrics}"
        );
    }
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");

    write(&place, "node.yaml", TAINTED);
    let healthz = eventually("127.0.0.1:10256", "/healthz", |answer| {
        answer.starts_with("HTTP/1.1 503 ")
    });
    assert_eq!(
        serde_json::from_str::<Value>(body(&healthz)).unwrap()["nodeEligible"],
        false
    );
    assert!(
        get("127.0.0.1:10256", "/livez")
            .unwrap()
            .starts_with("HTTP/1.1 200 OK")
    );
    write(&place, "node.yaml", NODE);
    eventually("127.0.0.1:10256", "/healthz", |answer| {
        answer.starts_with("HTTP/1.1 200 ")
    });

    let changed = SERVICES.replace("10.1.0.2", "10.1.0.3");
    let now = jiff::Timestamp::now();
    let annotation =
        format!("annotations: {{endpoints.kubernetes.io/last-change-trigger-time: '{now}'}}, name: web-1");
    write(
        &place,
        "services.yaml",
        &changed.replace("name: web-1", &annotation),
    );
    let metrics = eventually("127.0.0.1:10249", "/metrics", |answer| {
        answer.contains("\nshunt_endpoint_change_latency_seconds_count 1\n")
    });
    let programming = "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 1\n";
    assert!(metrics.contains(programming), "{metrics}");

    assert_eq!(body(&get("127.0.0.1:10249", "/healthz").unwrap()), "ok");
    assert_eq!(body(&get("127.0.0.1:10249", "/proxyMode").unwrap()), "shunt");
    let configuration = get("127.0.0.1:10249", "/configz").unwrap();
    let configuration: Value = serde_json::from_str(body(&configuration)).unwrap();
    let configuration = &configuration["kubeproxy.config.k8s.io"];
    assert_eq!(configuration["hostnameOverride"], "here");
    assert_eq!(configuration["metricsBindAddress"], "127.0.0.1:10249");
    agent.stop();
    assert!(
        get("127.0.0.1:10256", "/livez").is_err(),
        "it ended with the agent"
    );
}

const BALANCED: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  externalTrafficPolicy: Local
  healthCheckNodePort: 32100
  ports: [{port: 80, nodePort: 30080}, {name: more, port: 81, nodePort: 30081}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}, {name: more, port: 8081}]
endpoints:
- {addresses: [10.1.0.1], nodeName: here}
- {addresses: [10.1.0.2], nodeName: here}
- {addresses: [10.1.0.3], nodeName: there}
- {addresses: [10.1.0.4], nodeName: here, conditions: {ready: false, serving: true, terminating: true}}
";

#[test]
fn a_load_balancer_hears_of_the_endpoints_of_this_node() {
    let place = place("balanced");
    let taken = std::net::TcpListener::bind("[::]:32101").unwrap();
    write(&place, "web.yaml", BALANCED);
    let mut agent = Agent::start(&place);
    agent.wait("ready");
    for address in ["127.0.0.1:32100", "[::1]:32100"] {
        let answer = eventually(address, "/any/path", |answer| {
            answer.starts_with("HTTP/1.1 200 OK\r\n")
        });
        for header in [
            "content-type: application/json\r\n",
            "x-content-type-options: nosniff\r\n",
            "x-load-balancing-endpoint-weight: 2\r\n",
        ] {
            assert!(answer.contains(header), "{header} is not in {answer}");
        }
        let said: Value = serde_json::from_str(body(&answer)).unwrap();
        let expected = serde_json::json!({
            "service": {"namespace": "shop", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": true
        });
        assert_eq!(said, expected);
    }

    let elsewhere = BALANCED.replace("nodeName: here", "nodeName: there");
    write(&place, "web.yaml", &elsewhere);
    let answer = eventually("127.0.0.1:32100", "/", |answer| {
        answer.starts_with("HTTP/1.1 503 ")
    });
    assert!(
        answer.contains("x-load-balancing-endpoint-weight: 0\r\n"),
        "{answer}"
    );

    // Another port at once, also one that is taken.
    write(&place, "web.yaml", &BALANCED.replace("32100", "32101"));
    let error = agent.wait(
        "can't listen at spec.healthCheckNodePort: load balancers take this node for one without endpoints of the \
         Service. It is tried again; stop what has the port, or give the Service another one",
    );
    assert_eq!(
        (&error["service"], &error["port"]),
        (&"shop/web".into(), &32101.into())
    );
    assert!(
        get("127.0.0.1:32100", "/").is_err(),
        "the old port is still served"
    );
    drop(taken);
    eventually("127.0.0.1:32101", "/", |answer| {
        answer.starts_with("HTTP/1.1 200 ")
    });

    // Two Services change ports with each other.
    let other = BALANCED.replace("web", "app").replace("10.96.0.1", "10.96.0.2");
    let other = other.replace("30080", "30082").replace("30081", "30083");
    write(&place, "app.yaml", &other);
    eventually("127.0.0.1:32100", "/", |answer| answer.contains("\"app\""));
    write(
        &place,
        "both.yaml",
        &format!("{BALANCED}---\n{}", other.replace("32100", "32101")),
    );
    for file in ["app.yaml", "web.yaml"] {
        std::fs::remove_file(place.manifests.join(file)).unwrap();
    }
    eventually("127.0.0.1:32100", "/", |answer| answer.contains("\"web\""));
    eventually("127.0.0.1:32101", "/", |answer| answer.contains("\"app\""));

    // The policy decides, and the agent's end ends them.
    let cluster = BALANCED.replace("externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster");
    write(&place, "both.yaml", &cluster);
    let deadline = Instant::now() + Duration::from_secs(60);
    for address in ["127.0.0.1:32100", "127.0.0.1:32101"] {
        while get(address, "/").is_ok() {
            assert!(Instant::now() < deadline, "{address} is still served");
        }
    }
    write(&place, "both.yaml", BALANCED);
    eventually("127.0.0.1:32100", "/", |answer| {
        answer.starts_with("HTTP/1.1 200 ")
    });
    agent.stop();
    assert!(get("127.0.0.1:32100", "/").is_err());
}

#[test]
fn a_load_balancer_hears_where_node_ports_answer() {
    let place = place("chosen");
    let addresses = |verb: &str, address: &str| {
        let arguments = ["address", verb, address, "dev", "lo"];
        assert!(Command::new("ip").args(arguments).status().unwrap().success());
    };
    addresses("add", "198.51.100.1/32");
    let config = place.manifests.parent().unwrap().join("config.yaml");
    let write_config = |list: &str| {
        let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
        let new = config.with_extension("new");
        std::fs::write(&new, format!("{head}nodePortAddresses: {list}\n")).unwrap();
        std::fs::rename(new, &config).unwrap();
    };
    let serves = |address: &str| eventually(address, "/", |answer| answer.starts_with("HTTP/1.1 200 "));
    let ends = |address: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while get(address, "/").is_ok() {
            assert!(Instant::now() < deadline, "{address} is still served");
        }
    };
    write_config("[198.51.100.0/24, '::1/128']");
    write(&place, "web.yaml", BALANCED);
    let mut agent = Agent::start_with(&place, &["--config", config.to_str().unwrap()]);
    agent.wait("ready");
    serves("198.51.100.1:32100");
    serves("[::1]:32100");
    assert!(get("127.0.0.1:32100", "/").is_err());
    // The node's addresses change, and the choice.
    addresses("add", "198.51.100.2/32");
    serves("198.51.100.2:32100");
    addresses("del", "198.51.100.1/32");
    write_config("[localhost]");
    serves("127.0.0.1:32100");
    ends("198.51.100.2:32100");
    write_config("[]");
    for address in ["127.0.0.1:32100", "[::1]:32100", "198.51.100.2:32100"] {
        serves(address);
    }
    agent.stop();
}

#[test]
fn a_taken_port_is_named_and_the_agent_goes_on() {
    let place = place("taken");
    let taken = std::net::TcpListener::bind("[::]:10256").unwrap();
    let mut agent = Agent::start(&place);
    let error = agent.wait(
        "can't listen there: it is tried again, and all else goes on. Another program has this \
         port, kube-proxy perhaps: stop it, or give another address",
    );
    assert_eq!(
        (&error["server"], &error["address"]),
        (&"healthz".into(), &"[::]:10256".into())
    );
    agent.wait("ready");
    drop(taken);
    eventually("127.0.0.1:10256", "/livez", |answer| {
        answer.starts_with("HTTP/1.1 200 ")
    });
    agent.stop();
}

#[test]
fn servers_can_be_elsewhere_or_nowhere() {
    let place = place("elsewhere");
    let switches = [
        "--healthz-bind-address",
        "127.0.0.1:8080",
        "--metrics-bind-address",
        "",
    ];
    let mut agent = Agent::start_with(&place, &switches);
    agent.wait("ready");
    eventually("127.0.0.1:8080", "/livez", |answer| {
        answer.starts_with("HTTP/1.1 200 ")
    });
    for address in ["127.0.0.1:10256", "127.0.0.1:10249"] {
        assert!(get(address, "/healthz").is_err(), "{address}");
    }
    agent.stop();
}
