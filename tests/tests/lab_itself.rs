//! The lab without Shunt: everyone reaches everyone directly, and nothing is left behind.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use lab::address::{self, Family};
use lab::call::{Calls, Transport, hold};
use lab::options::{Options, Style};
use lab::{ECHO_PORT, Lab};

const TRANSPORTS: [Transport; 4] = [
    Transport::Tcp,
    Transport::Udp,
    Transport::ConnectedUdp,
    Transport::OneUdpSocket,
];

fn everyone_reaches_pods(options: Options) -> Result<()> {
    let mut lab = Lab::build(options)?;
    for (name, node) in [("a", 1), ("b", 1), ("c", 2)] {
        lab.add_pod(name, node)?;
    }
    for from in ["a", "n1", "n2", "client"] {
        let place = lab.place(from)?;
        for (to, family) in ["b", "c"]
            .into_iter()
            .flat_map(|to| Family::BOTH.map(|family| (to, family)))
        {
            let target = lab.pod(to).address.at(family, ECHO_PORT);
            for transport in TRANSPORTS {
                let outcomes = place.calls(Calls::new(transport, target, 3))?;
                let row = format!("{options}: {from} calls {to} by {transport} over {family}: {outcomes}");
                assert_eq!(outcomes.by_name().get(to), Some(&3), "{row}");
                for answer in outcomes.answers() {
                    assert_eq!(answer.from, target, "{row}");
                    assert_eq!(answer.peer.port(), answer.own.port(), "{row}");
                }
            }
            place.transfer(target, 1_000_000)?;
        }
    }
    Ok(())
}

#[test]
fn routed_pods_are_reached() -> Result<()> {
    everyone_reaches_pods(Options::default())
}

#[test]
fn routed_pods_of_strict_nodes_without_offloads_are_reached() -> Result<()> {
    everyone_reaches_pods(Options {
        strict: true,
        offloads: false,
        ..Options::default()
    })
}

#[test]
fn bridged_pods_are_reached() -> Result<()> {
    everyone_reaches_pods(Options {
        style: Style::Bridge,
        ..Options::default()
    })
}

#[test]
fn bridged_pods_of_strict_nodes_without_offloads_are_reached() -> Result<()> {
    everyone_reaches_pods(Options {
        style: Style::Bridge,
        strict: true,
        offloads: false,
        ..Options::default()
    })
}

#[test]
fn a_closed_port_refuses_and_an_unrouted_address_is_unreachable() {
    let mut lab = Lab::build(Options::default()).unwrap();
    let pod = lab.add_pod("a", 1).unwrap().address;
    for family in Family::BOTH {
        for transport in [Transport::Tcp, Transport::ConnectedUdp] {
            let outcomes = lab
                .client
                .calls(Calls::new(transport, pod.at(family, 9), 2))
                .unwrap();
            assert!(outcomes.all_refused(), "{transport} {family}: {outcomes}");
        }
        let cluster = address::cluster(1).at(family, 80);
        // The kernel takes an ICMP error that comes while it still sends the SYN for a passing one, and tries again.
        let calls = Calls {
            timeout: Duration::from_secs(5),
            ..Calls::new(Transport::Tcp, cluster, 1)
        };
        let outcomes = lab.client.calls(calls).unwrap();
        assert!(
            outcomes.to_string().contains("unreachable"),
            "{family}: {outcomes}"
        );
    }
}

#[test]
fn a_held_connection_is_checked_and_breaks_with_its_server() {
    let mut lab = Lab::build(Options::default()).unwrap();
    let to = lab.add_pod("a", 2).unwrap().address.at(Family::V4, ECHO_PORT);
    let mut held = hold(&lab.client, to, Duration::from_millis(1)).unwrap();
    let before = held.check().unwrap();
    let after = held.check().unwrap();
    assert!(after.lines >= before.lines + 10, "{before:?} {after:?}");
    lab.pod_mut("a").unwrap().stop().unwrap();
    assert!(held.check().is_err(), "a connection without a server cannot live");
}

/// All that a lab leaves on the machine: namespaces, cgroups, bpffs directories, folders.
fn remains(id: &str) -> Vec<PathBuf> {
    let places = [
        "/run/netns",
        "/sys/fs/bpf",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
    ];
    let temporary = std::env::temp_dir();
    let places = places.map(Path::new).into_iter().chain([temporary.as_path()]);
    let entries = places
        .filter_map(|place| std::fs::read_dir(place).ok())
        .flatten()
        .flatten();
    let ours = |path: &PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name == id || name.starts_with(&format!("{id}-"))
    };
    entries.map(|entry| entry.path()).filter(ours).collect()
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    let mut lab = Lab::build(Options::default()).unwrap();
    lab.add_pod("a", 1).unwrap();
    let id = lab.id().to_owned();
    assert!(
        remains(&id).len() >= 6,
        "the test does not see the lab: {:?}",
        remains(&id)
    );
    drop(lab);
    assert_eq!(remains(&id), Vec::<PathBuf>::new());
}

#[test]
fn several_labs_stand_side_by_side() {
    let labs = [(); 2].map(|()| {
        let mut lab = Lab::build(Options::default()).unwrap();
        lab.add_pod("a", 1).unwrap();
        lab
    });
    for lab in &labs {
        let to = lab.pod("a").address.at(Family::V6, ECHO_PORT);
        assert!(
            lab.client
                .calls(Calls::new(Transport::Tcp, to, 1))
                .unwrap()
                .all_answered()
        );
    }
}

/// The test runs itself once more, in a process that holds a lab until it is killed.
#[test]
fn a_killed_lab_leaves_nothing() {
    const CHILD: &str = "SHUNT_LAB_TO_KILL";
    if std::env::var_os(CHILD).is_some() {
        let mut lab = Lab::build(Options::default()).unwrap();
        lab.add_pod("a", 1).unwrap();
        println!("\nid={}", lab.id());
        loop {
            std::thread::park();
        }
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_lab_leaves_nothing", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let id = lines
        .find_map(|line| line.unwrap().strip_prefix("id=").map(ToOwned::to_owned))
        .unwrap();
    assert!(
        remains(&id).len() >= 6,
        "the test does not see the lab: {:?}",
        remains(&id)
    );
    child.kill().unwrap();
    child.wait().unwrap();
    // The guardian inherited the killed process's output: it ends with the guardian.
    assert_eq!(lines.count(), 0);
    assert_eq!(remains(&id), Vec::<PathBuf>::new());
}
