//! The same calls through the programs, by the kernel's test run.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proxy_agent::explain::{Answer, Question, Source, Verdict, World};
use proxy_common::layout::{V4, V6};

use crate::packet::Kin;
use crate::packet::ask::{Opener, Outcomes, ask};
use crate::packet::stage::Stage;

/// Whether the programs do with each call of a node what the answer says; the first that they treat otherwise is the error.
pub fn agree(world: &World, calls: impl IntoIterator<Item = (Question, Answer)>) -> Result<(), String> {
    let calls = calls.into_iter();
    let (four, six): (Vec<_>, Vec<_>) = calls.partition(|(question, _)| question.to.is_ipv4());
    family::<V4>(world, &four)?;
    family::<V6>(world, &six)
}

fn family<A: Kin>(world: &World, calls: &[(Question, Answer)]) -> Result<(), String> {
    if calls.is_empty() {
        return Ok(());
    }
    // One object after the other, in one order: every test needs both.
    let mut sockets = Stage::<A>::testing(&[]);
    install(world, &mut sockets);
    let mut stage = Stage::<A>::new(&[]);
    install(world, &mut stage);
    for (question, answer) in calls {
        let outcomes = call(&mut stage, &sockets, question, answer);
        if let Some(problem) = problem(question, answer, &outcomes) {
            return Err(format!(
                "{question:?}: {problem}: {answer:?}, and the programs gave {outcomes:?}"
            ));
        }
    }
    Ok(())
}

fn install<A: Kin>(world: &World, stage: &mut Stage<A>) {
    stage.kernel.reset();
    stage.host = world.node(stage.host.config);
    stage.install();
}

fn call<A: Kin>(stage: &mut Stage<A>, sockets: &Stage<A>, question: &Question, answer: &Answer) -> Outcomes {
    let opener = match answer.caller {
        "host" => Opener::Host,
        "pod" => Opener::Pod,
        _ => Opener::Outside,
    };
    let address = |address: IpAddr| A::from_mapped(address.into());
    let to = (address(question.to.ip()), question.to.port());
    ask(
        stage,
        sockets,
        opener,
        address(question.from),
        to,
        question.protocol,
    )
}

/// What the programs did otherwise.
fn problem(question: &Question, answer: &Answer, outcomes: &Outcomes) -> Option<&'static str> {
    let Outcomes {
        passed,
        rejected,
        dropped,
        forwarded,
    } = outcomes;
    let only = |wanted: usize, others: [usize; 3]| wanted > 0 && others == [0; 3];
    let is_verdict = match answer.verdict {
        Verdict::Forward => *passed + *rejected + *dropped == 0,
        Verdict::Reject => only(*rejected, [*passed, *dropped, forwarded.len()]),
        Verdict::Drop => only(*dropped, [*passed, *rejected, forwarded.len()]),
        Verdict::NotAService => only(*passed, [*rejected, *dropped, forwarded.len()]),
    };
    if !is_verdict {
        return Some("another verdict");
    }
    let expected: BTreeSet<SocketAddr> = answer
        .backends
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    let found: BTreeSet<SocketAddr> = forwarded.keys().copied().collect();
    // Who keeps its backend may get the same one every time.
    let is_same = if answer.affinity {
        found.is_subset(&expected)
    } else {
        found == expected
    };
    if !is_same {
        return Some("other backends");
    }
    let is_local = |backend: &SocketAddr| {
        let mut endpoints = answer.endpoints.iter();
        endpoints.any(|entry| entry.endpoint == *backend && entry.node.as_deref() == Some("here"))
    };
    let is_wrong = |(backend, is_masqueraded): (&SocketAddr, &bool)| {
        let is_hairpin = answer.caller == "pod" && backend.ip() == question.from;
        let expected = match answer.source {
            Source::Kept => is_hairpin,
            Source::Masqueraded => true,
            Source::MasqueradedToRemote => !is_local(backend),
        };
        expected != *is_masqueraded
    };
    forwarded.iter().any(is_wrong).then_some("another source")
}
