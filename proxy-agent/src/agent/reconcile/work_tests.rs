//! What a change costs, counted: Services compiled, steps, entries of maps. Never time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::agent::Room;
use crate::datapath::testing::{Namespace, Place};
use crate::plan::{Capacity, Operation, Shortage, Writes};
use crate::source::{EndpointSlice, Object, Service};

/// As many Services as the figures are for.
const MANY: u32 = 10_000;
/// Entries of maps that one endpoint's change may write.
const MOST_WRITES: usize = 10;
const CAPACITY: Capacity = Capacity {
    services: 1 << 16,
    backends: 1 << 16,
    slots: 1 << 17,
    frontends4: 1 << 16,
    frontends6: 16,
    ranges4: 16,
    ranges6: 16,
};

/// Maps that hold nothing: a planner needs none but to be told of.
#[derive(Debug, Default)]
struct Nowhere {
    /// How often something was carried out.
    applied: usize,
}

impl MapWriter for Nowhere {
    type Error = std::convert::Infallible;

    fn apply(&mut self, _: &[Operation]) -> Result<(), Self::Error> {
        self.applied += 1;
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot, Self::Error> {
        Ok(Snapshot::default())
    }

    fn capacity(&self) -> Capacity {
        CAPACITY
    }

    fn make_room(&mut self, shortages: &[Shortage]) -> Result<Room, Self::Error> {
        panic!("{shortages:?}")
    }

    fn wait_for_readers(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn end_with_endpoints(&mut self, _: &ObjectName, _: Vec<Mortal>) {}
}

/// The Service's number is in its address, and `more` is in its spec.
fn service(number: u32, more: &serde_json::Value) -> Change {
    let [_, _, high, low] = number.to_be_bytes();
    let mut service = json!({
        "metadata": {"name": format!("s{number}"), "namespace": "default", "uid": format!("u{number}")},
        "spec": {"clusterIP": format!("10.96.{high}.{low}"), "ports": [{"name": "http", "port": 80, "nodePort": 0}]},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    let service: Service = serde_json::from_value(service).unwrap();
    Change::Upsert(Object::Service(Arc::new(service)))
}

/// Endpoints by their last octet and their conditions; 1 is on this node.
fn slice(number: u32, endpoints: &[(u8, &serde_json::Value)]) -> Change {
    let [_, _, high, low] = number.to_be_bytes();
    let endpoint = |(octet, conditions): &(u8, &serde_json::Value)| {
        json!({
            "addresses": [format!("10.{}.{low}.{octet}", 128 + high)],
            "conditions": conditions,
            "nodeName": if *octet == 1 { "here" } else { "there" },
        })
    };
    let slice = json!({
        "metadata": {
            "name": format!("s{number}-a"),
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": format!("s{number}")},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    });
    let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
    Change::Upsert(Object::Slice(Arc::new(slice)))
}

/// This many Services with two endpoints each.
fn world(count: u32) -> Vec<Change> {
    let ready = json!({});
    let each = (0..count).flat_map(|number| {
        [
            service(number, &json!({})),
            slice(number, &[(1, &ready), (2, &ready)]),
        ]
    });
    each.collect()
}

/// What becomes of one endpoint of a Service that has 1 and 2, one change after the other.
fn changes(number: u32) -> Vec<(&'static str, Change)> {
    let ready = json!({"ready": true, "serving": true, "terminating": false});
    let unready = json!({"ready": false, "serving": false, "terminating": false});
    let ending = json!({"ready": false, "serving": true, "terminating": true});
    let of = |endpoints: &[(u8, &serde_json::Value)]| slice(number, endpoints);
    vec![
        ("one fails its probe", of(&[(1, &ready), (2, &unready)])),
        ("it passes again", of(&[(1, &ready), (2, &ready)])),
        ("it terminates", of(&[(1, &ready), (2, &ending)])),
        ("it is gone", of(&[(1, &ready)])),
        ("another comes", of(&[(1, &ready), (3, &ready)])),
        ("that one is replaced", of(&[(1, &ready), (4, &ready)])),
        (
            "the one of this node is replaced",
            of(&[(5, &ready), (4, &ready)]),
        ),
        ("one of this node comes back", of(&[(1, &ready), (4, &ready)])),
    ]
}

/// Kinds of Services whose lists differ, and how many entries one endpoint's change may write: one with a ClusterIP alone;
/// and one with Local policies, whose two addresses begin and cease to answer ping with their last endpoint here.
fn kinds() -> [(u32, usize, serde_json::Value); 2] {
    [
        (7, MOST_WRITES, json!({})),
        (
            9_999,
            MOST_WRITES + 2,
            json!({
                "type": "LoadBalancer",
                "ports": [{"name": "http", "port": 80, "nodePort": 30_080}],
                "externalIPs": ["192.0.2.1"],
                "externalTrafficPolicy": "Local",
                "internalTrafficPolicy": "Local",
            }),
        ),
    ]
}

/// One endpoint's change: one Service is looked at, and what is written is what changed.
fn check_changes<M: MapWriter>(reconciler: &mut Reconciler<M>, mut observe: impl FnMut(&mut M, &str, Done)) {
    for (number, most, more) in kinds() {
        let done = reconciler.take(vec![service(number, &more)], false).unwrap();
        observe(reconciler.maps(), "set up", done);
        for (what, change) in changes(number) {
            let done = reconciler.take(vec![change.clone()], false).unwrap();
            assert_eq!(done.services, 1, "{what}");
            assert_eq!(done.failed, 0, "{what}");
            assert!((1..=most).contains(&done.writes.all()), "{what}: {done:?}");
            assert!(done.operations <= done.writes.all(), "{what}: {done:?}");
            observe(reconciler.maps(), what, done);
            let again = reconciler.take(vec![change], false).unwrap();
            assert_eq!(again, Done::default(), "{what}, told twice");
        }
    }
}

#[test]
fn one_endpoint_of_ten_thousand_services_costs_one_service() {
    let mut reconciler = Reconciler::start("here", Nowhere::default()).unwrap();
    let done = reconciler.take(world(MANY), false).unwrap();
    assert_eq!((done.services, done.failed), (MANY as usize, 0));
    let mut seen = 0;
    check_changes(&mut reconciler, |_, _, _| seen += 1);
    assert_eq!(seen, 2 * (1 + changes(0).len()));
}

/// Entries of the second that the first does not have, and those that it alone has.
fn differing<K: Ord, V: PartialEq>(
    before: impl IntoIterator<Item = (K, V)>,
    after: impl IntoIterator<Item = (K, V)>,
) -> usize {
    let mut before: BTreeMap<K, V> = before.into_iter().collect();
    let new = after
        .into_iter()
        .filter(|(key, value)| before.remove(key).as_ref() != Some(value))
        .count();
    new + before.len()
}

/// Entries of the kernel's maps that are not as they were. Slots that are no longer shown are as they were.
fn changed(before: &Snapshot, after: &Snapshot) -> Writes {
    let slots = |snapshot: &Snapshot| -> BTreeMap<u32, _> {
        let runs = snapshot.slots.clone().into_iter();
        runs.flat_map(|(first, run)| (first..).zip(run)).collect()
    };
    let (old, new) = (slots(before), slots(after));
    let new_slots = new.iter().filter(|(slot, id)| old.get(slot) != Some(id)).count();
    let (old, new) = (before.clone(), after.clone());
    Writes {
        calls: differing(old.identities, new.identities)
            + differing(old.frontends, new.frontends)
            + differing(old.vips, new.vips)
            + differing(
                old.ranges.into_iter().map(|range| (range, ())),
                new.ranges.into_iter().map(|range| (range, ())),
            ),
        stores: new_slots
            + differing(old.services, new.services)
            + differing(old.backends, new.backends)
            + differing(old.filter, new.filter),
    }
}

#[test]
fn one_endpoint_of_ten_thousand_services_changes_a_handful_of_the_kernels_entries() {
    let (node, place) = (Namespace::new(), Place::new());
    let maps = place.start_with_memory(&node, 192 << 20).unwrap();
    let mut reconciler = Reconciler::start("here", maps).unwrap();
    let done = reconciler.take(world(MANY), false).unwrap();
    assert_eq!((done.services, done.failed), (MANY as usize, 0));
    let mut before = reconciler.maps().snapshot().unwrap();
    assert_eq!(
        (
            before.identities.len(),
            before.frontends.len(),
            before.backends.len()
        ),
        (MANY as usize, MANY as usize, 2 * MANY as usize)
    );
    check_changes(&mut reconciler, |maps, what, done| {
        let after = maps.snapshot().unwrap();
        let changed = changed(&before, &after);
        assert!(
            changed.calls <= done.writes.calls && changed.stores <= done.writes.stores,
            "{what}: {changed:?} of {done:?}"
        );
        before = after;
    });
}

/// What a cold start comes to.
fn cold_start<M: MapWriter>(maps: M, count: u32) -> (Done, M)
where
    M::Error: std::fmt::Debug,
{
    let mut reconciler = Reconciler::start("here", maps).unwrap();
    let done = reconciler.take(world(count), false).unwrap();
    assert_eq!((done.services, done.failed), (count as usize, 0));
    (done, reconciler.maps)
}

#[test]
fn twice_the_services_are_at_most_twice_the_work_of_a_cold_start() {
    let starts = [1250, 2500, 5000, 10_000].map(|count| cold_start(Nowhere::default(), count));
    for [(half, half_maps), (whole, maps)] in starts.array_windows() {
        assert!(
            whole.operations <= 2 * half.operations,
            "{half:?}, then {whole:?}"
        );
        assert!(
            whole.writes.calls <= 2 * half.writes.calls,
            "{half:?}, then {whole:?}"
        );
        assert!(
            whole.writes.stores <= 2 * half.writes.stores,
            "{half:?}, then {whole:?}"
        );
        assert!(maps.applied <= 2 * half_maps.applied);
    }
}

#[test]
fn twice_the_services_are_at_most_twice_the_kernels_entries_of_a_cold_start() {
    let written = [2500, 5000, 10_000].map(|count| {
        let (node, place) = (Namespace::new(), Place::new());
        let maps = place.start_with_memory(&node, 192 << 20).unwrap();
        let (done, maps) = cold_start(maps, count);
        let written = changed(&Snapshot::default(), &maps.snapshot().unwrap());
        assert!(
            written.calls <= done.writes.calls && written.stores <= done.writes.stores,
            "{written:?} of {done:?}"
        );
        written
    });
    for [half, whole] in written.array_windows() {
        assert!(
            whole.calls <= 2 * half.calls && whole.stores <= 2 * half.stores,
            "{half:?}, then {whole:?}"
        );
    }
}
