//! What a Service asks for beside its frontends and lists.

use super::*;

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
