//! How new flows are shared out, by annotations.

use super::*;
use crate::plan::{Rule, TableSize};

#[test]
fn annotations_say_how_new_flows_are_shared_out() {
    let rule = |annotation: &str| {
        let name = format!("name: web, annotations: {{{annotation}}}");
        let service = service_with("clusterIP: 10.96.0.1, ports: [{port: 80}]").replace("name: web", &name);
        let mut model = model(&[]);
        let touched = apply(&mut model, &service);
        let texts: Vec<String> = touched.warnings.iter().map(ToString::to_string).collect();
        (compile(&model)[0].rule, texts)
    };
    let maglev = |entries| Rule::Maglev(TableSize::new(entries).unwrap());
    for (annotation, expected) in [
        ("", Rule::Random),
        ("shunt.dev/choice: random", Rule::Random),
        ("shunt.dev/choice: least-connections", Rule::LeastConnections),
        ("shunt.dev/choice: maglev", maglev(4093)),
        ("shunt.dev/choice: maglev/65521", maglev(65_521)),
    ] {
        assert_eq!(rule(annotation), (expected, Vec::new()), "{annotation}");
    }
    let slow_start = |value: &str| {
        let name = format!("name: web, annotations: {{shunt.dev/slow-start: '{value}'}}");
        let service = service_with("clusterIP: 10.96.0.1, ports: [{port: 80}]").replace("name: web", &name);
        let mut model = model(&[]);
        let touched = apply(&mut model, &service);
        (compile(&model)[0].slow_start, touched.warnings.len())
    };
    assert_eq!(slow_start("1s"), (1, 0));
    assert_eq!(slow_start("3600s"), (3600, 0));
    for value in ["0s", "3601s", "60", "1m", "-1s", ""] {
        assert_eq!(slow_start(value), (0, 1), "{value}");
    }
    for value in ["Maglev", "maglev/", "maglev/1000", "random/251", "''"] {
        let (rule, warnings) = rule(&format!("shunt.dev/choice: {value}"));
        assert_eq!((rule, warnings.len()), (Rule::Random, 1), "{value}: {warnings:?}");
        for part in ["default/web", "shunt.dev/choice", "least-connections", "131071"] {
            assert!(warnings[0].contains(part), "{warnings:?}");
        }
    }
}

#[test]
fn weights_are_those_of_the_slices() {
    let weighed = |name: &str, number: u8, annotation: &str| {
        let endpoint = endpoint(number, "rs", "");
        let metadata = format!("{name}, annotations: {{{annotation}}}");
        slice_named(&metadata, &[&endpoint])
    };
    let service = service_with("clusterIP: 10.96.0.1, ports: [{port: 80}]");
    let weights = |first: &str, second: &str| {
        let mut model = model(&[&service]);
        let mut warnings = apply(&mut model, &weighed("web-1", 1, first)).warnings;
        warnings.extend(apply(&mut model, &weighed("web-2", 2, second)).warnings);
        let port = &compile(&model)[0];
        assert_eq!(port.endpoints.len(), 2);
        let weights: Vec<u16> = port.weights.iter().map(|weight| weight.get()).collect();
        (weights, warnings)
    };
    let weight = |value: &str| format!("shunt.dev/weight: '{value}'");
    assert_eq!(weights("", ""), (vec![], vec![]), "all alike");
    assert_eq!(weights(&weight("7"), &weight("7")), (vec![], vec![]), "all alike");
    assert_eq!(weights(&weight("255"), ""), (vec![255, 1], vec![]));
    for value in ["0", "256", "-1", "many", ""] {
        let (weights, warnings) = weights(&weight(value), &weight("2"));
        assert_eq!(
            (weights, warnings.len()),
            (vec![1, 2], 1),
            "{value}: {warnings:?}"
        );
        let text = warnings[0].to_string();
        assert!(
            text.contains("default/web-1") && text.contains("shunt.dev/weight"),
            "{text}"
        );
    }
}
