//! A cluster that keeps standing between commands: `cargo xtask cluster`.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::{Cluster, Options, images, modules};
use crate::place::Place;
use crate::standing::holder::{Kind, Record};
use crate::{Namespace, programs};

const CLUSTER: Kind = Kind {
    name: "cluster",
    file: "/run/shunt-cluster.json",
    variable: "SHUNT_CLUSTER_STATE",
};

/// What is known of a standing cluster.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    proxy: String,
    control: String,
    kubeconfig: PathBuf,
    nodes: Vec<Place>,
}

/// Builds every program and image that the cache does not have, with those that only some want if all are wanted.
pub fn build(all: bool) -> Result<()> {
    for program in modules::programs().filter(|program| all || !WANTED_BY_SOME.contains(program)) {
        super::binary(program)?;
    }
    images::archive().map(drop)
}

/// The suite's, and flannel's.
const WANTED_BY_SOME: [&str; 4] = ["ginkgo", "e2e.test", "flanneld", "flannel"];

/// Starts a process that holds a cluster, and waits until it stands.
pub fn up(options: Options) -> Result<()> {
    CLUSTER.must_not_stand()?;
    build(false)?;
    options.cni.build()?;
    let begin = Instant::now();
    CLUSTER.up(&programs::cluster()?, &options.arguments())?;
    println!("up in {:.0} s", begin.elapsed().as_secs_f64());
    status()
}

/// The holder's own main function: starts a cluster and keeps it until it is told to end.
pub fn hold(options: Options) -> Result<()> {
    CLUSTER.hold(
        || start(options),
        |cluster| (cluster.control_plane().id().to_owned(), state(cluster)),
    )
}

fn start(options: Options) -> Result<Cluster> {
    let mut cluster = Cluster::start(options)?;
    cluster.control_plane_mut().start_load_balancer(options.nodes)?;
    Ok(cluster)
}

/// Ends the standing cluster and waits until nothing of it is left.
pub fn down() -> Result<()> {
    CLUSTER.down()
}

/// Tells what stands.
pub fn status() -> Result<()> {
    let Some(Record { id, state, .. }) = CLUSTER.read::<State>()? else {
        println!("{}", CLUSTER.nothing());
        return Ok(());
    };
    println!(
        "cluster {id}: Kubernetes {}, Services by {}",
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
    CLUSTER.standing::<State>()?.state.client().run(arguments)
}

/// Runs a program on a node of the standing cluster.
pub fn exec(name: &str, command: &[String]) -> Result<ExitStatus> {
    let state = CLUSTER.standing::<State>()?.state;
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

fn state(cluster: &Cluster) -> State {
    let control = cluster.control_plane();
    State {
        proxy: cluster.options().proxy.to_string(),
        control: control.place().namespace().name().to_owned(),
        kubeconfig: control.kubeconfig().to_owned(),
        nodes: cluster.hosts().cloned().collect(),
    }
}
