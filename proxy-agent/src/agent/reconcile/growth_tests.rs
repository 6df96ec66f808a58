//! The real maps grow under what the planner holds of them.

use super::tests::{service, slice};
use super::*;
use crate::agent::{Cause, Failure};
use crate::datapath::Datapath;
use crate::datapath::testing::{Namespace, Place};
use crate::source::objects;

/// The smallest that there are.
const ENTRIES: [&str; 5] = [
    "services=64",
    "frontends=64",
    "backends=64",
    "slots=64",
    "source-ranges=64",
];
const LIMIT: u64 = 64 << 20;

fn upserts(manifests: &[String]) -> Vec<Change> {
    let objects = manifests.iter().flat_map(|manifest| objects(manifest));
    objects.map(Change::Upsert).collect()
}

fn world(count: u8) -> Vec<String> {
    let each = (1..=count).map(|number| {
        let name = format!("s{number}");
        [service(&name, number, 80), slice(&name, &[number, number + 100])]
    });
    each.flatten().collect()
}

/// Retries until nothing failed, as the run loop does.
fn settle(reconciler: &mut Reconciler<Datapath>) -> usize {
    let mut retries = 0;
    while reconciler.failed_services() != 0 {
        let at = reconciler.next_retry().unwrap();
        reconciler.retry(at).unwrap();
        retries += 1;
        assert!(retries < 10, "{:?}", reconciler.failures());
    }
    retries
}

/// Names of the Services that the maps hold.
fn served(reconciler: &mut Reconciler<Datapath>) -> BTreeSet<String> {
    let snapshot = reconciler.maps().snapshot().unwrap();
    let names = snapshot
        .identities
        .iter()
        .map(|(_, identity)| identity.name.as_str().to_owned());
    names.collect()
}

#[test]
fn services_without_room_are_served_once_maps_have_grown() {
    let (node, place) = (Namespace::new(), Place::new());
    let maps = place.start_with_entries(&node, &ENTRIES, LIMIT).unwrap();
    let before = maps.capacity();
    let mut reconciler = Reconciler::start("here", maps).unwrap();
    let done = reconciler.take(upserts(&world(100)), false).unwrap();
    assert!(done.failed > 0 && reconciler.failed_services() == done.failed);
    let first = served(&mut reconciler);
    settle(&mut reconciler);
    assert_eq!(reconciler.failures(), []);
    let all = served(&mut reconciler);
    assert_eq!(all.len(), 100);
    assert!(first.is_subset(&all) && !first.is_empty());
    assert_eq!(
        reconciler.audit().unwrap().0,
        [],
        "the maps are as they should be"
    );
    let after = reconciler.maps().capacity();
    assert!(after.services >= 101 && after.backends >= 201 && after.slots >= 200 && after.frontends4 >= 100);
    assert_eq!(after.frontends6, before.frontends6, "nobody needs more of it");

    // An agent that starts there keeps what is in use, and goes on.
    drop(reconciler);
    let maps = place.start_with_entries(&node, &ENTRIES, LIMIT).unwrap();
    let mut reconciler = Reconciler::start("here", maps).unwrap();
    reconciler.take(upserts(&world(100)), false).unwrap();
    settle(&mut reconciler);
    assert_eq!(served(&mut reconciler), all);
    assert_eq!(reconciler.audit().unwrap().0, []);
}

#[test]
fn what_the_memory_does_not_allow_is_told_with_the_switch_and_served_is_what_was() {
    let (node, place) = (Namespace::new(), Place::new());
    // The floor of all maps is 16 MiB, and they take nearly all of it.
    let maps = place.start_with_entries(&node, &ENTRIES, 16 << 20).unwrap();
    let mut reconciler = Reconciler::start("here", maps).unwrap();
    reconciler.take(upserts(&world(20)), false).unwrap();
    let before = served(&mut reconciler);
    let ranges: Vec<String> = (0..200_000)
        .map(|number| {
            format!(
                "10.{}.{}.{}/32",
                number >> 16,
                (number >> 8) & 0xff,
                number & 0xff
            )
        })
        .collect();
    let guarded = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: guarded, uid: g}}\nspec: {{type: LoadBalancer, clusterIP: 10.96.0.200, \
         ports: [{{port: 80}}], loadBalancerSourceRanges: [{}]}}\nstatus: {{loadBalancer: {{ingress: [{{ip: 192.0.2.1}}]}}}}\n",
        ranges.join(", ")
    );
    reconciler.take(upserts(&[guarded]), false).unwrap();
    let at = reconciler.next_retry().unwrap();
    reconciler.retry(at).unwrap();
    let told = reconciler.failures();
    let [Failure { cause, text, .. }] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(*cause, Cause::NoRoom);
    assert!(
        text.contains("SOURCE_RANGES4") && text.contains("--map-memory-limit allows 16777216"),
        "{text}"
    );
    assert_eq!(served(&mut reconciler), before);
    assert_eq!(reconciler.failed_services(), 1);
}

/// What others hold of the maps goes on with the larger ones.
#[test]
fn gauges_and_sweeps_follow_maps_that_grow() {
    let (node, place) = (Namespace::new(), Place::new());
    let maps = place.start_with_entries(&node, &ENTRIES, LIMIT).unwrap();
    let (gauges, lives) = (maps.gauges(), maps.lives());
    let capacity = |map: &str| {
        let fills = gauges.fills().unwrap();
        let fill = fills.iter().find(|fill| fill.map == map).unwrap();
        (fill.entries, fill.capacity)
    };
    let before = gauges.memory().unwrap();
    let mut reconciler = Reconciler::start("here", maps).unwrap();
    reconciler.take(upserts(&world(70)), false).unwrap();
    assert_eq!(capacity("SERVICES"), (31, 64));
    settle(&mut reconciler);
    assert_eq!(capacity("SERVICES"), (70, 128));
    let after = gauges.memory().unwrap();
    assert!(after.0 > before.0 && after.1 == before.1 && after.1 == LIMIT);
    lives.set(crate::datapath::FlowLives::default()).unwrap();
}
