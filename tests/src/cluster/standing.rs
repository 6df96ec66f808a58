//! A cluster that keeps standing between commands: `cargo xtask cluster`.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::{Cluster, Options, images, modules};
use crate::place::Place;
use crate::{Namespace, clean, programs};

/// What is known of a standing cluster.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    id: String,
    /// The process that holds it.
    process: i32,
    proxy: String,
    control: String,
    kubeconfig: PathBuf,
    nodes: Vec<Place>,
}

/// Builds every program and image that the cache does not have, with the suite's if it is wanted.
pub fn build(suite: bool) -> Result<()> {
    for program in modules::programs().filter(|program| suite || !SUITE.contains(program)) {
        super::binary(program)?;
    }
    images::archive().map(drop)
}

/// What a cluster does without.
const SUITE: [&str; 2] = ["ginkgo", "e2e.test"];

/// Starts a process that holds a cluster, and waits until it stands.
pub fn up(options: Options) -> Result<()> {
    if let Some(state) = read()? {
        bail!(
            "the cluster {} stands already: `cargo xtask cluster down` first",
            state.id
        );
    }
    build(false)?;
    let begin = Instant::now();
    let log = std::env::temp_dir().join(format!("shunt-cluster-{}.log", std::process::id()));
    let errors = std::fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let mut holder = Command::new(programs::cluster()?)
        .arg("hold")
        .args(options.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .process_group(0)
        .spawn()
        .context("starting the cluster's holder")?;
    let stdout = holder
        .stdout
        .take()
        .context("the cluster's holder says nothing")?;
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .context("reading from the cluster's holder")?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    // Its file lives as long as the holder has it open.
    std::fs::remove_file(&log).with_context(|| format!("removing {}", log.display()))?;
    ensure!(line == STANDS, "the cluster does not stand: {}", said.trim());
    println!("up in {:.0} s", begin.elapsed().as_secs_f64());
    status()
}

const STANDS: &str = "the cluster stands\n";

/// The holder's own main function: starts a cluster and keeps it until it is killed.
pub fn hold(options: Options) -> Result<()> {
    let cluster = Cluster::start(options)?;
    write(&state(&cluster)?)?;
    print!("{STANDS}");
    std::io::stdout()
        .flush()
        .context("telling that the cluster stands")?;
    loop {
        std::thread::park();
    }
}

/// Ends the standing cluster and waits until nothing of it is left.
pub fn down() -> Result<()> {
    let state = read()?.context("no cluster stands")?;
    match kill(Pid::from_raw(state.process), Signal::SIGKILL) {
        // Without its holder, the cluster's guardian has cleaned already.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(error).context("ending the cluster's holder"),
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    // The guardian removes the folder last.
    while clean::folder(&state.id).exists() {
        ensure!(
            Instant::now() < deadline,
            "the guardian of {} does not clean",
            state.id
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::remove_file(file()).with_context(|| format!("removing {}", file().display()))?;
    println!("the cluster {} is gone", state.id);
    Ok(())
}

/// Tells what stands.
pub fn status() -> Result<()> {
    let Some(state) = read()? else {
        println!("no cluster stands: `cargo xtask cluster up`");
        return Ok(());
    };
    println!(
        "cluster {}: Kubernetes {}, Services by {}",
        state.id,
        super::binaries::kubernetes_version()?,
        state.proxy
    );
    println!(
        "  kubeconfig {}, in the namespace {}",
        state.kubeconfig.display(),
        state.control
    );
    let wide = ["get", "nodes,pods", "--all-namespaces", "--output=wide"];
    print!("{}", state.client().output(&wide, "")?);
    println!("try: cargo xtask cluster kubectl get services --all-namespaces");
    println!("     cargo xtask cluster exec n1 -- curl --insecure https://10.96.0.1/version");
    Ok(())
}

/// Runs kubectl.
pub fn kubectl(arguments: &[String]) -> Result<ExitStatus> {
    standing()?.client().run(arguments)
}

/// Runs a program on a node of the standing cluster.
pub fn exec(name: &str, command: &[String]) -> Result<ExitStatus> {
    let state = standing()?;
    let node = state.nodes.iter().find(|node| node.name() == name);
    let node = node.with_context(|| format!("the cluster has no node {name}"))?;
    let (program, arguments) = command.split_first().context("no command is given")?;
    node.spawn(node.command(program).args(arguments))?
        .wait()
        .with_context(|| format!("waiting for {program}"))
}

impl State {
    fn client(&self) -> Client {
        Client {
            namespace: Namespace::existing(&self.control),
            kubeconfig: self.kubeconfig.clone(),
        }
    }
}

fn standing() -> Result<State> {
    read()?.context("no cluster stands: `cargo xtask cluster up`")
}

fn state(cluster: &Cluster) -> Result<State> {
    let control = cluster.control_plane();
    Ok(State {
        id: control.id().to_owned(),
        process: std::process::id().try_into().context("a process id")?,
        proxy: cluster.options().proxy.to_string(),
        control: control.place().namespace().name().to_owned(),
        kubeconfig: control.kubeconfig().to_owned(),
        nodes: cluster.hosts().cloned().collect(),
    })
}

/// Where a standing cluster is written down; the variable lets a test have one of its own.
fn file() -> PathBuf {
    std::env::var_os("SHUNT_CLUSTER_STATE").map_or_else(|| "/run/shunt-cluster.json".into(), PathBuf::from)
}

fn read() -> Result<Option<State>> {
    match std::fs::read_to_string(file()) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("reading {}", file().display()))
            .map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", file().display())),
    }
}

fn write(state: &State) -> Result<()> {
    let text = serde_json::to_string_pretty(state).context("describing the cluster")?;
    std::fs::write(file(), text).with_context(|| format!("writing {}", file().display()))
}
