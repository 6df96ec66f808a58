//! How packets from outside go to endpoints of other nodes.

use super::*;
use crate::plan::Forwarding;

/// A Service with an endpoint here and one elsewhere, on a node that forwards so by itself.
fn compiled(of_node: Forwarding, annotation: &str, spec: &str) -> (ServicePort, Vec<String>) {
    let name = format!("name: web, annotations: {{{annotation}}}");
    let service = service_with(spec).replace("name: web", &name);
    let mut model = model(&[]).with_forwarding(of_node);
    let touched = apply(&mut model, &service);
    let texts = touched.warnings.iter().map(ToString::to_string).collect();
    (compile(&model)[0].clone(), texts)
}

const NODE_PORT: &str = "type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]";

#[test]
fn a_service_says_how_it_forwards_else_its_node_does() {
    use Forwarding::{Dsr, Snat};
    for (of_node, annotation, expected) in [
        (Snat, "", Snat),
        (Dsr, "", Dsr),
        (Snat, "shunt.dev/forwarding: dsr", Dsr),
        (Dsr, "shunt.dev/forwarding: snat", Snat),
    ] {
        let (port, warnings) = compiled(of_node, annotation, NODE_PORT);
        assert_eq!(
            (port.forwarding, warnings),
            (expected, Vec::new()),
            "{annotation}"
        );
    }
    for value in ["DSR", "ipip", "''", "true"] {
        for of_node in [Snat, Dsr] {
            let (port, warnings) = compiled(of_node, &format!("shunt.dev/forwarding: {value}"), NODE_PORT);
            assert_eq!(
                (port.forwarding, warnings.len()),
                (of_node, 1),
                "{value}: {warnings:?}"
            );
            for part in ["default/web", "shunt.dev/forwarding", "`snat` or `dsr`"] {
                assert!(warnings[0].contains(part), "{warnings:?}");
            }
        }
    }
}

#[test]
fn nothing_is_handed_on_that_stays_here() {
    let local = format!("{NODE_PORT}, externalTrafficPolicy: Local");
    for spec in ["clusterIP: 10.96.0.1, ports: [{port: 80}]", &local] {
        let (port, _) = compiled(Forwarding::Dsr, "", spec);
        assert_eq!(port.forwarding, Forwarding::Snat, "{spec}");
    }
}
