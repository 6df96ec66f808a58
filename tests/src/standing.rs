//! A lab that keeps standing between commands: `cargo xtask lab`.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::address::{self, Pair};
use crate::manifest::Service;
use crate::options::Options;
use crate::{ECHO_PORT, Lab, Place, Pod, programs};

/// The port at which the standing lab's Service answers.
const PORT: u16 = 80;
/// Its NodePort.
const NODE_PORT: u16 = 30080;
/// Its pods, and their nodes' numbers.
const PODS: [(&str, u8); 3] = [("a", 1), ("b", 1), ("c", 2)];

/// What is known of a standing lab.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    id: String,
    /// The process that holds it.
    process: i32,
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
    if let Some(state) = read()? {
        bail!(
            "the lab {} stands already: `cargo xtask lab down` first",
            state.id
        );
    }
    // The holder outlives this process: what it kept of its output, a reader of that would wait for.
    let log = std::env::temp_dir().join(format!("shunt-lab-{}.log", std::process::id()));
    let errors = std::fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let mut holder = Command::new(programs::lab()?)
        .arg("hold")
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .process_group(0)
        .spawn()
        .context("starting the lab's holder")?;
    let stdout = holder.stdout.take().context("the lab's holder says nothing")?;
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .context("reading from the lab's holder")?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    // Its file lives as long as the holder has it open.
    std::fs::remove_file(&log).with_context(|| format!("removing {}", log.display()))?;
    ensure!(line == STANDS, "the lab does not stand: {}", said.trim());
    status()
}

const STANDS: &str = "the lab stands\n";

/// The holder's own main function: builds a lab and keeps it until it is killed.
pub fn hold(options: Options) -> Result<()> {
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
    write(&state(&lab)?)?;
    print!("{STANDS}");
    std::io::stdout().flush().context("telling that the lab stands")?;
    loop {
        std::thread::park();
    }
}

/// Ends the standing lab and waits until nothing of it is left.
pub fn down() -> Result<()> {
    let state = read()?.context("no lab stands")?;
    match kill(Pid::from_raw(state.process), Signal::SIGKILL) {
        // Without its holder, the lab's guardian has cleaned already.
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(error) => return Err(error).context("ending the lab's holder"),
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let namespaces: Vec<_> = state
        .places
        .iter()
        .map(|standing| standing.place.namespace().path())
        .collect();
    while namespaces.iter().any(|path| path.exists()) {
        ensure!(
            Instant::now() < deadline,
            "the guardian of {} does not clean",
            state.id
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::remove_file(file()).with_context(|| format!("removing {}", file().display()))?;
    println!("the lab {} is gone", state.id);
    Ok(())
}

/// Tells what stands.
pub fn status() -> Result<()> {
    let Some(state) = read()? else {
        println!("no lab stands: `cargo xtask lab up`");
        return Ok(());
    };
    println!("lab {} ({})", state.id, state.options);
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
    let state = read()?.context("no lab stands: `cargo xtask lab up`")?;
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

fn state(lab: &Lab) -> Result<State> {
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
    Ok(State {
        id: lab.id().to_owned(),
        process: std::process::id().try_into().context("a process id")?,
        options: lab.options().to_string(),
        places: std::iter::once(client).chain(hosts).chain(pods).collect(),
        manifests: vec![lab.agent(1).manifests(), lab.agent(2).manifests()],
    })
}

/// Where a standing lab is written down; the variable lets a test have one of its own.
fn file() -> PathBuf {
    std::env::var_os("SHUNT_LAB_STATE").map_or_else(|| "/run/shunt-lab.json".into(), PathBuf::from)
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
    let text = serde_json::to_string_pretty(state).context("describing the lab")?;
    std::fs::write(file(), text).with_context(|| format!("writing {}", file().display()))
}
