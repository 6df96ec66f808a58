//! The cluster that the rows ask about, and who calls.

use crate::explaining::{Manifests, NODE, Service, pod};

pub(crate) const LOCAL: &str = "internalTrafficPolicy: Local\n  externalTrafficPolicy: Local";
pub(crate) const READY: &str = "conditions: {ready: true}";
pub(crate) const NOT_READY: &str = "conditions: {ready: false, serving: false}";
pub(crate) const DRAINING: &str = "conditions: {ready: false, serving: true, terminating: true}";
pub(crate) const GONE: &str = "conditions: {ready: false, serving: false, terminating: true}";

/// All Services that the rows ask about.
pub(crate) const SERVICES: &[Service] = &[
    service(1, "cluster", "", &[(1, "node-a", READY), (1, "node-b", READY)]),
    service(2, "local", LOCAL, &[(2, "node-a", READY), (2, "node-b", READY)]),
    service(3, "away", LOCAL, &[(3, "node-b", READY)]),
    service(4, "empty", "", &[]),
    service(5, "unready", "", &[(5, "node-a", NOT_READY), (5, "node-b", GONE)]),
    service(6, "alone", "", &[(6, "node-a", READY)]),
    service(
        7,
        "draining",
        LOCAL,
        &[(7, "node-a", DRAINING), (7, "node-b", READY)],
    ),
    service(8, "last", "", &[(8, "node-a", DRAINING), (8, "node-b", GONE)]),
    service(
        9,
        "sticky",
        "sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}",
        &[(9, "node-b", READY)],
    ),
];

pub(crate) const fn service(
    number: u8,
    name: &'static str,
    spec: &'static str,
    endpoints: &'static [(u8, &'static str, &'static str)],
) -> Service {
    Service {
        name,
        number,
        spec,
        endpoints,
    }
}

pub(crate) fn named(name: &str) -> Service {
    *SERVICES.iter().find(|service| service.name == name).unwrap()
}

pub(crate) fn cluster() -> Manifests {
    let manifests = Manifests::new(&[("node.yaml", NODE)]);
    for service in SERVICES {
        manifests.write(&format!("{}.yaml", service.name), &service.manifest());
    }
    manifests
}

pub(crate) fn address(caller: &str, is_v4: bool) -> String {
    match (caller, is_v4) {
        ("pod", _) => pod(is_v4, true, 99),
        ("pod of node-b", _) => pod(is_v4, false, 99),
        ("host", true) => "192.0.2.1".to_owned(),
        ("host", false) => "2001:db8::1".to_owned(),
        ("outside", true) => "198.18.0.9".to_owned(),
        ("outside", false) => "2001:db8:ffff::9".to_owned(),
        (short, _) => pod(is_v4, short.starts_with('h'), short[1..].parse().unwrap()),
    }
}
