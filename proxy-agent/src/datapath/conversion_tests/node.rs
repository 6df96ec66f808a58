//! A node whose maps have a layout that never was, or this one's.

use std::fs;
use std::os::fd::AsFd;

use proxy_common::layout::{
    Affinity, AffinityKey, BackendId, FrontendKey, FrontendValue, Port, ServiceId, V4, names,
};

use crate::datapath::conversion::{Conversion, Place as Side};
use crate::datapath::instance::{Instance, list};
use crate::datapath::layouts::{Entry, Form, Layout};
use crate::datapath::migration_tests::{SMALL, flow, found, put, serve, serves, sizes};
use crate::datapath::options::DatapathOptions;
use crate::datapath::programs::tests::tiny;
use crate::datapath::sys::{self, MapFd};
use crate::datapath::tables::Tables;
use crate::datapath::testing::{Namespace, Place, start};
use crate::datapath::{Datapath, DatapathError, cleanup, convert, specification};

/// A layout that never was: an element of each kind of map had another form, or another place in the key.
pub(super) static OLD: [Layout; 1] = [Layout {
    version: 0,
    changed: &[
        Form {
            name: names::TCP_FLOWS4,
            key_size: 16,
            value_size: FLOW + 8,
            upgrade: without_reserve,
            downgrade: with_reserve,
        },
        Form {
            name: names::FRONTENDS4,
            key_size: 8,
            value_size: 12,
            upgrade: turned,
            downgrade: turned,
        },
        Form {
            name: names::BACKENDS,
            key_size: 4,
            value_size: 40,
            upgrade: without_reserve,
            downgrade: with_reserve,
        },
        Form {
            name: names::AFFINITY,
            key_size: CLIENT + 4,
            value_size: 16,
            upgrade: without_family,
            downgrade: with_family,
        },
    ],
}];
const FLOW: u32 = size_of::<proxy_common::layout::Flow<V4>>() as u32;
const CLIENT: u32 = size_of::<AffinityKey>() as u32;

fn with_reserve(key: &[u8], value: &[u8]) -> Option<Entry> {
    Some((key.to_vec(), [&[0xee; 8], value].concat()))
}

fn without_reserve(key: &[u8], value: &[u8]) -> Option<Entry> {
    Some((key.to_vec(), value.get(8..)?.to_vec()))
}

fn turned(key: &[u8], value: &[u8]) -> Option<Entry> {
    Some((key.to_vec(), value.iter().rev().copied().collect()))
}

fn with_family(key: &[u8], value: &[u8]) -> Option<Entry> {
    Some(([&[4; 4], key].concat(), value.to_vec()))
}

fn without_family(key: &[u8], value: &[u8]) -> Option<Entry> {
    Some((key.get(4..)?.to_vec(), value.to_vec()))
}

pub(super) struct Node {
    pub(super) here: Namespace,
    _pod: Namespace,
    pub(super) place: Place,
}

impl Node {
    pub(super) fn new() -> Self {
        let (here, pod) = (Namespace::new(), Namespace::new());
        here.veth("pod0", &pod, "eth0");
        Self {
            here,
            _pod: pod,
            place: Place::new(),
        }
    }

    /// With an agent that has been here, and left what everything below asks for.
    pub(super) fn used() -> Self {
        let node = Self::new();
        let datapath = start(&node.here, node.options()).unwrap();
        fill(&datapath.tables);
        node
    }

    /// The same, in the old layout.
    pub(super) fn old() -> Self {
        let node = Self::used();
        node.downgrade().unwrap();
        node
    }

    pub(super) fn instance(&self) -> Instance {
        Instance::new(&self.place.instance)
    }

    pub(super) fn before(&self) -> Instance {
        self.instance().of_layout(0)
    }

    pub(super) fn options(&self) -> DatapathOptions {
        DatapathOptions {
            memory: Some(SMALL),
            ..self.place.options()
        }
    }

    pub(super) fn upgrade(&self) -> Result<Datapath, DatapathError> {
        self.upgrade_with(|| Ok(tiny()))
    }

    pub(super) fn upgrade_with(
        &self,
        load: fn() -> Result<crate::datapath::Programs, DatapathError>,
    ) -> Result<Datapath, DatapathError> {
        let options = self.options();
        self.here
            .run(move || Datapath::start_with(&options, &OLD, move |_| load()))
    }

    pub(super) fn downgrade(&self) -> Result<(), DatapathError> {
        let options = self.options();
        self.here.run(move || {
            let maps = specification::maps(&sizes(SMALL));
            convert::downgrade_to(&options, &OLD[0], &OLD, &maps, &|_| Ok(tiny()))
        })
    }

    pub(super) fn cleanup(&self) {
        let instance = self.instance();
        self.here.run(move || cleanup::clean(&instance, &OLD).unwrap());
    }

    /// Does what a change does until all is copied, and ends.
    pub(super) fn begin(&self, way: Way) -> Conversion<'static> {
        let (old, this) = (
            Side::of_other(&self.instance(), &OLD[0]),
            Side::of_this(&self.instance()),
        );
        let maps = specification::maps(&sizes(SMALL));
        match way {
            Way::Up => Conversion::begin(old, this, &maps).unwrap(),
            Way::Down => Conversion::begin(this, old, &maps).unwrap(),
        }
    }

    pub(super) fn old_flows(&self) -> MapFd {
        MapFd::open(&self.before().map(names::TCP_FLOWS4)).unwrap()
    }

    /// Ids of links, and of the programs that they run.
    pub(super) fn links(&self, instance: &Instance) -> Vec<(u32, u32)> {
        let mut links = Vec::new();
        for directory in [instance.cgroup_links(), instance.tcx_links()] {
            for name in list(&directory).unwrap() {
                let link = sys::object_get(&directory.join(name)).unwrap();
                let info = sys::link_info(link.as_fd()).unwrap();
                links.push((info.id, info.program));
            }
        }
        links.sort_unstable();
        links
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    Up,
    Down,
}

pub(super) fn frontend() -> (FrontendKey<V4>, FrontendValue) {
    let key = FrontendKey::new(V4::new([10, 96, 0, 1]), Port::new(80), 6);
    let value = FrontendValue {
        service: ServiceId(5),
        tag: key.tag(),
        service_tag: 7,
        kind: 1,
        pad: 0,
    };
    (key, value)
}

fn client() -> (AffinityKey, Affinity) {
    let key = AffinityKey::of_address(&V4::new([10, 0, 0, 1]), ServiceId(5));
    (key, Affinity::new(key.tag(1), 77, BackendId(5), 3))
}

fn fill(tables: &Tables) {
    put(tables, (0..100).map(|number| flow(number, number)));
    serve(tables, 5);
    tables.frontends4.put(&frontend().0, &frontend().1).unwrap();
    tables.affinity.put(&client().0, &client().1).unwrap();
}

#[track_caller]
pub(super) fn check(tables: &Tables) {
    for number in 0..100 {
        let (_, expected) = flow(number, number);
        let there = found(tables, number).unwrap_or_else(|| panic!("flow {number} is lost"));
        assert_eq!(there.service, expected.service);
        assert_eq!(there.meta.state(), expected.meta.state());
    }
    assert!(serves(tables, 5));
    assert_eq!(tables.frontends4.get(&frontend().0).unwrap(), Some(frontend().1));
    assert_eq!(tables.affinity.get(&client().0).unwrap(), Some(client().1));
}

/// Of the cgroup programs, and of a pod interface's two hooks.
pub(super) const LINKS: usize = 9 + 2;

/// Writes flows into the old layout's map, as its programs would.
pub(super) fn put_old(map: &MapFd, numbers: impl IntoIterator<Item = (u32, u32)>) {
    for (number, seconds) in numbers {
        let (key, flow) = flow(number, seconds);
        let (key, value) = with_reserve(sys::bytes_of(&key), sys::bytes_of(&flow)).unwrap();
        map.update(&key, &value, 0).unwrap();
    }
}

/// How far a change had come when the agent ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    BeforeTheFirstMap,
    BeforeTheLinks,
    AmongTheHooks,
    BeforeTheLastPin,
}

pub(super) fn interrupt(node: &Node, way: Way, end: End) {
    let (from, to) = match way {
        Way::Up => (node.before(), node.instance()),
        Way::Down => (node.instance(), node.before()),
    };
    if matches!(end, End::BeforeTheFirstMap) {
        return crate::datapath::instance::make(&to.incomplete()).unwrap();
    }
    let conversion = node.begin(way);
    if matches!(end, End::BeforeTheLinks) {
        return;
    }
    conversion.take_links().unwrap();
    put_old(&node.old_flows(), [(300, 0)]);
    put(&Tables::open(&node.instance()).unwrap(), [flow(301, 0)]);
    if matches!(end, End::AmongTheHooks) {
        return;
    }
    // The last copy was made, the new maps are whole, and a part of the old ones is gone.
    let again = node.begin(way);
    again.take_links().unwrap();
    fs::rename(to.incomplete(), from.incomplete()).unwrap();
    for name in [names::FRONTENDS4, names::SERVICES, names::TCP_FLOWS4] {
        fs::remove_file(from.map(name)).unwrap();
    }
}
