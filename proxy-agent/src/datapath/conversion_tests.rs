//! Maps that get another layout and go back to it, with everything that can be in them, and agents that end in the middle.

use std::fs;
use std::os::fd::AsFd;

use proxy_common::layout::{
    Affinity, AffinityKey, BackendId, FrontendKey, FrontendValue, LAYOUT_VERSION, Port, ServiceId, V4, names,
};

use super::conversion::{Conversion, Place as Side};
use super::instance::{Instance, list};
use super::layouts::{Entry, Form, Layout, OLDER};
use super::migration_tests::{LARGE, SMALL, flow, found, put, serve, serves, sizes};
use super::options::DatapathOptions;
use super::programs::tests::tiny;
use super::sys::{self, MapFd};
use super::tables::Tables;
use super::testing::{Namespace, Place, start};
use super::{Datapath, DatapathError, cleanup, convert, doctor, prepare, specification};

/// A layout that never was: an element of each kind of map had another form, or another place in the key.
static OLD: [Layout; 1] = [Layout {
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

struct Node {
    here: Namespace,
    _pod: Namespace,
    place: Place,
}

impl Node {
    fn new() -> Self {
        let (here, pod) = (Namespace::new(), Namespace::new());
        here.veth("pod0", &pod, "eth0");
        Self {
            here,
            _pod: pod,
            place: Place::new(),
        }
    }

    /// With an agent that has been here, and left what everything below asks for.
    fn used() -> Self {
        let node = Self::new();
        let datapath = start(&node.here, node.options()).unwrap();
        fill(&datapath.tables);
        node
    }

    /// The same, in the old layout.
    fn old() -> Self {
        let node = Self::used();
        node.downgrade().unwrap();
        node
    }

    fn instance(&self) -> Instance {
        Instance::new(&self.place.instance)
    }

    fn before(&self) -> Instance {
        self.instance().of_layout(0)
    }

    fn options(&self) -> DatapathOptions {
        DatapathOptions {
            memory: Some(SMALL),
            ..self.place.options()
        }
    }

    fn upgrade(&self) -> Result<Datapath, DatapathError> {
        self.upgrade_with(|| Ok(tiny()))
    }

    fn upgrade_with(
        &self,
        load: fn() -> Result<super::Programs, DatapathError>,
    ) -> Result<Datapath, DatapathError> {
        let options = self.options();
        self.here
            .run(move || Datapath::start_with(&options, &OLD, &|_| load()))
    }

    fn downgrade(&self) -> Result<(), DatapathError> {
        let options = self.options();
        self.here.run(move || {
            let maps = specification::maps(&sizes(SMALL));
            convert::downgrade_to(&options, &OLD[0], &OLD, &maps, &|_| Ok(tiny()))
        })
    }

    fn cleanup(&self) {
        let instance = self.instance();
        self.here.run(move || cleanup::clean(&instance, &OLD).unwrap());
    }

    /// Does what a change does until all is copied, and ends.
    fn begin(&self, way: Way) -> Conversion<'static> {
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

    fn old_flows(&self) -> MapFd {
        MapFd::open(&self.before().map(names::TCP_FLOWS4)).unwrap()
    }

    /// Ids of links, and of the programs that they run.
    fn links(&self, instance: &Instance) -> Vec<(u32, u32)> {
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
enum Way {
    Up,
    Down,
}

fn frontend() -> (FrontendKey<V4>, FrontendValue) {
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
fn check(tables: &Tables) {
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
const LINKS: usize = 9 + 2;

/// Writes flows into the old layout's map, as its programs would.
fn put_old(map: &MapFd, numbers: impl IntoIterator<Item = (u32, u32)>) {
    for (number, seconds) in numbers {
        let (key, flow) = flow(number, seconds);
        let (key, value) = with_reserve(sys::bytes_of(&key), sys::bytes_of(&flow)).unwrap();
        map.update(&key, &value, 0).unwrap();
    }
}

#[test]
fn a_layout_is_left_and_come_back_to_with_everything_in_it() {
    let node = Node::used();
    let before = node.links(&node.instance());
    assert_eq!(before.len(), LINKS);
    node.downgrade().unwrap();
    assert!(!node.instance().version().exists());
    let (key, value) = (sys::bytes_of(&frontend().0).to_vec(), &mut [0; 12]);
    let frontends = MapFd::open(&node.before().map(names::FRONTENDS4)).unwrap();
    assert!(frontends.lookup(&key, value).unwrap());
    value.reverse();
    assert_eq!(sys::from_bytes(value), Some(frontend().1));
    let backends = MapFd::open(&node.before().map(names::BACKENDS)).unwrap();
    assert_eq!(backends.info().value_size, 40);
    let backend = &mut [0; 40];
    assert!(backends.lookup(&5_u32.to_ne_bytes(), backend).unwrap());
    assert_eq!(backend[..8], [0xee; 8]);
    let old = node.links(&node.before());
    node.downgrade().unwrap();
    assert_eq!(
        node.links(&node.before()),
        old,
        "a second time there is nothing to do"
    );

    let datapath = node.upgrade().unwrap();
    check(&datapath.tables);
    assert!(!node.before().version().exists());
    let after = node.links(&node.instance());
    let ids = |links: &[(u32, u32)]| links.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(
        (ids(&before), ids(&before)),
        (ids(&old), ids(&after)),
        "hooks kept their links"
    );
    assert!(
        before
            .iter()
            .zip(&old)
            .zip(&after)
            .all(|((a, b), c)| a.1 != b.1 && b.1 != c.1)
    );
    drop(datapath);
    node.cleanup();
    assert!(!node.place.instance.exists());
}

#[test]
fn what_programs_add_while_hooks_move_is_carried_over_and_the_newer_entry_wins() {
    let node = Node::old();
    let old = node.old_flows();
    let conversion = node.begin(Way::Up);
    let tables = Tables::open(&node.instance()).unwrap();
    put_old(&old, [(200, 0)]);
    conversion.take_links().unwrap();
    assert!(
        found(&tables, 200).is_some(),
        "what came while programs were loaded"
    );
    // Some hooks run on the new maps, some on the old ones.
    put_old(&old, [(201, 0), (50, 0)]);
    put(&tables, [flow(60, 0), flow(202, 0)]);
    put_old(&old, [(60, 30)]);
    conversion.finish().unwrap();
    check(&tables);
    for number in [200, 201, 202, 50, 60] {
        let age = |flow: proxy_common::layout::Flow<V4>| {
            let now = super::clock::Clock::new().unwrap().now().unwrap();
            now.wrapping_sub(flow.meta.seen()) / super::clock::ticks_per_second().unwrap()
        };
        assert!(age(found(&tables, number).unwrap()) < 20, "{number}");
    }
    assert!(!node.before().version().exists());
}

/// How far a change had come when the agent ended.
#[derive(Clone, Copy, Debug)]
enum End {
    BeforeTheFirstMap,
    BeforeTheLinks,
    AmongTheHooks,
    BeforeTheLastPin,
}

fn interrupt(node: &Node, way: Way, end: End) {
    let (from, to) = match way {
        Way::Up => (node.before(), node.instance()),
        Way::Down => (node.instance(), node.before()),
    };
    if matches!(end, End::BeforeTheFirstMap) {
        return super::instance::make(&to.incomplete()).unwrap();
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

#[test]
fn a_change_goes_on_or_turns_round_wherever_an_agent_ended() {
    let ends = [
        End::BeforeTheFirstMap,
        End::BeforeTheLinks,
        End::AmongTheHooks,
        End::BeforeTheLastPin,
    ];
    for (way, end) in [Way::Up, Way::Down]
        .into_iter()
        .flat_map(|way| ends.map(|end| (way, end)))
    {
        for then in [Way::Up, Way::Down] {
            let node = if way == Way::Up { Node::old() } else { Node::used() };
            interrupt(&node, way, end);
            if then == Way::Down {
                node.downgrade()
                    .unwrap_or_else(|error| panic!("{way:?} {end:?} {then:?}: {error}"));
                assert!(!node.instance().version().exists(), "{way:?} {end:?}");
                assert!(!node.before().incomplete().exists(), "{way:?} {end:?}");
                assert_eq!(node.links(&node.before()).len(), LINKS, "{way:?} {end:?}");
            }
            let datapath = node
                .upgrade()
                .unwrap_or_else(|error| panic!("{way:?} {end:?} {then:?}: {error}"));
            check(&datapath.tables);
            let was_among = matches!(end, End::AmongTheHooks | End::BeforeTheLastPin);
            for number in [300, 301] {
                assert_eq!(found(&datapath.tables, number).is_some(), was_among, "{number}");
            }
            assert!(!node.before().version().exists());
            assert!(!node.instance().incomplete().exists());
            assert_eq!(node.links(&node.instance()).len(), LINKS);
        }
    }
}

#[test]
fn maps_that_were_about_to_change_their_size_are_carried_over_whole() {
    let node = Node::used();
    let old = Tables::open(&node.instance()).unwrap();
    drop(Tables::prepare(&node.instance(), &sizes(LARGE)).unwrap());
    let new = Tables::open(&node.instance()).unwrap();
    // Some hooks run on the new maps, some on the old ones.
    put(&old, [flow(400, 0)]);
    put(&new, [flow(401, 0)]);
    drop((old, new));
    node.downgrade().unwrap();
    assert_eq!(node.old_flows().info().max_entries, sizes(LARGE).tcp_flows);
    let datapath = node.upgrade().unwrap();
    check(&datapath.tables);
    assert!(
        [400, 401]
            .into_iter()
            .all(|number| found(&datapath.tables, number).is_some())
    );
    assert_eq!(
        datapath.tables.flows4.tcp_flows.capacity(),
        sizes(SMALL).tcp_flows
    );
    assert!(!node.instance().next().exists());
}

#[test]
fn programs_that_can_not_be_loaded_leave_the_older_layout_alone() {
    let node = Node::old();
    let (links, maps) = (node.links(&node.before()), list(&node.before().maps()).unwrap());
    let refused = node
        .upgrade_with(|| Err(DatapathError::Refused("no".to_owned())))
        .unwrap_err();
    assert_eq!(refused.to_string(), "no");
    assert!(!node.instance().version().exists());
    assert_eq!(
        (node.links(&node.before()), list(&node.before().maps()).unwrap()),
        (links, maps)
    );
    check(&node.upgrade().unwrap().tables);
}

#[test]
fn an_agent_keeps_its_layout_for_itself() {
    let node = Node::used();
    let running = start(&node.here, node.options()).unwrap();
    let text = node.downgrade().unwrap_err().to_string();
    assert!(text.contains("another agent runs"), "{text}");
    assert!(!node.before().version().exists());
    drop(running);
    node.downgrade().unwrap();
    // The same, of an agent that does not know the other layout.
    let text = start(&node.here, node.options()).unwrap_err().to_string();
    assert!(
        text.contains("older layout version 0") && text.contains("traffic goes on"),
        "{text}"
    );
    assert!(!node.instance().version().exists());
    let text = Tables::open(&node.instance()).unwrap_err().to_string();
    assert!(text.contains("older layout version 0"), "{text}");
}

#[test]
fn the_doctor_names_a_change_that_is_not_over() {
    let node = Node::old();
    let options = doctor::DoctorOptions {
        instance: node.place.instance.clone(),
        cgroup: node.place.cgroup.clone(),
    };
    let look = || {
        let options = options.clone();
        let checks = node.here.run(move || doctor::run(&options));
        checks.into_iter().find(|check| check.name == "layout")
    };
    interrupt(&node, Way::Up, End::AmongTheHooks);
    let check = look().unwrap();
    assert_eq!(check.state, doctor::State::Warn);
    assert!(check.found.contains("versions [0] and 1"), "{check:?}");
    drop(node.upgrade().unwrap());
    assert_eq!(look(), None);
}

#[test]
fn cleanup_takes_an_older_layout_and_one_that_is_half_converted() {
    for half in [false, true] {
        let node = Node::old();
        if half {
            interrupt(&node, Way::Up, End::AmongTheHooks);
        }
        node.cleanup();
        assert!(!node.place.instance.exists());
        assert_eq!(
            node.here
                .command("cat", "/proc/sys/net/ipv4/ip_local_reserved_ports")
                .trim(),
            ""
        );
    }
}

#[test]
fn cleanup_refuses_a_newer_layout_and_touches_nothing() {
    let node = Node::used();
    let newer = node.instance().of_layout(99);
    fs::rename(node.instance().version(), newer.version()).unwrap();
    let links = node.links(&newer);
    let root = node.place.instance.clone();
    let text = node
        .here
        .run(move || cleanup::run(&root).unwrap_err().to_string());
    assert!(text.contains("newer layout version 99"), "{text}");
    assert_eq!(node.links(&newer), links);
}

#[test]
fn a_node_that_was_only_prepared_takes_any_layout() {
    let node = Node::new();
    let root = node.place.instance.clone();
    node.here.run(move || {
        prepare::run(
            &root,
            super::SnatPorts::default(),
            super::NodePortRange::default(),
        )
        .unwrap()
    });
    fs::rename(node.instance().version(), node.before().version()).unwrap();
    let datapath = node.upgrade().unwrap();
    assert!(!node.before().version().exists());
    assert_eq!(
        list(&node.instance().reserved_marks()).unwrap(),
        ["30000-32767", "45000-60999"]
    );
    drop(datapath);
}

#[test]
fn a_node_that_was_only_prepared_is_left_to_the_older_layout_and_an_empty_one_is_told_apart() {
    let node = Node::new();
    let root = node.place.instance.clone();
    assert!(!convert::is_present(&root).unwrap());
    let error = node.downgrade().unwrap_err().to_string();
    assert!(error.contains("holds no maps of layout version"), "{error}");
    let prepared = root.clone();
    node.here.run(move || {
        prepare::run(
            &prepared,
            super::SnatPorts::default(),
            super::NodePortRange::default(),
        )
        .unwrap()
    });
    assert!(convert::is_present(&root).unwrap());
    // A second time it is done already.
    for _ in 0..2 {
        node.downgrade().unwrap();
        assert!(!node.instance().version().exists());
        assert_eq!(
            list(&node.before().reserved_marks()).unwrap(),
            ["30000-32767", "45000-60999"]
        );
    }
}

#[test]
fn a_downgrade_wants_an_object_of_that_layout_and_a_layout_that_it_knows() {
    let node = Node::used();
    let object = crate::datapath::OBJECT;
    let text = convert::downgrade(&node.options(), 77, object)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("goes back to") && text.contains("not to 77"),
        "{text}"
    );
    let text = convert::held_by(object, &OLD[0]).unwrap_err().to_string();
    assert!(
        text.contains("not of layout version 0") && text.contains("BACKENDS"),
        "{text}"
    );
    let held = convert::held_by(
        object,
        &Layout {
            version: LAYOUT_VERSION,
            changed: &[],
        },
    );
    assert_eq!(held.unwrap().len(), specification::maps(&sizes(SMALL)).len());
}

#[test]
fn every_layout_that_is_known_names_maps_that_there_are() {
    let maps = specification::maps(&sizes(SMALL));
    for layout in OLDER.iter().chain(&OLD) {
        assert_ne!(layout.version, LAYOUT_VERSION);
        for form in layout.changed {
            let now = maps.iter().find(|map| map.name == form.name).unwrap();
            // Values of all CPUs at once are none that a conversion reads.
            assert_ne!(now.kind, sys::map_type::PERCPU_ARRAY);
            let (key, value) = (vec![1; now.key_size as usize], vec![2; now.value_size as usize]);
            let (old_key, old_value) = (form.downgrade)(&key, &value).unwrap();
            assert_eq!(
                (old_key.len(), old_value.len()),
                (form.key_size as usize, form.value_size as usize)
            );
            let (key, value) = (form.upgrade)(&old_key, &old_value).unwrap();
            assert_eq!(
                (key.len(), value.len()),
                (now.key_size as usize, now.value_size as usize)
            );
        }
    }
}
