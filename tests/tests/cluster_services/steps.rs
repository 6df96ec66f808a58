//! The cluster that all tests here share, and what they do with it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use lab::Place;
use lab::cluster::{Cluster, Options, Proxy};

/// How long the cluster gets for what takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// The cluster, and a client outside.
pub(crate) struct Standing {
    pub(crate) cluster: Cluster,
    pub(crate) outside: Place,
}

/// One for all tests, which take turns. Its guardian removes it after this process.
pub(crate) fn standing() -> Result<MutexGuard<'static, Standing>> {
    static STANDING: OnceLock<Result<Mutex<Standing>, String>> = OnceLock::new();
    match STANDING.get_or_init(|| start().map(Mutex::new).map_err(|error| format!("{error:#}"))) {
        Ok(standing) => Ok(standing.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(error) => bail!("{error}"),
    }
}

fn start() -> Result<Standing> {
    let cluster = Cluster::start(Options::of(Proxy::Shunt))?;
    let outside = cluster.control_plane().client_outside()?;
    let standing = Standing { cluster, outside };
    for manifests in [include_str!("server.yaml"), include_str!("ingress.yaml")] {
        standing.cluster.control_plane().apply(manifests)?;
    }
    Ok(standing)
}

impl Standing {
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.control_plane().kubectl(arguments)
    }

    /// What an object's path says.
    pub(crate) fn read(&self, object: &str, path: &str) -> Result<String> {
        self.kubectl(&["get", object, &format!("--output=jsonpath={{{path}}}")])
    }

    pub(crate) fn wait_ready(&self, pod: &str) -> Result<()> {
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        self.kubectl(&["wait", "--for=condition=Ready", &patience, &format!("pod/{pod}")])
            .map(drop)
    }

    /// Runs a shell's line in a pod, once it is ready.
    pub(crate) fn shell(&self, pod: &str, line: &str) -> Result<String> {
        self.wait_ready(pod)?;
        self.kubectl(&["exec", pod, "--", "sh", "-c", line])
    }

    pub(crate) fn roll_out(&self, deployment: &str) -> Result<()> {
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        self.kubectl(&["rollout", "status", deployment, &patience])
            .map(drop)
    }

    pub(crate) fn scale(&self, replicas: u32) -> Result<()> {
        self.kubectl(&["scale", "deployment/server", &format!("--replicas={replicas}")])?;
        self.roll_out("deployment/server")
    }

    /// Who answers the client now, in this many calls.
    pub(crate) fn answers(&self, calls: usize) -> Result<BTreeSet<String>> {
        let line = format!(
            "for call in $(seq {calls}); do curl --silent --max-time 5 http://server/hostname; echo; done"
        );
        let said = self.shell("client", &line)?;
        Ok(said.split_whitespace().map(ToOwned::to_owned).collect())
    }

    /// Waits until exactly this many pods answer.
    pub(crate) fn wait_for_answers_of(&self, pods: usize) -> Result<()> {
        wait_until(|| {
            let answers = self.answers(pods * 8)?;
            ensure!(answers.len() == pods, "not {pods} pods answer, but {answers:?}");
            Ok(())
        })
    }
}

/// Tries until it succeeds; the last error is told after a time that no idle machine needs.
pub(crate) fn wait_until(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
            Ok(()) => return Ok(()),
        }
    }
}
