mod oracle;

use proptest::prelude::*;
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

#[test]
fn policies_choose_their_lists() {
    let here_and_there = slice_of(&[(1, "hrs"), (2, "rs"), (3, "")]);
    for (internal, external, expected) in [
        ("Cluster", "Cluster", ["1 2", "1 2", "1 2"]),
        ("Local", "Cluster", ["1", "1 2", "1 2"]),
        ("Cluster", "Local", ["1 2", "1", "1 2"]),
        ("Local", "Local", ["1", "1", "1 2"]),
    ] {
        let service = service(&format!(
            "type: NodePort, internalTrafficPolicy: {internal}, externalTrafficPolicy: {external}"
        ));
        assert_eq!(
            lists(&model(&[&service, &here_and_there])),
            expected,
            "{internal} {external}"
        );
    }
}

#[test]
fn conditions_decide_who_takes_new_flows() {
    let local = service("type: NodePort, internalTrafficPolicy: Local");
    for (endpoints, expected) in [
        // Local list, Cluster list.
        (&[(1, "hrs"), (2, "rs")][..], ["1", "1 2"]),
        // Terminating endpoints that serve are the last resort, of each list on its own.
        (&[(1, "hst"), (2, "rs")], ["1", "2"]),
        (&[(1, "hst"), (2, "st")], ["1", "1 2"]),
        (&[(1, "hrs"), (2, "st"), (3, "hst")], ["1", "1"]),
        // One that fails its probe while it terminates is never used.
        (&[(1, "ht"), (2, "t")], ["reject", "reject"]),
        (&[(1, "ht"), (2, "rs")], ["drop", "2"]),
        // Not ready, not terminating: not used either.
        (&[(1, "hs"), (2, "s")], ["reject", "reject"]),
        (&[], ["reject", "reject"]),
    ] {
        let [internal, external, _] = lists(&model(&[&local, &slice_of(endpoints)]));
        assert_eq!([internal, external], expected, "{endpoints:?}");
    }
}

#[test]
fn missing_conditions_mean_ready() {
    let model = model(&[
        &service(""),
        &slice(&[
            "{addresses: [10.1.0.1, 10.1.0.9]}",
            "{addresses: [10.1.0.2], conditions: {ready: null}}",
        ]),
    ]);
    assert_eq!(lists(&model)[0], "1 2");
    assert!(
        compile(&model)[0]
            .endpoints
            .iter()
            .all(|endpoint| !endpoint.local)
    );
}

#[test]
fn all_that_serve_are_endpoints_whatever_the_lists() {
    let model = model(&[
        &service("internalTrafficPolicy: Local"),
        &slice_of(&[(1, "hrs"), (2, "rs"), (3, "st"), (4, "t"), (5, "s"), (6, "")]),
    ]);
    let ports = compile(&model);
    let all = List {
        members: (0..ports[0].endpoints.len() as u32).collect(),
        when_empty: When::Drop,
    };
    assert_eq!(list(&ports[0], &all), "1 2 3 5");
    assert_eq!(
        lists(&model),
        ["1", "reject", "reject"],
        "a ClusterIP alone needs no external list"
    );
}

#[test]
fn an_address_used_again_is_not_the_one_that_terminates() {
    let first = slice_named("web-1", &[&endpoint(1, "hst", "")]);
    let second = slice_named("web-2", &[&endpoint(1, "rs", ""), &endpoint(2, "st", "")]);
    let model = model(&[&service(""), &first, &second]);
    assert_eq!(lists(&model)[0], "1");
    assert!(!compile(&model)[0].endpoints[0].local);
}

#[test]
fn hints_narrow_the_cluster_list_only_if_all_ready_endpoints_have_them() {
    let zone = |zone: &str| format!("hints: {{forZones: [{{name: {zone}}}]}}");
    let node = |node: &str| format!("hints: {{forZones: [{{name: east}}], forNodes: [{{name: {node}}}]}}");
    let check = |hints: [&str; 3], expected: [&str; 2]| {
        let [a, b, c] = [(1, "hrs", hints[0]), (2, "rs", hints[1]), (3, "rs", hints[2])]
            .map(|(n, l, h)| endpoint(n, l, h));
        let service = service("type: NodePort, externalTrafficPolicy: Local");
        let [internal, external, _] = lists(&model(&[&service, &slice(&[&a, &b, &c])]));
        assert_eq!([internal, external], expected, "{hints:?}");
    };
    let (west, east) = (zone("west"), zone("east"));
    check([&east, &west, &east], ["2", "1"]);
    check([&east, &east, &east], ["1 2 3", "1"]);
    check([&east, &west, ""], ["1 2 3", "1"]);
    let (here, there) = (node("here"), node("there"));
    check([&there, &here, &here], ["2 3", "1"]);
    check([&there, &there, &there], ["1 2 3", "1"]);
    check([&here, &west, &west], ["2 3", "1"]);
}

#[test]
fn a_zone_change_touches_those_with_hints_later() {
    let mut model = model(&[
        &service(""),
        &slice(&[
            &endpoint(1, "rs", "hints: {forZones: [{name: east}]}"),
            &endpoint(2, "rs", "hints: {forZones: [{name: west}]}"),
        ]),
    ]);
    assert_eq!(lists(&model)[0], "2");
    let touched = apply(
        &mut model,
        "apiVersion: v1\nkind: Node\nmetadata: {name: here, labels: {topology.kubernetes.io/zone: east}}",
    );
    assert!(touched.services.is_empty());
    assert_eq!(touched.later, BTreeSet::from([ObjectName::new("default", "web")]));
    assert_eq!(lists(&model)[0], "1");
    let other = apply(
        &mut model,
        "apiVersion: v1\nkind: Node\nmetadata: {name: there, labels: {topology.kubernetes.io/zone: x}}",
    );
    assert!(other.later.is_empty());
}

#[test]
fn a_service_of_all_kinds_has_all_its_frontends() {
    let manifest = "apiVersion: v1
kind: Service
metadata: {name: web, uid: u}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, 'fd00:96::1']
  externalIPs: [198.51.100.1]
  ports:
  - {name: http, port: 80, nodePort: 30080}
  - {name: dns, port: 53, protocol: UDP}
status:
  loadBalancer:
    ingress:
    - {ip: 192.0.2.1}
    - {ip: 192.0.2.2, ipMode: Proxy}
    - {ip: '2001:db8::1', ipMode: VIP}
    - {hostname: lb.example.org}
";
    let ports = compile(&model(&[manifest]));
    let keys: Vec<String> = ports.iter().map(|port| port.key.to_string()).collect();
    assert_eq!(
        keys,
        [
            "default/web:http (TCP IPv4)",
            "default/web:http (TCP IPv6)",
            "default/web:dns (UDP IPv4)",
            "default/web:dns (UDP IPv6)"
        ]
    );
    assert_eq!(
        frontends(&ports[0]),
        [
            "ClusterIp 10.96.0.1 80 TCP",
            "LoadBalancer 192.0.2.1 80 TCP",
            "ExternalIp 198.51.100.1 80 TCP",
            "NodePort 0.0.0.0 30080 TCP"
        ]
    );
    assert_eq!(
        frontends(&ports[1]),
        [
            "ClusterIp fd00:96::1 80 TCP",
            "LoadBalancer 2001:db8::1 80 TCP",
            "NodePort :: 30080 TCP"
        ]
    );
    assert_eq!(
        frontends(&ports[3]),
        ["ClusterIp fd00:96::1 53 UDP", "LoadBalancer 2001:db8::1 53 UDP"]
    );
}

/// As every other port, and apart from the TCP port of the same number.
#[test]
fn sctp_ports_are_served() {
    let service = service_with(
        "type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{name: a, port: 80, nodePort: 30080, protocol: SCTP}, \
         {name: b, port: 80, nodePort: 30080}], externalIPs: [192.0.2.1]",
    )
    .replace("kind: Service", "kind: Service\nstatus: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}");
    let slice = slice(&["{addresses: [10.1.0.1]}"]).replace(
        "{port: 8080}",
        "{name: a, port: 38412, protocol: SCTP}, {name: b, port: 8080}",
    );
    let mut model = model(&[]);
    assert_eq!(apply(&mut model, &service).warnings, []);
    apply(&mut model, &slice);
    let ports = compile(&model);
    assert_eq!(
        frontends(&ports[0]),
        [
            "ClusterIp 10.96.0.1 80 SCTP",
            "LoadBalancer 203.0.113.1 80 SCTP",
            "ExternalIp 192.0.2.1 80 SCTP",
            "NodePort 0.0.0.0 30080 SCTP",
        ]
    );
    assert_eq!(ports[0].endpoints[0].port.number(), 38412);
    assert_eq!(ports[1].endpoints[0].port.number(), 8080);
}

#[test]
fn node_ports_need_a_number_and_a_type() {
    let frontends_of = |spec: &str| frontends(&compile(&model(&[&service_with(spec)]))[0]);
    let cluster_ip = ["ClusterIp 10.96.0.1 80 TCP"];
    assert_eq!(
        frontends_of("clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]"),
        cluster_ip
    );
    assert_eq!(
        frontends_of(
            "type: LoadBalancer, allocateLoadBalancerNodePorts: false, clusterIP: 10.96.0.1, ports: [{port: 80}]"
        ),
        cluster_ip
    );
}

#[test]
fn connections_end_with_endpoints_that_are_gone_where_a_service_asks_for_it() {
    let annotated = |value: &str| {
        let spec = "clusterIPs: [10.96.0.1], type: NodePort, \
                    ports: [{name: a, port: 80, nodePort: 30080}, {name: b, protocol: UDP, port: 80}]";
        let annotations = format!("name: web, annotations: {{shunt.dev/on-endpoint-gone: {value}}}");
        service_with(spec).replace("name: web", &annotations)
    };
    let endpoints = [
        endpoint(1, "rs", ""),
        endpoint(2, "st", ""),
        endpoint(3, "t", ""),
        endpoint(4, "", ""),
    ];
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let slice = |endpoints: &[&str]| slice(endpoints).replace("ports: [{", "ports: [{name: a, ");
    let mut model = model(&[&annotated("reset"), &slice(&endpoints)]);
    let web = ObjectName::new("default", "web");
    let mortal = |model: &Model| {
        let ports = model.mortal(&web);
        let texts = ports.iter().map(|port| {
            let frontends: Vec<String> = port.frontends.iter().map(ToString::to_string).collect();
            let endpoints: Vec<String> = port.endpoints.iter().map(ToString::to_string).collect();
            (frontends.join(", "), endpoints.join(", "))
        });
        texts.collect::<Vec<_>>()
    };
    let frontends = "TCP 10.96.0.1:80, IPv4 node port TCP 30080".to_owned();
    let all = "10.1.0.1:8080, 10.1.0.2:8080, 10.1.0.3:8080, 10.1.0.4:8080".to_owned();
    assert_eq!(
        mortal(&model),
        [(frontends.clone(), all)],
        "TCP alone, and all that are there"
    );
    apply(&mut model, &slice(&endpoints[1..2]));
    let second = [(frontends, "10.1.0.2:8080".to_owned())];
    assert_eq!(mortal(&model), second);
    apply(
        &mut model,
        &annotated("reset").replace("name: a, port", "name: c, port"),
    );
    assert_eq!(
        mortal(&model),
        second,
        "the slice is yet to follow the port's name"
    );
    for (value, warnings) in [("keep", 0), ("Reset", 1), ("''", 1)] {
        let touched = apply(&mut model, &annotated(value));
        assert_eq!(
            touched.warnings.len(),
            warnings,
            "{value}: {:?}",
            touched.warnings
        );
        assert_eq!(mortal(&model), [], "{value}");
        for warning in &touched.warnings {
            let text = warning.to_string();
            assert!(
                text.contains("default/web") && text.contains("shunt.dev/on-endpoint-gone"),
                "{text}"
            );
            assert_eq!(warning.service(), Some(&web));
        }
    }
    model.apply(vec![Change::Delete(crate::source::ObjectKey::Service(
        web.clone(),
    ))]);
    assert_eq!(mortal(&model), []);
}

#[test]
fn services_of_others_are_left_alone() {
    for spec in [
        "clusterIP: None, ports: [{port: 80}]",
        "type: ExternalName, externalName: x, clusterIP: 10.96.0.1, ports: [{port: 80}]",
        "clusterIPs: [None], ports: [{port: 80}]",
    ] {
        let mut model = model(&[]);
        assert_eq!(apply(&mut model, &service_with(spec)).warnings, [], "{spec}");
        assert_eq!(compile(&model), []);
    }
    for label in [
        "service.kubernetes.io/service-proxy-name: other",
        "service.kubernetes.io/headless: ''",
    ] {
        let mut model = model(&[&service("")]);
        assert_eq!(compile(&model).len(), 1);
        let labelled = service("").replace("{name: web}", &format!("{{name: web, labels: {{{label}}}}}"));
        assert!(!apply(&mut model, &labelled).services.is_empty());
        assert_eq!(compile(&model), [], "{label}");
    }
}

#[test]
fn named_ports_may_resolve_differently_and_protocols_are_apart() {
    let service = service_with(
        "clusterIP: 10.96.0.1, ports: [{name: a, port: 53, protocol: UDP}, {name: b, port: 53}]",
    );
    let slice = |name: &str, port: u16, endpoint: &str| {
        slice_named(name, &[endpoint]).replace(
            "{port: 8080}",
            &format!("{{name: a, port: {port}, protocol: UDP}}, {{name: b, protocol: TCP}}"),
        )
    };
    let mut model = model(&[&service]);
    assert_eq!(
        apply(&mut model, &slice("s1", 5353, "{addresses: [10.1.0.1]}"))
            .warnings
            .len(),
        1
    );
    apply(&mut model, &slice("s2", 53, "{addresses: [10.1.0.2]}"));
    let ports = compile(&model);
    let numbers: Vec<u16> = ports[0]
        .endpoints
        .iter()
        .map(|endpoint| endpoint.port.number())
        .collect();
    assert_eq!(numbers, [5353, 53]);
    assert_eq!(
        ports[1].endpoints,
        [],
        "a port without a number gives no endpoint"
    );
}

#[test]
fn what_is_not_served_is_warned_of_by_name() {
    let warnings = |manifest: &str| -> Vec<String> {
        apply(&mut Model::new("here"), manifest)
            .warnings
            .iter()
            .map(Warning::to_string)
            .collect()
    };
    let check = |manifest: &str, parts: &[&str]| {
        let warnings = warnings(manifest);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            parts.iter().all(|part| warnings[0].contains(part)),
            "{warnings:?}"
        );
    };
    check(
        &service_with("ports: [{port: 80}]"),
        &["default/web", "no spec.clusterIP"],
    );
    check(
        &service("externalIPs: ['2001:db8::1']"),
        &["default/web", "2001:db8::1 is left out"],
    );
    check(
        &slice(&[]).replace("kubernetes.io/service-name", "x"),
        &["default/web-1", "service-name"],
    );
    check(
        &slice(&["{addresses: []}"]),
        &["default/web-1", "endpoint 0 has no address"],
    );
    assert!(warnings(&service("")).is_empty());
}

#[test]
fn health_checks_count_ready_endpoints_here_once() {
    let asked = "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32100";
    let checked = |spec: &str, endpoints: &[&str]| {
        let mut model = model(&[]);
        apply(&mut model, &service(spec));
        apply(&mut model, &slice(endpoints));
        model.health_check(&ObjectName::new("default", "web"))
    };
    let check = |endpoints| {
        Some(HealthCheck {
            port: 32100,
            endpoints,
        })
    };
    let here = "{addresses: [10.1.0.1], nodeName: here}";
    let there = "{addresses: [10.1.0.2], nodeName: there}";
    let ending = "{addresses: [10.1.0.3], nodeName: here, conditions: {ready: false, serving: true, terminating: true}}";
    assert_eq!(checked(asked, &[]), check(0));
    assert_eq!(checked(asked, &[here, there, ending]), check(1));
    assert_eq!(checked(asked, &[there, ending]), check(0));
    for other in [
        "type: NodePort, externalTrafficPolicy: Local, healthCheckNodePort: 32100",
        "type: LoadBalancer, externalTrafficPolicy: Cluster, healthCheckNodePort: 32100",
        "type: LoadBalancer, externalTrafficPolicy: Local",
        "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: null",
    ] {
        assert_eq!(checked(other, &[here]), None, "{other}");
    }
}

#[test]
fn affinity_is_a_time_in_seconds() {
    for (spec, expected) in [
        ("sessionAffinity: None", 0),
        ("sessionAffinity: ClientIP", 10_800),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}",
            1,
        ),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: null}}",
            10_800,
        ),
        (
            "sessionAffinity: None, sessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}",
            0,
        ),
    ] {
        let mut model = model(&[]);
        apply(&mut model, &service(spec));
        let ports = compile(&model);
        assert!(
            !ports.is_empty() && ports.iter().all(|port| port.affinity == expected),
            "{spec}: {ports:?}"
        );
    }
}

#[test]
fn source_ranges_guard_the_load_balancers_addresses() {
    let with = |ranges: &str| {
        let spec = format!(
            "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1'], ports: [{{port: 80, nodePort: 30080}}], type: \
             LoadBalancer, loadBalancerSourceRanges: [{ranges}], externalIPs: [192.0.2.1, 192.0.2.9]"
        );
        let manifest = service_with(&spec)
            + "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {ip: '2001:db8::1'}]}}\n";
        let mut model = model(&[]);
        let warnings = apply(&mut model, &manifest).warnings;
        (compile(&model), warnings)
    };
    let ranges = |port: &ServicePort| -> Vec<String> {
        let ranges = port.source_ranges.iter();
        ranges
            .map(|range| format!("{}/{}", range.address, range.length))
            .collect()
    };
    let (ports, warnings) = with("' 10.9.8.7/8', 10.0.0.0/8, 'fd01::5/16', 9.0.0.0/32");
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(ranges(&ports[0]), ["9.0.0.0/32", "10.0.0.0/8"]);
    assert_eq!(ranges(&ports[1]), ["fd01::/16"]);
    // An address that is both is guarded under either name.
    assert_eq!(
        frontends(&ports[0]),
        [
            "ClusterIp 10.96.0.1 80 TCP",
            "GuardedLoadBalancer 192.0.2.1 80 TCP",
            "ExternalIp 192.0.2.9 80 TCP",
            "NodePort 0.0.0.0 30080 TCP",
        ]
    );

    let (ports, warnings) = with("10.0.0.0/8");
    let [warning] = &warnings[..] else {
        panic!("{warnings:?}")
    };
    assert!(
        warning
            .to_string()
            .contains("addresses 2001:db8::1 are open to everyone"),
        "{warning}"
    );
    assert!(ports[1].source_ranges.is_empty());
    assert!(frontends(&ports[1]).contains(&"LoadBalancer 2001:db8::1 80 TCP".to_owned()));
    let (ports, warnings) = with("");
    assert!(warnings.is_empty() && ports.iter().all(|port| port.source_ranges.is_empty()));
}

fn claimant(name: &str, created: &str, external_ip: &str, cluster_ip: &str) -> String {
    let created = if created.is_empty() {
        String::new()
    } else {
        format!("creationTimestamp: {created}-01-01T00:00:00Z, ")
    };
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{{created}name: {name}}}\nspec: {{clusterIP: {cluster_ip}, externalIPs: [{external_ip}], ports: [{{port: 80}}]}}\n"
    )
}

#[test]
fn the_older_service_has_a_contested_frontend_and_the_younger_takes_over() {
    let mut model = model(&[&claimant("a", "2025", "192.0.2.1", "10.96.0.1")]);
    let touched = apply(&mut model, &claimant("b", "2024", "192.0.2.1", "10.96.0.2"));
    let names = |touched: &Touched| {
        touched
            .services
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&touched), ["default/a", "default/b"]);
    assert_eq!(
        touched.warnings[0].to_string(),
        "Services default/b and default/a both claim TCP 192.0.2.1:80: default/b has it, as the older one"
    );
    let external = |model: &Model, name| {
        model.compile(&ObjectName::new("default", name))[0]
            .frontends
            .len()
    };
    assert_eq!((external(&model, "a"), external(&model, "b")), (1, 2));
    let touched = model.apply(vec![Change::Delete(ObjectKey::Service(ObjectName::new(
        "default", "b",
    )))]);
    assert_eq!(names(&touched), ["default/a", "default/b"]);
    assert_eq!(external(&model, "a"), 2);
}

#[test]
fn without_a_time_the_name_decides_and_times_come_first() {
    let mut model = model(&[
        &claimant("b", "", "192.0.2.1", "10.96.0.2"),
        &claimant("a", "", "192.0.2.1", "10.96.0.1"),
    ]);
    let has = |model: &Model, name| {
        model.compile(&ObjectName::new("default", name))[0]
            .frontends
            .len()
            == 2
    };
    assert!(has(&model, "a") && !has(&model, "b"));
    apply(&mut model, &claimant("c", "2026", "192.0.2.1", "10.96.0.3"));
    assert!(has(&model, "c") && !has(&model, "a"));
}

#[test]
fn what_did_not_change_touches_nothing() {
    let mut model = model(&[&service(""), &slice_of(&[(1, "rs")])]);
    assert!(apply(&mut model, &service("")).services.is_empty());
    assert!(apply(&mut model, &slice_of(&[(1, "rs")])).services.is_empty());
    assert!(
        apply(&mut model, &slice_of(&[(2, "rs")]).replace("web", "none"))
            .services
            .is_empty()
    );
}

fn any_change() -> impl Strategy<Value = String> {
    let service = (0..4_u8, 0..3_u8, 0..3_u8, any::<bool>()).prop_map(|(name, address, year, node_port)| {
        let kind = if node_port { "NodePort" } else { "ClusterIP" };
        claimant(
            &format!("s{name}"),
            ["", "2024", "2025"][year as usize],
            &format!("192.0.2.{address}"),
            &format!("10.96.0.{name}"),
        )
        .replace("port: 80", &format!("port: 80, nodePort: 3000{address}"))
        .replace("spec: {", &format!("spec: {{type: {kind}, "))
    });
    let slice = (0..4_u8, 0..3_u8, 0..4_u8, "[hrst]{0,4}").prop_map(|(service, slice, number, letters)| {
        slice_named(&format!("slice{slice}"), &[&endpoint(number, &letters, "")])
            .replace("name: web", &format!("name: s{service}"))
    });
    prop_oneof![service, slice]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_service_that_changes_is_touched_and_frontends_have_one_owner(
        changes in prop::collection::vec((any_change(), any::<bool>()), 1..40)
    ) {
        let mut model = Model::new("here");
        let names: Vec<ObjectName> = (0..4).map(|n| ObjectName::new("default", &format!("s{n}"))).collect();
        for (manifest, delete) in changes {
            let before: Vec<_> = names.iter().map(|name| model.compile(name)).collect();
            let change = |object: Object| if delete { Change::Delete(object.key()) } else { Change::Upsert(object) };
            let touched = model.apply(objects(&manifest).into_iter().map(change).collect());
            let mut owners = HashMap::default();
            for (name, before) in names.iter().zip(before) {
                let after = model.compile(name);
                for (frontend, _) in after.iter().flat_map(|port| &port.frontends) {
                    prop_assert_eq!(owners.insert(*frontend, name), None);
                }
                prop_assert!(after == before || touched.services.contains(name), "{} changed untouched", name);
            }
            for frontend in model.services.values().flat_map(|service| model.served(service).frontends) {
                prop_assert!(owners.contains_key(&frontend.frontend), "{:?} is nobody's", frontend);
            }
        }
    }
}

#[test]
fn external_addresses_are_served_within_the_ranges_that_the_agent_allows() {
    let manifest = service("externalIPs: [192.0.2.1, 198.51.100.1]");
    for (allowed, served, is_warned) in [
        ("all", &["192.0.2.1", "198.51.100.1"][..], false),
        ("192.0.2.0/24", &["192.0.2.1"], true),
        ("none", &[], true),
    ] {
        let mut model = Model::new("here").with_external_ips(allowed.parse().unwrap());
        let warnings = apply(&mut model, &manifest).warnings;
        assert_eq!(warnings.len(), usize::from(is_warned), "{allowed}: {warnings:?}");
        let ports = compile(&model);
        let external = ports.iter().flat_map(|port| &port.frontends);
        let external: Vec<String> = external
            .filter(|(_, kind)| *kind == FrontendKind::ExternalIp)
            .map(|(frontend, _)| frontend.address.to_string())
            .collect();
        assert_eq!(external, served, "{allowed}");
        let text = warnings.first().map(ToString::to_string).unwrap_or_default();
        assert_eq!(
            text.contains("--external-ips") && text.contains("198.51.100.1"),
            is_warned,
            "{text}"
        );
    }
}
