//! The API server is away.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::address::{Family, LOAD_BALANCER};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::group::processes_of;
use crate::ingress::url;
use crate::load::{FromOutside, FromPod};
use crate::steps::{Standing, standing, wait_until};

/// How long it is away.
const OUTAGE: Duration = Duration::from_secs(60);

/// Who calls the Service `one` by its cluster address.
fn ask_one(standing: &Standing) -> Result<String> {
    let line = "curl --silent --show-error --fail --max-time 5 http://one/hostname";
    standing.shell("client", line)
}

/// Ends the first process of a pod: its kubelet makes it anew, with another address.
fn renew(group: &Path) -> Result<()> {
    let before = processes_of(group);
    ensure!(!before.is_empty(), "the pod has no process");
    for process in &before {
        kill(Pid::from_raw(*process), Signal::SIGKILL).context("ending a pod's process")?;
    }
    wait_until(|| {
        let now = processes_of(group);
        let new: BTreeSet<_> = now.difference(&before).collect();
        ensure!(new.len() >= 2, "the pod's new processes: {new:?}");
        Ok(())
    })
}

#[test]
fn no_call_fails_without_the_api_server_and_changes_are_applied_after() {
    let mut standing = standing().unwrap();
    standing.balance_ingress().unwrap();
    standing.scale(1).unwrap();
    standing.wait_for_answers_of(1).unwrap();
    assert_eq!(ask_one(&standing).unwrap(), "one");
    let address = standing.read("pod/one", ".status.podIP").unwrap();
    let group = standing.group_of("one").unwrap();
    let inside = FromPod::start(&standing).unwrap();
    let outside = Family::BOTH.map(|family| {
        let options = format!(
            "--header 'Host: two.example' {}",
            url(LOAD_BALANCER.of(family), "hostname")
        );
        FromOutside::start(&standing, &family.to_string(), &options).unwrap()
    });
    standing.cluster.control_plane_mut().stop_api().unwrap();
    let end = Instant::now() + OUTAGE;
    renew(&group).unwrap();
    // No event: what is waited for is that nothing happens while every watch is broken and tried again.
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    standing.cluster.control_plane_mut().start_api().unwrap();
    standing.scale(3).unwrap();
    standing.wait_for_answers_of(3).unwrap();
    wait_until(|| {
        ensure!(ask_one(&standing)? == "one", "another pod answers");
        Ok(())
    })
    .unwrap();
    assert_ne!(standing.read("pod/one", ".status.podIP").unwrap(), address);
    let calls = inside.end(&standing).unwrap();
    assert!(calls > 100, "only {calls} calls were made");
    for load in outside {
        let calls = load.end().unwrap();
        assert!(calls > 100, "only {calls} calls were made from outside");
    }
}
