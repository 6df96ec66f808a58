//! The agent with exactly the capabilities that the DaemonSet gives it, in a network namespace, cgroup and instance of
//! its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod place;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use place::Place;

/// The agent with these capabilities and no others, ended with the test.
fn agent(place: &Place, capabilities: &str) -> Child {
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--inh-caps=-all,{capabilities}"))
        .arg(format!("--bounding-set=-all,{capabilities}"))
        .arg(env!("CARGO_BIN_EXE_shunt"))
        .args(["agent", "--node-name", "here", "--manifests"])
        .arg(&place.manifests)
        .arg("--instance")
        .arg(&place.instance)
        .arg("--cgroup")
        .arg(&place.cgroup)
        .stderr(Stdio::piped())
        .process_group(0);
    command.spawn().expect("setpriv (util-linux) can't be run")
}

#[test]
fn three_capabilities_suffice() {
    let place = Place::enter("capable");
    let mut agent = agent(&place, "+bpf,+perfmon,+net_admin");
    let mut lines = BufReader::new(agent.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let mut log = Vec::new();
    let ready = lines.by_ref().any(|line| {
        log.push(line.clone());
        line.contains("ready")
    });
    kill(Pid::from_raw(agent.id() as i32), Signal::SIGTERM).unwrap();
    log.extend(lines);
    let status = agent.wait().unwrap();
    assert!(ready && status.success(), "{status}: {log:#?}");
    assert!(
        place.instance.join("v1/links/cgroup/connect4").exists(),
        "its programs stay"
    );
}

#[test]
fn a_missing_capability_is_named() {
    for (capabilities, missing) in [
        ("+bpf,+perfmon", "CAP_NET_ADMIN"),
        ("+perfmon,+net_admin", "CAP_BPF"),
        ("+bpf,+net_admin", "CAP_PERFMON"),
    ] {
        let place = Place::enter("incapable");
        let mut agent = agent(&place, capabilities);
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = agent.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                agent.kill().unwrap();
            }
            std::thread::yield_now();
        };
        let text = std::io::read_to_string(agent.stderr.take().unwrap()).unwrap();
        assert!(
            !status.success() && text.contains(missing),
            "{capabilities}: {status}: {text}"
        );
    }
}
