//! The agent itself beside a control plane: what it tells of its source, and of Services that find no room.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::cluster::{ControlPlane, Controllers};
use lab::{Place, programs};
use proxy_agent::datapath::MapSizes;

use super::events::events;
use super::gate::Gate;
use super::plane::{apply, namespace, service, slice};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// More than its map has room for, and may grow to.
const RANGES: u16 = 5000;

/// Memory that all maps take, and hardly more: they may not grow.
fn memory() -> String {
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    let sizes = MapSizes::for_budget(32 << 20, cpus);
    (sizes.bytes(cpus) + (64 << 10)).to_string()
}

/// It ends when it is dropped; the guardian of the control plane removes what it made.
struct Agent {
    child: Child,
    host: Place,
    log: PathBuf,
}

impl Agent {
    /// Reaches the API through a gate on the loopback of its host.
    fn start(plane: &ControlPlane, host: &Place, gate: &Gate) -> Self {
        let log = plane.folder().join("agent.log");
        let mut command = host.command(programs::shunt().unwrap());
        command
            .args(["agent", "--node-name", "beside", "--master"])
            .arg(gate.master().to_string())
            .arg("--kubeconfig")
            .arg(plane.kubeconfig())
            .arg("--instance")
            .arg(format!("/sys/fs/bpf/{}-beside", plane.id()))
            .arg("--cgroup")
            .arg(host.cgroup())
            .args(["--map-memory", &memory(), "--map-memory-limit", &memory()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap());
        Self {
            child: host.spawn(&mut command).unwrap(),
            host: host.clone(),
            log,
        }
    }

    /// The value of a metric; none: there is no such line.
    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.host.namespace().run(scrape).ok()?;
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.parse().ok()
    }

    fn wait(&self, name: &str, is_good: impl Fn(f64) -> bool) -> f64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(name);
            if let Some(value) = value.filter(|value| is_good(*value)) {
                return value;
            }
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("{name} is {value:?}; the log:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn scrape() -> Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:10249").context("connecting")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn of(metric: &str, resource: &str) -> String {
    format!("shunt_source_{metric}{{resource=\"{resource}\"}}")
}

#[test]
fn the_agent_tells_how_its_source_does_and_which_service_finds_no_room() {
    let plane = ControlPlane::start(Controllers::None).unwrap();
    let host = plane.host_beside().unwrap();
    let gate = Gate::open_from(&plane, host.namespace());
    namespace(&plane, "told");
    apply(
        &plane,
        &(service("told", "a", "") + &slice("told", "a", "a-1", &["10.244.1.1"])),
    );
    let agent = Agent::start(&plane, &host, &gate);
    tells_how_its_source_does(&plane, &gate, &agent);
    tells_which_service_finds_no_room(&plane, &agent);
}

fn tells_how_its_source_does(plane: &ControlPlane, gate: &Gate, agent: &Agent) {
    agent.wait("shunt_source_synced", |synced| synced == 1.0);
    let server = format!("shunt_source_server_info{{server=\"{}\"}}", gate.master());
    assert_eq!(agent.metric(&server), Some(1.0), "{server}");
    assert_eq!(agent.metric(&of("lists_total", "services")), Some(1.0));
    let event = of("last_event_timestamp_seconds", "endpointslices");
    let first = agent.wait(&event, |at| at > 1.7e9);
    // There is no Node of its name.
    assert_eq!(agent.metric(&of("last_event_timestamp_seconds", "nodes")), None);
    assert_eq!(agent.metric("shunt_source_outages_total"), Some(0.0));

    gate.shut();
    agent.wait("shunt_source_outages_total", |outages| outages == 1.0);
    assert!(agent.metric(&of("broken_seconds", "endpointslices")) > Some(0.0));
    assert!(agent.metric(&of("failures_total", "endpointslices")) > Some(0.0));
    assert_eq!(
        agent.metric("shunt_source_synced"),
        Some(1.0),
        "what it has stands"
    );
    apply(plane, &slice("told", "a", "a-1", &["10.244.1.2"]));
    gate.reopen();
    agent.wait(&event, |at| at > first);
    agent.wait(&of("broken_seconds", "endpointslices"), |seconds| seconds == 0.0);
    assert_eq!(agent.metric("shunt_source_outages_total"), Some(1.0));
}

fn tells_which_service_finds_no_room(plane: &ControlPlane, agent: &Agent) {
    agent.wait("shunt_failed_services", |failed| failed == 0.0);
    let guarded = |ranges: u16| {
        let ranges: Vec<_> = (0..ranges)
            .map(|number| format!("10.{}.{}.0/24", number >> 8, number & 0xff))
            .collect();
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: told, name: guarded}}\n\
             spec: {{type: LoadBalancer, ports: [{{port: 80}}], loadBalancerSourceRanges: [{}]}}\n",
            ranges.join(", ")
        )
    };
    apply(plane, &guarded(RANGES));
    plane
        .kubectl(&[
            "patch",
            "service",
            "guarded",
            "--namespace=told",
            "--subresource=status",
            "--type=merge",
            "--patch={\"status\": {\"loadBalancer\": {\"ingress\": [{\"ip\": \"192.0.2.10\"}]}}}",
        ])
        .unwrap();
    agent.wait("shunt_failed_services", |failed| failed == 1.0);
    let deadline = Instant::now() + PATIENCE;
    while events(plane, "told", "NoRoom").is_empty() {
        assert!(Instant::now() < deadline, "no event");
        std::thread::sleep(Duration::from_millis(100));
    }
    // People see it where they look.
    let described = plane
        .kubectl(&["describe", "service", "guarded", "--namespace=told"])
        .unwrap();
    assert!(
        described.contains("NoRoom")
            && described.contains("the map SOURCE_RANGES4 has no room")
            && described.contains("--map-memory-limit allows"),
        "{described}"
    );
    apply(plane, &guarded(10));
    agent.wait("shunt_failed_services", |failed| failed == 0.0);
}
