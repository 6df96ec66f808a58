//! Scenarios by real sockets: the manifests before the agents of a lab, the calls from its pods, hosts and clients.
//!
//! The same files as `--test scenarios` decides on the host and in the kernel's test run; those of which sockets can show
//! what they say.

mod places;
mod verdict;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::options::SocketLb;
use lab::scenario::{File, Line, Step};
use lab::{Lab, Options};
use places::Places;

const SCENARIOS: [&str; 22] = [
    "a3-nobody-usable-anywhere",
    "a3-terminating-here-when-nobody-here-is-ready",
    "a3-terminating-when-nobody-is-ready",
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
    "a7-affinity-under-local",
    "a8-services-that-share-an-address",
    "a8-source-ranges",
    "a9-node-port",
    "a18-dual-stack",
    "e1-scaled-to-zero",
    "e11-a-rolling-update",
    "e31-hairpin-by-the-load-balancer",
    "e33-a-load-balancer-without-endpoints",
];

fn scenario(name: &str) -> Result<File> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/{name}.scenario"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(File::parse(&text)?)
}

/// Pods go by packets: at the system call nothing can be dropped.
fn start() -> Result<(Lab, Places)> {
    let mut lab = Lab::start(Options {
        socket_lb: SocketLb::HostOnly,
        ..Options::default()
    })?;
    let places = places::build(&mut lab)?;
    Ok((lab, places))
}

/// Gives a step's manifests to both agents.
fn change(lab: &Lab, places: &Places, step: &Step) -> Result<()> {
    for node in [1, 2] {
        let agent = lab.agent(node);
        for name in &step.removed {
            agent.delete(&format!("{name}.yaml"))?;
        }
        for section in &step.manifests {
            agent.apply(
                &format!("{}.yaml", section.name),
                &places.manifest(&section.text)?,
            )?;
        }
    }
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
    let (lab, places) = start()?;
    for name in SCENARIOS {
        run(&lab, &places, &scenario(name)?).with_context(|| name.to_owned())?;
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
