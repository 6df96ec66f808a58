//! Maps that get another size, with everything that can be in them, and agents that end in the middle.

use std::fs;
use std::net::Ipv4Addr;

use proxy_common::layout::{
    Backend, BackendId, Flow, FlowKey, Identity, ListWord, Meta, Service, ServiceId, V4, names, protocol,
    state,
};

use super::Datapath;
use super::DatapathError;
use super::clock::{self, Clock};
use super::instance::{Instance, list};
use super::migration::Migration;
use super::size::{MapMemory, MapSizes};
use super::specification;
use super::tables::Tables;
use super::testing::{Namespace, Place, start};

pub(super) const SMALL: u64 = 16 << 20;
pub(super) const LARGE: u64 = 64 << 20;

struct Node {
    here: Namespace,
    place: Place,
}

impl Node {
    fn new() -> Self {
        Self {
            here: Namespace::new(),
            place: Place::new(),
        }
    }

    fn instance(&self) -> Instance {
        Instance::new(&self.place.instance)
    }

    fn start(&self, memory: u64) -> Datapath {
        let mut options = self.place.options();
        options.memory = Some(memory);
        start(&self.here, options).unwrap()
    }

    /// Does what a start does until all is copied, and ends.
    fn begin(&self, memory: u64) -> (Tables, Migration) {
        Tables::prepare(&self.instance(), &specification::maps(&sizes(memory))).unwrap()
    }

    /// Entries that the pinned map of established TCP flows of IPv4 has room for.
    fn room(&self) -> u32 {
        Tables::open(&self.instance())
            .unwrap()
            .flows4
            .tcp_flows
            .capacity()
    }
}

pub(super) fn sizes(memory: u64) -> MapSizes {
    MapMemory::of_node(Some(memory), None, &[]).unwrap().sizes
}

/// The flow with this number, last seen so many seconds ago.
pub(super) fn flow(number: u32, seconds: u32) -> (FlowKey<V4>, Flow<V4>) {
    let address = |first: u8| V4::from(Ipv4Addr::from(u32::from(first) << 24 | number));
    let key = FlowKey {
        source: address(10),
        destination: address(11),
        protocol: protocol::TCP,
        direction: 1,
        ..FlowKey::default()
    };
    let now = Clock::new().unwrap().now().unwrap();
    let seen = now.wrapping_sub(seconds * clock::ticks_per_second().unwrap());
    let flow = Flow {
        meta: Meta::new(key.tag(), state::REPLIED | state::ESTABLISHED, seen),
        service: ServiceId(number),
        ..Flow::default()
    };
    (key, flow)
}

pub(super) fn put(tables: &Tables, flows: impl IntoIterator<Item = (FlowKey<V4>, Flow<V4>)>) {
    for (key, flow) in flows {
        tables.flows4.tcp_flows.put(&key, &flow).unwrap();
    }
}

pub(super) fn found(tables: &Tables, number: u32) -> Option<Flow<V4>> {
    tables.flows4.tcp_flows.get(&flow(number, 0).0).unwrap()
}

/// A service port with one backend, whose ids and slots are these.
pub(super) fn serve(tables: &Tables, id: u32) {
    let service = Service {
        internal: ListWord::new(id, 1, 7),
        ..Service::default()
    };
    let backend = Backend {
        life: 3,
        service: ServiceId(id),
        ..Backend::default()
    };
    tables.identity.put(&ServiceId(id), &Identity::default()).unwrap();
    tables.services.put(ServiceId(id), &service).unwrap();
    tables.slots.put(id, &[BackendId(id)]).unwrap();
    tables.backends.put(BackendId(id), &backend).unwrap();
}

pub(super) fn serves(tables: &Tables, id: u32) -> bool {
    tables.identity.get(&ServiceId(id)).unwrap().is_some()
        && tables
            .services
            .get(ServiceId(id))
            .is_some_and(|service| service.internal.count() == 1)
        && tables.slots.get(id, 1) == [BackendId(id)]
        && tables
            .backends
            .get(BackendId(id))
            .is_some_and(|backend| backend.life == 3)
}

#[test]
fn flows_and_services_are_kept_while_maps_grow_and_shrink() {
    let node = Node::new();
    let datapath = node.start(SMALL);
    put(&datapath.tables, (0..100).map(|number| flow(number, number)));
    serve(&datapath.tables, 5);
    drop(datapath);
    for memory in [LARGE, SMALL] {
        let datapath = node.start(memory);
        let (tables, wanted) = (&datapath.tables, sizes(memory));
        let rooms = [
            tables.flows4.tcp_flows.capacity(),
            tables.services.len(),
            tables.slots.len(),
            tables.backends.len(),
            tables.frontends4.capacity(),
            tables.source_ranges6.capacity(),
            tables.sockets.capacity(),
        ];
        let expected = [
            wanted.tcp_flows,
            wanted.services,
            wanted.slots,
            wanted.backends,
            wanted.frontends,
            wanted.source_ranges,
            wanted.sockets,
        ];
        assert_eq!(rooms, expected);
        assert!((0..100).all(|number| found(tables, number).is_some_and(|flow| flow.service.0 == number)));
        assert!(serves(tables, 5));
        assert!(!node.instance().next().exists());
    }
}

#[test]
fn what_does_not_fit_is_what_was_not_used_for_longest_and_what_is_over_does_not_count() {
    let node = Node::new();
    let datapath = node.start(LARGE);
    let room = sizes(SMALL).tcp_flows;
    // Number n was used n / 10 seconds ago; the last hundred are over.
    put(
        &datapath.tables,
        (0..room + 1000).map(|number| flow(number, number / 10)),
    );
    let over = (room + 1000..room + 1100).map(|number| flow(number, 25 * 60 * 60));
    put(&datapath.tables, over);
    drop(datapath);
    let datapath = node.start(SMALL);
    let there = (0..room + 1100).filter(|number| found(&datapath.tables, *number).is_some());
    let there: Vec<u32> = there.collect();
    assert!(there.len() <= room as usize);
    // The kernel makes room in advance, by some entries a CPU.
    let newest = room / 2;
    assert!(
        (0..newest).all(|number| there.contains(&number)),
        "{} of {room}",
        there.len()
    );
    assert!(there.len() as u32 > room * 3 / 4, "{} of {room}", there.len());
    // Ten were last used in the same tenth of a second: any of those that the border goes through.
    let border = room.next_multiple_of(10);
    assert_eq!(there.last().filter(|number| **number >= border), None);
}

#[test]
fn a_map_whose_entries_in_use_would_not_fit_keeps_its_size_and_others_do_not() {
    let node = Node::new();
    let datapath = node.start(LARGE);
    let (small, large) = (sizes(SMALL), sizes(LARGE));
    let id = small.services.max(small.slots.min(large.services - 1));
    serve(&datapath.tables, id);
    drop(datapath);
    let datapath = node.start(SMALL);
    assert!(serves(&datapath.tables, id));
    assert_eq!(datapath.tables.services.len(), large.services);
    assert_eq!(datapath.tables.flows4.tcp_flows.capacity(), small.tcp_flows);
    assert!(!node.instance().next().exists());
}

#[test]
fn a_start_goes_on_where_another_ended_before_the_first_hook() {
    let node = Node::new();
    let datapath = node.start(SMALL);
    put(&datapath.tables, [flow(1, 60), flow(2, 60)]);
    drop(datapath);
    let old = Tables::open(&node.instance()).unwrap();
    drop(node.begin(LARGE));
    // Programs still run on the old map: one flow is used, one is new.
    put(&old, [flow(2, 0), flow(3, 0)]);
    let datapath = node.start(LARGE);
    assert!(!node.instance().next().exists());
    let age = |number| {
        let seen = found(&datapath.tables, number).unwrap().meta.seen();
        Clock::new().unwrap().now().unwrap().wrapping_sub(seen) / clock::ticks_per_second().unwrap()
    };
    assert!((60..90).contains(&age(1)) && age(2) < 30 && age(3) < 30);
}

#[test]
fn a_start_goes_on_where_another_ended_between_two_hooks() {
    let node = Node::new();
    let datapath = node.start(SMALL);
    put(&datapath.tables, [flow(1, 60), flow(2, 60), flow(3, 0)]);
    drop(datapath);
    let old = Tables::open(&node.instance()).unwrap();
    let (new, migration) = node.begin(LARGE);
    // Some hooks run on the new maps, some on the old ones, and there is no agent.
    put(&new, [flow(1, 0), flow(10, 0)]);
    put(&old, [flow(2, 0), flow(11, 0)]);
    drop((new, migration));
    // Another size than the one that is under way: that one comes first.
    let datapath = node.start(SMALL);
    let tables = &datapath.tables;
    assert_eq!(tables.flows4.tcp_flows.capacity(), sizes(LARGE).tcp_flows);
    assert!(
        [1, 2, 3, 10, 11]
            .into_iter()
            .all(|number| found(tables, number).is_some())
    );
    let seen = |number| found(tables, number).unwrap().meta.seen();
    let now = Clock::new().unwrap().now().unwrap();
    let fresh = 30 * clock::ticks_per_second().unwrap();
    assert!(now.wrapping_sub(seen(1)) < fresh && now.wrapping_sub(seen(2)) < fresh);
    drop(datapath);
    assert_eq!(
        node.start(SMALL).tables.flows4.tcp_flows.capacity(),
        sizes(SMALL).tcp_flows
    );
}

#[test]
fn a_start_goes_on_where_another_ended_between_two_names() {
    let node = Node::new();
    let datapath = node.start(SMALL);
    put(&datapath.tables, [flow(1, 60)]);
    serve(&datapath.tables, 5);
    drop(datapath);
    drop(node.begin(LARGE));
    let instance = node.instance();
    for name in [names::SERVICES, names::TCP_FLOWS4] {
        fs::rename(instance.next().join(name), instance.map(name)).unwrap();
    }
    let datapath = node.start(LARGE);
    assert!(!instance.next().exists());
    assert!(found(&datapath.tables, 1).is_some() && serves(&datapath.tables, 5));
    assert_eq!(node.room(), sizes(LARGE).tcp_flows);
    assert_eq!(datapath.tables.slots.len(), sizes(LARGE).slots);
}

#[test]
fn programs_that_can_not_be_loaded_leave_the_maps_as_they_were() {
    let node = Node::new();
    drop(node.start(SMALL));
    let mut options = node.place.options();
    options.memory = Some(LARGE);
    let refused = node.here.run(move || {
        let load = |_: &Instance| Err(DatapathError::Refused("no".to_owned()));
        Datapath::start_with(&options, &[], load).unwrap_err().to_string()
    });
    assert_eq!(refused, "no");
    assert!(!node.instance().next().exists());
    assert_eq!(node.room(), sizes(SMALL).tcp_flows);
}

#[test]
fn cleanup_takes_what_is_half_done() {
    let node = Node::new();
    drop(node.start(SMALL));
    drop(node.begin(LARGE));
    let instance = node.instance();
    assert!(!list(&instance.next()).unwrap().is_empty());
    let root = node.place.instance.clone();
    node.here.run(move || super::cleanup::run(&root).unwrap());
    assert!(!node.place.instance.exists());
}

#[test]
fn maps_of_the_right_size_are_left_alone() {
    let node = Node::new();
    let ids = || {
        specification::maps(&sizes(SMALL))
            .iter()
            .map(|map| {
                super::sys::MapFd::open(&node.instance().map(map.name))
                    .unwrap()
                    .info()
                    .id
            })
            .collect::<Vec<_>>()
    };
    drop(node.start(SMALL));
    let before = ids();
    drop(node.start(SMALL));
    assert_eq!(ids(), before);
}
