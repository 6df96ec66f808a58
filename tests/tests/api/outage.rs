//! The API can't be reached for a while.

use std::time::Duration;

use lab::cluster::{ControlPlane, Controllers};
use proxy_agent::source::{ApiOptions, Watched};

use super::gate::Gate;
use super::plane::{apply, namespace, options, service, slice};
use super::source::Source;

fn through(plane: &ControlPlane, gate: &Gate) -> ApiOptions {
    ApiOptions {
        masters: vec![gate.master()],
        ..options(plane)
    }
}

/// Makes a, b and c, each with a slice.
fn three(plane: &ControlPlane) {
    namespace(plane, "out");
    let all: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| service("out", name, "") + &slice("out", name, &format!("{name}-1"), &["10.244.1.1"]))
        .collect();
    apply(plane, &all.concat());
}

const ALL: [&str; 6] = [
    "+Service out/a",
    "+Service out/b",
    "+Service out/c",
    "+EndpointSlice out/a-1",
    "+EndpointSlice out/b-1",
    "+EndpointSlice out/c-1",
];

/// Deletes b, changes the slice of c, adds d.
fn change(plane: &ControlPlane) {
    plane
        .kubectl(&["delete", "service", "--namespace=out", "b"])
        .unwrap();
    plane
        .kubectl(&["delete", "endpointslice", "--namespace=out", "b-1"])
        .unwrap();
    apply(
        plane,
        &(slice("out", "c", "c-1", &["10.244.1.2"]) + &service("out", "d", "")),
    );
}

const DIFFERENCE: [&str; 4] = [
    "-Service out/b",
    "-EndpointSlice out/b-1",
    "+EndpointSlice out/c-1",
    "+Service out/d",
];

#[test]
fn after_an_outage_the_difference_comes_and_nothing_was_taken_away_meanwhile() {
    let plane = ControlPlane::start(Controllers::None).unwrap();
    three(&plane);
    let gate = Gate::open(&plane);
    let source = Source::start(&plane, through(&plane, &gate)).unwrap();
    source.expect("out", &ALL);
    gate.shut();
    change(&plane);
    source.wait_log("the API can't be watched");
    assert!(source.is_silent(), "the outage changed something");
    assert!(source.status.broken_for().unwrap() >= Duration::from_secs(4));
    gate.reopen();
    source.expect("out", &DIFFERENCE);
    source.wait_log("the API is watched again");
    let log = source.log();
    assert_eq!(log.matches("the API can't be watched").count(), 1, "{log}");
    assert_eq!(
        source.status.lists(Watched::Services),
        1,
        "it should have gone on where it was"
    );
    assert_eq!(source.status.broken_for(), None);
}

#[test]
fn changes_that_the_api_server_forgot_are_found_by_listing_again() {
    let mut plane = ControlPlane::start(Controllers::None).unwrap();
    three(&plane);
    let gate = Gate::open(&plane);
    let source = Source::start(&plane, through(&plane, &gate)).unwrap();
    source.expect("out", &ALL);
    gate.shut();
    change(&plane);
    // A new process knows no changes before its start: it answers 410.
    plane.stop_api().unwrap();
    plane.start_api().unwrap();
    gate.reopen();
    source.expect("out", &DIFFERENCE);
    assert!(source.status.lists(Watched::Services) > 1, "{}", source.log());
    apply(&plane, &service("out", "e", ""));
    source.expect("out", &["+Service out/e"]);
}

#[test]
fn the_api_servers_restart_changes_nothing() {
    let mut plane = ControlPlane::start(Controllers::None).unwrap();
    three(&plane);
    let source = Source::start(&plane, options(&plane)).unwrap();
    source.expect("out", &ALL);
    plane.stop_api().unwrap();
    source.wait_log("the API can't be watched");
    plane.start_api().unwrap();
    apply(&plane, &service("out", "d", ""));
    source.expect("out", &["+Service out/d"]);
}
