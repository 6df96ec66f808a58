//! Maps that get another layout and go back to it, with everything that can be in them, and agents that end in the middle.

mod node;
mod others;

use proxy_common::layout::{V4, names};

use super::migration_tests::{LARGE, SMALL, flow, found, put, sizes};
use super::specification;
use super::sys::{self, MapFd};
use super::tables::Tables;
use node::{End, LINKS, Node, Way, check, frontend, interrupt, put_old};

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
    drop(Tables::prepare(&node.instance(), &specification::maps(&sizes(LARGE))).unwrap());
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
