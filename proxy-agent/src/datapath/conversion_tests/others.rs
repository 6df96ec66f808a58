//! What agents, the doctor and the clean-up make of a layout that is another's, or half one's.

use std::fs;

use proxy_common::layout::LAYOUT_VERSION;

use super::node::{End, Node, OLD, Way, check, interrupt};
use crate::datapath::instance::list;
use crate::datapath::layouts::{Layout, OLDER};
use crate::datapath::migration_tests::{SMALL, sizes};
use crate::datapath::tables::Tables;
use crate::datapath::testing::start;
use crate::datapath::{
    DatapathError, NodePortRange, SnatPorts, cleanup, convert, doctor, prepare, specification, sys,
};

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
    node.here
        .run(move || prepare::run(&root, SnatPorts::default(), NodePortRange::default()).unwrap());
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

#[test]
fn a_node_that_was_only_prepared_is_left_to_the_older_layout_and_an_empty_one_is_told_apart() {
    let node = Node::new();
    let root = node.place.instance.clone();
    assert!(!convert::is_present(&root).unwrap());
    let error = node.downgrade().unwrap_err().to_string();
    assert!(error.contains("holds no maps of layout version"), "{error}");
    let prepared = root.clone();
    node.here
        .run(move || prepare::run(&prepared, SnatPorts::default(), NodePortRange::default()).unwrap());
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
