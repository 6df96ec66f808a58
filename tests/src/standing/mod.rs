//! A lab that keeps standing between commands: `cargo xtask lab`.

pub(crate) mod holder;

use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use self::holder::{Kind, Record};
use crate::address::{self, Pair};
use crate::manifest::Service;
use crate::options::Options;
use crate::{ECHO_PORT, Lab, Place, Pod, programs};

const LAB: Kind = Kind {
    name: "lab",
    file: "/run/shunt-lab.json",
    variable: "SHUNT_LAB_STATE",
};
/// The port at which the standing lab's Service answers.
const PORT: u16 = 80;
/// Its NodePort.
const NODE_PORT: u16 = 30080;
/// Its pods, and their nodes' numbers.
const PODS: [(&str, u8); 3] = [("a", 1), ("b", 1), ("c", 2)];

/// What is known of a standing lab.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    options: String,
    places: Vec<Standing>,
    manifests: Vec<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Standing {
    place: Place,
    address: Pair,
}

/// Starts a process that holds a lab, and waits until it stands.
pub fn up(options: &[String]) -> Result<()> {
    LAB.up(&programs::lab()?, options)?;
    status()
}

/// The holder's own main function: builds a lab and keeps it until it is told to end.
pub fn hold(options: Options) -> Result<()> {
    LAB.hold(|| start(options), |lab| (lab.id().to_owned(), state(lab)))
}

fn start(options: Options) -> Result<Lab> {
    let mut lab = Lab::start(options)?;
    for (name, node) in PODS {
        lab.add_pod(name, node)?;
    }
    let mut service = Service::new("hello", 1, PORT, ECHO_PORT)
        .node_port(NODE_PORT)
        .over(lab.pods());
    service.load_balancer = Some(address::LOAD_BALANCER);
    service.external = Some(address::EXTERNAL);
    lab.apply(&service)?;
    Ok(lab)
}

/// Ends the standing lab and waits until nothing of it is left.
pub fn down() -> Result<()> {
    LAB.down()
}

/// Tells what stands.
pub fn status() -> Result<()> {
    let Some(Record { id, state, .. }) = LAB.read::<State>()? else {
        println!("{}", LAB.nothing());
        return Ok(());
    };
    println!("lab {id} ({})", state.options);
    for Standing { place, address } in &state.places {
        println!(
            "  {:8} {:14} {:20} {}",
            place.name(),
            address.v4,
            address.v6,
            place.namespace().path().display()
        );
    }
    for folder in &state.manifests {
        println!("  manifests in {}", folder.display());
    }
    let Pair { v4, v6 } = address::LOAD_BALANCER;
    println!(
        "  Service hello: {v4}:{PORT}, [{v6}]:{PORT}, NodePort {NODE_PORT}, cluster {}",
        address::cluster(1).v4
    );
    println!("try: cargo xtask lab exec client -- curl --http0.9 --max-time 1 http://{v4}:{PORT}");
    Ok(())
}

/// Runs a program in a place of the standing lab.
pub fn exec(name: &str, command: &[String]) -> Result<ExitStatus> {
    let state = LAB.standing::<State>()?.state;
    let names: Vec<_> = state
        .places
        .iter()
        .map(|standing| standing.place.name())
        .collect();
    let place = state
        .places
        .iter()
        .map(|standing| &standing.place)
        .find(|place| place.name() == name);
    let place = place.with_context(|| format!("the lab has no {name}, but {}", names.join(", ")))?;
    let (program, arguments) = command.split_first().context("no command is given")?;
    place
        .spawn(place.command(program).args(arguments))?
        .wait()
        .with_context(|| format!("waiting for {program}"))
}

fn state(lab: &Lab) -> State {
    let pods = lab.pods().map(|Pod { place, address, .. }| Standing {
        place: place.clone(),
        address: *address,
    });
    let hosts = [1, 2].map(|node| Standing {
        place: lab.host(node).clone(),
        address: address::node(node),
    });
    let client = Standing {
        place: lab.client.clone(),
        address: address::CLIENT,
    };
    State {
        options: lab.options().to_string(),
        places: std::iter::once(client).chain(hosts).chain(pods).collect(),
        manifests: vec![lab.agent(1).manifests(), lab.agent(2).manifests()],
    }
}
