//! Where a Service is reached, and what of it is not served.

use super::*;

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

#[test]
fn a_load_balancer_without_an_address_gets_those_of_the_annotation() {
    let service = |kind: &str, ips: &str, ranges: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, annotations: {{shunt.dev/load-balancer-ips: '{ips}'}}}}\nspec: \
             {{clusterIP: 10.96.0.1, type: {kind}, ports: [{{port: 80}}]{ranges}}}\nstatus: {{loadBalancer: {{ingress: \
             [{{hostname: balancer.example}}]}}}}\n"
        )
    };
    let ranges = ", loadBalancerSourceRanges: [10.0.0.0/8]";
    for (allowed, kind, ips, ranges, served, said) in [
        (
            "all",
            "LoadBalancer",
            "203.0.113.7",
            "",
            "LoadBalancer 203.0.113.7",
            "",
        ),
        (
            "all",
            "LoadBalancer",
            "203.0.113.7",
            ranges,
            "GuardedLoadBalancer 203.0.113.7",
            "",
        ),
        (
            "203.0.113.0/24",
            "LoadBalancer",
            "203.0.113.7",
            "",
            "LoadBalancer 203.0.113.7",
            "",
        ),
        (
            "none",
            "LoadBalancer",
            "203.0.113.7",
            "",
            "",
            "--external-ips does not allow",
        ),
        (
            "all",
            "LoadBalancer",
            "203.0.113.7,balancer",
            "",
            "",
            "`203.0.113.7,balancer`",
        ),
        (
            "all",
            "LoadBalancer",
            "2001:db8::7",
            "",
            "",
            "no cluster IP of its family",
        ),
        (
            "all",
            "ClusterIP",
            "203.0.113.7",
            "",
            "",
            "not of the type LoadBalancer",
        ),
    ] {
        let mut model = Model::new("here").with_external_ips(allowed.parse().unwrap());
        let warnings = apply(&mut model, &service(kind, ips, ranges)).warnings;
        let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(texts.is_empty(), said.is_empty(), "{texts:?}");
        assert!(
            texts
                .iter()
                .all(|text| text.contains(said) && text.contains("default/web")),
            "{texts:?}"
        );
        let ports = compile(&model);
        let frontends = ports.iter().flat_map(|port| &port.frontends);
        let balancers =
            frontends.filter(|(_, kind)| *kind != FrontendKind::ClusterIp && *kind != FrontendKind::NodePort);
        let text: Vec<String> = balancers
            .map(|(frontend, kind)| format!("{kind:?} {}", frontend.address))
            .collect();
        assert_eq!(text.join(" "), served, "{allowed} {kind} {ips}");
        let address = ips.split(',').next().unwrap().parse().unwrap();
        let named = model.unserved_at(address);
        assert_eq!(
            named.is_empty(),
            !served.is_empty() || ips.contains(",b"),
            "{named:?}"
        );
    }
}
