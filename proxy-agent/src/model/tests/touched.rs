//! Which Services a change touches, and who has a frontend that several ask for.

use proptest::prelude::*;

use super::*;

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
