//! The real maps hold, after any history, exactly what the naive ones hold, which check every single write.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use proxy_common::layout::{FrontendKind, FrontendValue, ListWord, Port, Service, When};

use super::tests::TestMaps;
use super::*;
use crate::datapath::Datapath;
use crate::datapath::testing::{Namespace, Place};
use crate::plan::{Frontend, Operation};
use crate::source::{Object, objects};

const STEPS: usize = 100;

/// A Service or a slice of one of five Services, made of small numbers so that everything collides.
fn any_manifest() -> impl Strategy<Value = String> {
    let service = (0..5_u8, 0..3_u8, any::<bool>(), any::<bool>(), 0..3_u8).prop_map(
        |(number, address, local, dual, uid)| {
            let policy = if local { "Local" } else { "Cluster" };
            let six = if dual {
                format!(", 'fd00:96::{number}'")
            } else {
                String::new()
            };
            format!(
                "apiVersion: v1
kind: Service
metadata: {{name: s{number}, uid: uid{uid}}}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.{number}{six}]
  externalIPs: [192.0.2.{address}]
  externalTrafficPolicy: {policy}
  ports: [{{name: a, port: 80, nodePort: 3008{address}}}, {{name: b, port: 53, protocol: UDP}}]
"
            )
        },
    );
    let endpoint = (0..8_u8, any::<bool>(), any::<bool>());
    let slice = (0..5_u8, any::<bool>(), prop::collection::vec(endpoint, 0..6)).prop_map(|(number, six, endpoints)| {
        let (family, prefix) = if six { ("IPv6", "fd00:1::") } else { ("IPv4", "10.1.0.") };
        let endpoint = |(last, here, ready): (u8, bool, bool)| {
            let node = if here { "here" } else { "there" };
            format!("{{addresses: ['{prefix}{last}'], nodeName: {node}, conditions: {{ready: {ready}, serving: true, terminating: {}}}}}", !ready)
        };
        let endpoints: Vec<String> = endpoints.into_iter().map(endpoint).collect();
        format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{number}-{family}, labels: {{kubernetes.io/service-name: s{number}}}}}
addressType: {family}
ports: [{{name: a, port: 8080}}, {{name: b, port: 53, protocol: UDP}}]
endpoints: [{}]
",
            endpoints.join(", ")
        )
    });
    prop_oneof![service, slice]
}

/// Both kinds of maps hold the same; of the prefilter, the real one may hold bits longer, until a sweep.
fn compare(real: &Datapath, naive: &TestMaps) {
    let (mut real, mut naive) = (real.snapshot().unwrap(), naive.kernel.snapshot());
    let bits = std::mem::take(&mut real.filter);
    for (word, wanted) in std::mem::take(&mut naive.filter) {
        let found = bits
            .iter()
            .find(|(other, _)| *other == word)
            .map_or(0, |(_, bits)| *bits);
        assert_eq!(found & wanted, wanted, "bits of word {word} are missing");
    }
    assert_eq!(real, naive);
}

#[test]
fn real_maps_hold_what_was_planned_over_changes_and_restarts() {
    let (node, place) = (Namespace::new(), Place::new());
    let real = place.start(&node).unwrap();
    let naive = TestMaps::with(MapWriter::capacity(&real));
    let mut real = Reconciler::start("here", real).unwrap();
    let mut naive = Reconciler::start("here", naive).unwrap();
    let mut world: BTreeMap<crate::source::ObjectKey, Object> = BTreeMap::new();
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(Default::default()),
    );
    let change = (
        prop::collection::vec((any_manifest(), prop::bool::weighted(0.2)), 1..4),
        0..20_u8,
    );
    for step in 0..STEPS {
        let (manifests, event) = change.new_tree(&mut runner).unwrap().current();
        let mut changes = Vec::new();
        for (manifest, delete) in manifests {
            let object = objects(&manifest).remove(0);
            if delete {
                world.remove(&object.key());
                changes.push(Change::Delete(object.key()));
            } else {
                world.insert(object.key(), object.clone());
                changes.push(Change::Upsert(object));
            }
        }
        let done = real.take(changes.clone(), false).unwrap();
        assert_eq!(done, naive.take(changes, false).unwrap());
        assert_eq!(done.failed, 0);
        compare(&real.maps, &naive.maps);
        if let Some(token) = done.token.filter(|_| event < 8) {
            real.maps.wait_for_readers().unwrap();
            naive.maps.wait_for_readers().unwrap();
            real.grace_passed(token);
            naive.grace_passed(token);
            if event < 4 {
                assert_eq!(real.swept(token).unwrap(), naive.swept(token).unwrap());
                compare(&real.maps, &naive.maps);
            }
        }
        if event == 19 || step == STEPS - 1 {
            drop(real);
            real = Reconciler::start("here", place.start(&node).unwrap()).unwrap();
            naive = Reconciler::start("here", naive.maps).unwrap();
            let all: Vec<Change> = world.values().cloned().map(Change::Upsert).collect();
            let before = real.maps.snapshot().unwrap();
            real.take(all.clone(), false).unwrap();
            naive.take(all, false).unwrap();
            assert_eq!(
                before.slots,
                real.maps.snapshot().unwrap().slots,
                "a restart changes no list"
            );
            compare(&real.maps, &naive.maps);
        }
    }
}

/// What a foreign hand might do to the maps of two Services, each in a write of its own.
fn damages(maps: &Snapshot) -> Vec<Operation> {
    let (frontend, value) = maps.frontends[0];
    let (id, service) = maps.services[0];
    let (first, members) = maps.slots[0].clone();
    let (backend, _) = maps.backends[0];
    let (stray, other) = maps.frontends[maps.frontends.len() - 1];
    vec![
        Operation::RemoveFrontend(frontend),
        Operation::PutFrontend(
            frontend,
            FrontendValue {
                service: other.service,
                service_tag: other.service_tag,
                ..value
            },
        ),
        Operation::PutFrontend(
            frontend,
            FrontendValue {
                kind: FrontendKind::ExternalIp as u8,
                ..value
            },
        ),
        Operation::PutFrontend(
            frontend,
            FrontendValue {
                tag: value.tag ^ 1,
                ..value
            },
        ),
        Operation::PutFrontend(
            Frontend {
                port: Port::new(9),
                ..stray
            },
            other,
        ),
        Operation::PutService(
            id,
            Service {
                internal: ListWord::empty(When::Drop, service.internal.tag()),
                ..service
            },
        ),
        Operation::PutService(id, Service::default()),
        Operation::PutSlots {
            first,
            backends: members.iter().rev().copied().collect(),
        },
        Operation::PutSlots {
            first,
            backends: vec![members[0]; members.len()],
        },
        Operation::KillBackend(backend),
        Operation::RemoveIdentity(id),
    ]
}

#[test]
fn damage_to_the_maps_is_found_and_mended() {
    let (node, place) = (Namespace::new(), Place::new());
    let manifests = ["a", "b"].into_iter().zip(1..).flat_map(|(name, number)| {
        [
            super::tests::service(name, number, 80),
            super::tests::slice(name, &[number, number + 10]),
        ]
    });
    let all: Vec<Change> = manifests
        .flat_map(|manifest| objects(&manifest))
        .map(Change::Upsert)
        .collect();
    let mut real = Reconciler::start("here", place.start(&node).unwrap()).unwrap();
    assert_eq!(real.audit().unwrap().0, [], "nothing is known yet");
    real.take(all, false).unwrap();
    assert_eq!(real.audit().unwrap().0, []);
    let count = damages(&real.maps.snapshot().unwrap()).len();
    for number in 0..count {
        let damage = damages(&real.maps.snapshot().unwrap()).remove(number);
        MapWriter::apply(&mut real.maps, std::slice::from_ref(&damage)).unwrap();
        let (found, done) = real.audit().unwrap();
        assert_ne!(found, [], "{damage:?}");
        assert!(done.operations > 0, "{damage:?}: {found:?}");
        assert_eq!(real.audit().unwrap().0, [], "{damage:?}: {found:?}");
    }
}
