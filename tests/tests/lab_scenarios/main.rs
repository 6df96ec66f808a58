//! Scenarios by real sockets: the manifests before the agents of a lab, the calls from its pods, hosts and clients.
//!
//! The same files as `--test scenarios` decides on the host and in the kernel's test run; those of which sockets can show
//! what they say.

mod places;
mod verdict;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use lab::events::Event;
use lab::options::SocketLb;
use lab::scenario::{File, Line, Step};
use lab::{Lab, Options};
use places::Places;

const SCENARIOS: [&str; 55] = [
    "a2-conditions-not-given",
    "a2-one-address-twice",
    "a3-hints-leave-the-local-list-alone",
    "a3-hints-that-do-not-hold",
    "a3-node-hints",
    "a3-nobody-usable-anywhere",
    "a3-terminating-here-when-nobody-here-is-ready",
    "a3-terminating-when-nobody-is-ready",
    "a3-the-last-resort-knows-no-topology",
    "a3-the-services-own-words-on-topology",
    "a3-the-zone-changes",
    "a3-zone-hints",
    "a3-zones-where-no-node-hint-is-for-this-node",
    "a4-cluster-ip",
    "a4-external-cluster",
    "a4-external-local",
    "a4-hairpin",
    "a4-internal-local",
    "a4-one-policy-leaves-the-other-alone",
    "a5-no-endpoint-rejects",
    "a5-no-local-endpoint-drops",
    "a7-affinity",
    "a7-affinity-ends-with-its-endpoint",
    "a7-affinity-of-datagrams",
    "a7-affinity-under-local",
    "a8-a-class-of-load-balancers",
    "a8-an-address-under-two-names",
    "a8-ranges-of-one-family",
    "a8-ranges-of-the-other-family-alone",
    "a8-services-that-share-an-address",
    "a8-source-ranges",
    "a8-two-claim-one-address",
    "a8-without-node-ports",
    "a9-all",
    "a9-an-address-before-a-node-port",
    "a9-localhost",
    "a9-networks-of-one-family",
    "a9-node-port",
    "a9-primary",
    "a18-changes-in-place",
    "a18-dual-stack",
    "e1-scaled-to-zero",
    "e6-a-call-before-its-service",
    "e10-node-ports-at-loopback",
    "e11-a-rolling-update",
    "e12-affinity-to-a-broken-endpoint",
    "e19-an-endpoint-leaves-one-of-two-services",
    "e28-one-backend-behind-many-addresses",
    "e29-health-checks-say-who-is-ready",
    "e31-a-load-balancer-with-a-name-alone",
    "e31-hairpin-by-the-load-balancer",
    "e32-a-node-with-several-addresses",
    "e33-a-load-balancer-without-endpoints",
    "e33-silent-without-endpoints",
    "e36-topology-by-port-and-family",
];

/// Where NodePorts answer if nothing is said.
const EVERYWHERE: &str = "all";
/// The section that is this node's own, and the file in which the lab has the Nodes.
const NODE: (&str, &str) = ("node", "nodes.yaml");
/// The Node of scenarios that have none.
const USUAL_NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: here, labels: {topology.kubernetes.io/zone: z1}}
status: {addresses: [{type: InternalIP, address: 10.1.0.1}, {type: InternalIP, address: 'fd01::1'}]}
";

fn scenario(name: &str) -> Result<File> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/{name}.scenario"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(File::parse(&text)?)
}

/// Pods go by packets: at the system call nothing can be dropped.
fn start() -> Result<(Lab, Places)> {
    let mut lab = Lab::build(Options {
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    })?;
    lab.agent_mut(1).write_config("nodePortAddresses: []\n")?;
    lab.start_agents()?;
    let places = places::build(&mut lab)?;
    Ok((lab, places))
}

/// Gives a step's manifests to both agents.
fn change(lab: &Lab, places: &Places, step: &Step) -> Result<()> {
    for node in [1, 2] {
        let agent = lab.agent(node);
        for name in step.removed.iter().filter(|name| *name != NODE.0) {
            agent.delete(&format!("{name}.yaml"))?;
        }
        if step.removed.iter().any(|name| name == NODE.0) {
            agent.apply(NODE.1, &places.manifest(USUAL_NODE)?)?;
        }
        for section in &step.manifests {
            let file = match &*section.name {
                name if name == NODE.0 => NODE.1.to_owned(),
                name => format!("{name}.yaml"),
            };
            agent.apply(&file, &places.manifest(&section.text)?)?;
        }
    }
    Ok(())
}

/// Lets NodePorts answer where the agent's flags of a scenario say, which are nothing else here; without any everywhere.
fn choose_node_ports(lab: &mut Lab, places: &Places, flags: &[String], before: &mut String) -> Result<()> {
    let chosen = match flags {
        [] => EVERYWHERE.to_owned(),
        [flag] => {
            let list = flag.strip_prefix("--nodeport-addresses ");
            places.networks(list.with_context(|| format!("the lab's agents can't be given {flag}"))?)?
        }
        flags => bail!("the lab's agents can't be given {flags:?}"),
    };
    if chosen == *before {
        return Ok(());
    }
    let mark = lab.agent(1).mark();
    lab.agent_mut(1)
        .write_config(&format!("nodePortAddresses: [{chosen}]\n"))?;
    let what = format!("NodePorts to answer at {chosen}");
    let matches = |event: &Event| event.message() == "NodePorts answer at other addresses";
    lab.agent(1).events()?.wait(mark, &what, matches)?;
    *before = chosen;
    Ok(())
}

fn check(lab: &Lab, places: &Places, line: &Line) -> Result<bool> {
    let Some(call) = verdict::call(lab, places, line) else {
        return Ok(false);
    };
    call.check().with_context(|| line.to_string())?;
    Ok(true)
}

#[test]
fn calls_come_to_what_scenarios_say() -> Result<()> {
    let (mut lab, places) = start()?;
    let nodes = Step {
        removed: vec![NODE.0.to_owned()],
        ..Step::default()
    };
    change(&lab, &places, &nodes)?;
    let mut node_ports = EVERYWHERE.to_owned();
    for name in SCENARIOS {
        let file = scenario(name)?;
        choose_node_ports(&mut lab, &places, &file.agent, &mut node_ports)
            .and_then(|()| run(&lab, &places, &file))
            .with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// From the first step to the last, and all of it away again.
fn run(lab: &Lab, places: &Places, file: &File) -> Result<()> {
    let (mut made, mut left) = (0, Vec::new());
    let mut standing = std::collections::BTreeSet::new();
    for (number, step) in (1..).zip(&file.steps) {
        change(lab, places, step)?;
        standing.extend(step.manifests.iter().map(|section| section.name.clone()));
        standing.retain(|name| !step.removed.contains(name));
        for line in &step.calls {
            if check(lab, places, line).with_context(|| format!("step {number}"))? {
                made += 1;
            } else {
                left.push(line.to_string());
            }
        }
    }
    let removed = Step {
        removed: standing.into_iter().collect(),
        ..Step::default()
    };
    change(lab, places, &removed)?;
    ensure!(made > left.len(), "most calls can't be made here: {left:?}");
    Ok(())
}

/// Each kind of answer is told from each other.
#[test]
fn a_wrong_answer_is_noticed() -> Result<()> {
    let (lab, places) = start()?;
    for (name, wrong) in [
        (
            "a4-external-local",
            &[
                "10.1.0.32 -> 10.97.0.1:80/TCP = reject",
                "10.1.0.32 -> 10.97.0.1:80/TCP = drop",
                "10.1.0.32 -> 10.97.0.1:80/TCP = forward 10.5.0.1:8080 kept",
                "10.1.0.32 -> 10.97.0.1:80/TCP = forward 10.4.0.1:8080,10.5.0.1:8080 kept",
                "10.1.0.32 -> 10.97.0.1:80/TCP = forward 10.4.0.1:8080 masqueraded",
                "10.1.0.32 -> 10.97.0.1:80/TCP = forward 10.4.0.1:5353 kept",
                "10.4.0.9 -> 10.97.0.1:53/UDP = forward 10.4.0.1:5353 kept",
                "10.4.0.9 -> 10.97.0.1:53/UDP = forward 10.4.0.1:5353,10.5.0.1:5353 kept affinity",
            ][..],
        ),
        (
            "a5-no-local-endpoint-drops",
            &[
                "10.1.0.32 -> 10.97.0.1:80/TCP = reject",
                "10.1.0.32 -> 10.97.0.1:80/TCP = forward 10.5.0.1:8080 kept",
            ],
        ),
        (
            "a9-node-port",
            &[
                "10.1.0.32 -> 10.1.0.1:30080/TCP = not-a-service",
                "127.0.0.1 -> 127.0.0.1:30080/TCP = not-a-service",
            ],
        ),
        (
            "e33-a-load-balancer-without-endpoints",
            &[
                "10.1.0.32 -> 10.97.0.1:53/UDP = drop",
                "10.1.0.32 -> 10.97.0.1:53/UDP = forward 10.4.0.1:5353 kept",
            ],
        ),
    ] {
        let file = scenario(name)?;
        change(&lab, &places, &file.steps[0])?;
        for text in wrong {
            let line: Line = text.parse()?;
            let found = check(&lab, &places, &line);
            ensure!(found.is_err(), "{name}: {text} is taken for true");
        }
    }
    Ok(())
}
