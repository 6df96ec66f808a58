use super::super::kind::{Kind, Services};
use super::*;

fn item(name: &str, version: &str, port: u32) -> Item {
    Item {
        namespace: "n".into(),
        name: name.into(),
        version: version.into(),
        object: Services::read(&format!(
            r#"{{"metadata": {{"name": "{name}", "namespace": "n", "labels": {{"service.kubernetes.io/service-proxy-name": "x"}}}},
                "spec": {{"clusterIP": "10.96.0.1", "ports": [{{"port": {port}}}]}}}}"#
        )),
    }
}

fn list(cache: &mut Cache, items: Vec<Item>) {
    cache.take(Family::Services, Event::Begin);
    for item in items {
        cache.take(Family::Services, Event::Listed(item));
    }
    cache.take(Family::Services, Event::End);
}

/// Changes and refusals in short.
fn told(cache: &mut Cache) -> Vec<String> {
    let batch = cache.batch();
    let changes = batch.changes.iter().map(|change| match change {
        Change::Upsert(object) => format!("+{}", object.key()),
        Change::Delete(key) => format!("-{key}"),
    });
    let refusals = batch.refusals.iter().map(|refusal| format!("!{}", refusal.file));
    let unread = batch.has_unread_files.then(|| "?".to_owned());
    changes.chain(refusals).chain(unread).collect()
}

#[test]
fn a_second_list_tells_just_what_differs() {
    let mut cache = Cache::new(false);
    list(
        &mut cache,
        vec![item("a", "1", 80), item("b", "2", 80), item("c", "3", 80)],
    );
    assert_eq!(told(&mut cache), ["+Service n/a", "+Service n/b", "+Service n/c"]);
    list(
        &mut cache,
        vec![item("a", "1", 80), item("b", "5", 81), item("d", "6", 80)],
    );
    assert_eq!(told(&mut cache), ["+Service n/b", "+Service n/d", "-Service n/c"]);
    list(
        &mut cache,
        vec![item("a", "1", 80), item("b", "5", 81), item("d", "6", 80)],
    );
    assert!(!cache.has_batch());
}

#[test]
fn a_list_that_breaks_off_takes_nothing_away() {
    let mut cache = Cache::new(false);
    list(&mut cache, vec![item("a", "1", 80), item("b", "2", 80)]);
    told(&mut cache);
    cache.take(Family::Services, Event::Begin);
    cache.take(Family::Services, Event::Listed(item("a", "1", 80)));
    assert!(!cache.has_batch());
    list(&mut cache, vec![item("a", "1", 80), item("b", "2", 80)]);
    assert!(!cache.has_batch());
}

#[test]
fn what_is_listed_and_gone_again_before_the_first_batch_is_not_served() {
    let mut cache = Cache::new(false);
    cache.take(Family::Services, Event::Begin);
    cache.take(Family::Services, Event::Listed(item("a", "1", 80)));
    list(&mut cache, vec![item("b", "2", 80)]);
    assert_eq!(told(&mut cache), ["-Service n/a", "+Service n/b"]);
}

#[test]
fn of_several_changes_of_an_object_the_last_counts() {
    let mut cache = Cache::new(false);
    list(&mut cache, vec![]);
    told(&mut cache);
    cache.take(Family::Services, Event::Changed(item("a", "3", 80)));
    cache.take(Family::Services, Event::Changed(item("a", "4", 81)));
    let batch = cache.batch();
    let [Change::Upsert(Object::Service(service))] = &batch.changes[..] else {
        panic!("{batch:?}");
    };
    assert_eq!(service.spec.ports[0].port.0.get(), 81);
    cache.take(Family::Services, Event::Changed(item("a", "5", 82)));
    cache.take(
        Family::Services,
        Event::Gone {
            namespace: "n".into(),
            name: "a".into(),
        },
    );
    assert_eq!(told(&mut cache), ["-Service n/a"]);
}

#[test]
fn the_last_good_state_of_a_broken_object_stands() {
    let mut cache = Cache::new(false);
    list(&mut cache, vec![item("a", "1", 80)]);
    told(&mut cache);
    cache.take(Family::Services, Event::Changed(item("a", "2", 70000)));
    assert_eq!(told(&mut cache), ["!Service n/a"]);
    // Told once, and still an object of the API's: a list doesn't take it away.
    list(&mut cache, vec![item("a", "2", 70000)]);
    assert!(!cache.has_batch());
    cache.take(Family::Services, Event::Changed(item("a", "3", 81)));
    assert_eq!(told(&mut cache), ["+Service n/a"]);
}

#[test]
fn an_object_that_was_never_read_is_told_until_it_is_or_goes() {
    let mut cache = Cache::new(false);
    list(&mut cache, vec![item("a", "1", 70000), item("b", "2", 70000)]);
    assert_eq!(told(&mut cache), ["!Service n/a", "!Service n/b", "?"]);
    cache.take(Family::Services, Event::Changed(item("a", "3", 80)));
    assert_eq!(told(&mut cache), ["+Service n/a", "?"]);
    list(&mut cache, vec![item("a", "3", 80)]);
    assert!(cache.has_batch());
    assert_eq!(told(&mut cache), [""; 0]);
}

#[test]
fn services_chosen_by_a_proxys_name_are_served() {
    for is_named in [false, true] {
        let mut cache = Cache::new(is_named);
        list(&mut cache, vec![item("a", "1", 80)]);
        let batch = cache.batch();
        let [Change::Upsert(Object::Service(service))] = &batch.changes[..] else {
            panic!("{batch:?}");
        };
        assert_eq!(service.metadata.labels.service_proxy_name.0, !is_named);
    }
}
