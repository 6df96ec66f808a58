//! A real Kubernetes with Shunt on its nodes: names resolved, and calls that do not fail while pods and API server come and go.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::cluster::{Cluster, Options, Proxy};

/// How long the cluster gets for what takes seconds on an idle machine.
const PATIENCE: &str = "--timeout=300s";
const SECONDS: u64 = 300;

/// One cluster for all tests, which take turns. Its guardian removes it after this process.
fn cluster() -> Result<MutexGuard<'static, Cluster>> {
    static CLUSTER: OnceLock<Result<Mutex<Cluster>, String>> = OnceLock::new();
    match CLUSTER.get_or_init(|| start().map(Mutex::new).map_err(|error| format!("{error:#}"))) {
        Ok(cluster) => Ok(cluster.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(error) => bail!("{error}"),
    }
}

fn start() -> Result<Cluster> {
    let cluster = Cluster::start(Options::of(Proxy::Shunt))?;
    cluster
        .control_plane()
        .apply(include_str!("cluster_services.yaml"))?;
    Ok(cluster)
}

trait Steps {
    fn kubectl(&self, arguments: &[&str]) -> Result<String>;

    /// Runs a shell's line in a pod, once it is ready.
    fn shell(&self, pod: &str, line: &str) -> Result<String> {
        self.kubectl(&["wait", "--for=condition=Ready", PATIENCE, &format!("pod/{pod}")])?;
        self.kubectl(&["exec", pod, "--", "sh", "-c", line])
    }

    fn scale(&self, replicas: u32) -> Result<()> {
        self.kubectl(&["scale", "deployment/server", &format!("--replicas={replicas}")])?;
        self.kubectl(&["rollout", "status", "deployment/server", PATIENCE])
            .map(drop)
    }

    /// Who answers the client now, in this many calls.
    fn answers(&self, calls: u32) -> Result<BTreeSet<String>> {
        let line = format!(
            "for call in $(seq {calls}); do curl --silent --max-time 5 http://server/hostname; echo; done"
        );
        let said = self.shell("client", &line)?;
        Ok(said.split_whitespace().map(ToOwned::to_owned).collect())
    }

    /// Waits until exactly this many pods answer.
    fn wait_for_answers_of(&self, pods: usize) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(SECONDS);
        loop {
            let answers = self.answers(pods as u32 * 8)?;
            if answers.len() == pods {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "not {pods} pods answer, but {answers:?}"
            );
        }
    }
}

impl Steps for Cluster {
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.control_plane().kubectl(arguments)
    }
}

/// Calls the Service from the pod `client` until it is ended; each call's outcome is a line.
struct Load;

impl Load {
    fn start(cluster: &Cluster) -> Result<Self> {
        let one = "curl --silent --output /dev/null --max-time 10 --write-out '%{http_code} %{errormsg}\\n' http://server/hostname";
        let line = format!(
            "rm -f /tmp/end /tmp/ended; (while [ ! -e /tmp/end ]; do {one}; done > /tmp/calls; touch /tmp/ended) > /dev/null 2>&1 &"
        );
        cluster.shell("client", &line)?;
        Ok(Self)
    }

    /// How many calls there were; one that failed is an error.
    fn end(self, cluster: &Cluster) -> Result<usize> {
        let line = "touch /tmp/end; while [ ! -e /tmp/ended ]; do sleep 0.1; done; sort /tmp/calls | uniq -c";
        let said = cluster.shell("client", line)?;
        let lines: Vec<_> = said.lines().map(str::trim).collect();
        ensure!(
            lines.len() == 1 && lines[0].ends_with(" 200"),
            "calls failed: {said}"
        );
        let count = lines[0].split(' ').next().context("no call was counted")?;
        count.parse().context("reading the count of calls")
    }
}

#[test]
fn pods_are_in_groups_of_version_two_below_their_nodes() {
    let cluster = cluster().unwrap();
    let uid = cluster
        .kubectl(&["get", "pod", "client", "--output=jsonpath={.metadata.uid}"])
        .unwrap();
    cluster.shell("client", "true").unwrap();
    let id = cluster.control_plane().id();
    let pods = Path::new("/sys/fs/cgroup/unified").join(id).join("n1/kubepods");
    let group = find(&pods, &format!("pod{uid}")).expect("the pod has no group of version 2");
    let mut processes = Vec::new();
    for container in std::fs::read_dir(&group).unwrap().flatten() {
        let text = std::fs::read_to_string(container.path().join("cgroup.procs")).unwrap_or_default();
        processes.extend(text.split_whitespace().map(ToOwned::to_owned));
    }
    assert!(
        processes.len() >= 2,
        "the sandbox and the container have processes: {processes:?}"
    );
    for process in processes {
        let own = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
        let unified = own.lines().find(|line| line.starts_with("0::")).unwrap();
        assert!(
            unified.starts_with(&format!("0::/{id}/n1/kubepods/")),
            "{unified}"
        );
    }
}

fn find(directory: &Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(directory).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if entry.file_name() == name {
            return Some(path);
        }
        path.is_dir().then(|| find(&path, name)).flatten()
    })
}

#[test]
fn names_are_resolved_through_the_cluster_address_from_pods_and_hosts_over_udp_and_tcp() {
    let cluster = cluster().unwrap();
    for (pod, protocol) in [
        ("client", "+notcp"),
        ("client", "+tcp"),
        ("host", "+notcp"),
        ("host", "+tcp"),
    ] {
        let line = format!("dig {protocol} +short +tries=5 @10.96.0.10 kubernetes.default.svc.cluster.local");
        let answer = cluster.shell(pod, &line).unwrap();
        assert_eq!(answer.trim(), "10.96.0.1", "{pod} {protocol}");
    }
}

#[test]
fn no_call_fails_while_a_deployment_is_scaled_up_and_down() {
    let cluster = cluster().unwrap();
    cluster.scale(1).unwrap();
    cluster.wait_for_answers_of(1).unwrap();
    let load = Load::start(&cluster).unwrap();
    cluster.scale(20).unwrap();
    cluster.wait_for_answers_of(20).unwrap();
    cluster.scale(1).unwrap();
    cluster.wait_for_answers_of(1).unwrap();
    let calls = load.end(&cluster).unwrap();
    assert!(calls > 100, "only {calls} calls were made");
}

#[test]
fn no_call_fails_while_a_deployment_is_rolled_over() {
    let cluster = cluster().unwrap();
    cluster.scale(4).unwrap();
    cluster.wait_for_answers_of(4).unwrap();
    let before = cluster.answers(64).unwrap();
    let load = Load::start(&cluster).unwrap();
    cluster
        .kubectl(&["rollout", "restart", "deployment/server"])
        .unwrap();
    cluster
        .kubectl(&["rollout", "status", "deployment/server", PATIENCE])
        .unwrap();
    cluster.wait_for_answers_of(4).unwrap();
    let after = cluster.answers(64).unwrap();
    let calls = load.end(&cluster).unwrap();
    assert!(calls > 100, "only {calls} calls were made");
    assert!(before.is_disjoint(&after), "{before:?} and {after:?}");
}

#[test]
fn no_call_fails_without_the_api_server_and_changes_are_applied_after() {
    let mut cluster = cluster().unwrap();
    cluster.scale(1).unwrap();
    cluster.wait_for_answers_of(1).unwrap();
    let load = Load::start(&cluster).unwrap();
    cluster.control_plane_mut().stop_api().unwrap();
    // No event: what is waited for is that nothing happens while every watch is broken and tried again.
    std::thread::sleep(Duration::from_secs(20));
    cluster.control_plane_mut().start_api().unwrap();
    cluster.scale(3).unwrap();
    cluster.wait_for_answers_of(3).unwrap();
    let calls = load.end(&cluster).unwrap();
    assert!(calls > 100, "only {calls} calls were made");
}
