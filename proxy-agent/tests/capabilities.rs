//! The agent with exactly the capabilities that the DaemonSet gives it, in a network namespace, cgroup and instance of
//! its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::Pid;

struct Place {
    instance: PathBuf,
    cgroup: PathBuf,
    manifests: PathBuf,
}

impl Place {
    /// Puts the calling thread into a network namespace of its own; its children are born there.
    fn enter(name: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs CAP_SYS_ADMIN");
        let bpffs = Path::new("/sys/fs/bpf");
        if statfs(bpffs).unwrap().filesystem_type() != BPF_FS_MAGIC {
            mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let cgroups = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = cgroups
            .filter(|fields| fields[2] == "cgroup2")
            .map(|fields| fields[1].to_owned())
            .next();
        let name = format!("shunt-{name}-{}", std::process::id());
        let place = Self {
            instance: bpffs.join(&name),
            cgroup: Path::new(&root.expect("no cgroup v2 hierarchy is mounted")).join(&name),
            manifests: std::env::temp_dir().join(&name),
        };
        std::fs::create_dir(&place.cgroup).unwrap();
        std::fs::create_dir(&place.manifests).unwrap();
        place
    }

    /// The agent with these capabilities and no others, ended with the test.
    fn agent(&self, capabilities: &str) -> Child {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--inh-caps=-all,{capabilities}"))
            .arg(format!("--bounding-set=-all,{capabilities}"))
            .arg(env!("CARGO_BIN_EXE_shunt"))
            .args(["agent", "--node-name", "here", "--manifests"])
            .arg(&self.manifests)
            .arg("--instance")
            .arg(&self.instance)
            .arg("--cgroup")
            .arg(&self.cgroup)
            .stderr(Stdio::piped())
            .process_group(0);
        command.spawn().expect("setpriv (util-linux) can't be run")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let cleanup = Command::new(env!("CARGO_BIN_EXE_shunt"))
            .arg("cleanup")
            .arg("--instance")
            .arg(&self.instance)
            .status();
        drop(cleanup);
        drop(std::fs::remove_dir_all(&self.instance));
        drop(std::fs::remove_dir(&self.cgroup));
        drop(std::fs::remove_dir(&self.manifests));
    }
}

#[test]
fn three_capabilities_suffice() {
    let place = Place::enter("capable");
    let mut agent = place.agent("+bpf,+perfmon,+net_admin");
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
        let mut agent = place.agent(capabilities);
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
