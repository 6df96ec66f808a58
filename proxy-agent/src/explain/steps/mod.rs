//! The way of a call in words: what was met, who is in, what was decided.

mod caller;
mod choice;
mod end;
mod endpoints;
mod frontend;
mod way;

use proxy_common::layout::Counter;

use super::answer::{Answer, Step};
use super::decide::{ListName, Met, Ruling};
use super::node::Caller;
use super::scene::Scene;
use super::{Question, World, words};
use crate::model::{Reasons, Warning};
use crate::plan::ServicePort;
use crate::source::TrafficPolicy;

pub(super) use caller::caller;

/// The answer for a planned node, with its world, or for a running one.
pub(super) fn answer(
    scene: &Scene,
    world: Option<&World>,
    question: &Question,
    caller: &Caller,
    ruling: &Ruling,
) -> Answer {
    let met = ruling.met;
    let port = met.and_then(|met| world?.port_at(&met.frontend));
    let reasons = port.and_then(|port| world?.model.reasons(&port.key));
    let policy = met
        .zip(reasons.as_ref())
        .map(|(met, reasons)| policy_of(&met, reasons));
    let source = way::source_of(caller, ruling, policy);
    let endpoints = match (met, &reasons) {
        (Some(met), Some(reasons)) => endpoints::judged(&met, reasons),
        (Some(met), None) => endpoints::serving(scene, &met),
        (None, _) => Vec::new(),
    };
    let mut writer = Writer {
        scene,
        world,
        question,
        caller,
        ruling,
        steps: Vec::new(),
    };
    writer.node();
    writer.source_class();
    writer.local_pods();
    match met {
        Some(met) => {
            writer.frontend(&met);
            writer.guard(&met);
            writer.policy(&met, reasons.as_ref());
            match &reasons {
                Some(reasons) => writer.hints(&met, reasons),
                None => writer.hints_of_maps(&met),
            }
            writer.endpoints(&endpoints, reasons.as_ref());
            writer.choice(&met);
            writer.affinity(&met);
            writer.way(source, policy);
            writer.interfaces();
        }
        None => writer.nowhere(),
    }
    writer.verdict();
    let mut backends: Vec<String> = ruling.backends.keys().map(ToString::to_string).collect();
    backends.sort_unstable();
    Answer {
        verdict: ruling.verdict,
        backends,
        source,
        affinity: met.is_some_and(|met| met.affinity != 0),
        service: met.map(|met| scene.name_of(met.service)),
        kind: met.map(|met| words::kind(met.kind)),
        counter: ruling.counter.map(Counter::name),
        caller: caller.class(),
        list: met.map(|met| list_name(met.list)),
        affinity_seconds: met.map_or(0, |met| met.affinity),
        endpoints,
        steps: writer.steps,
        warnings: world.map(|world| warnings(world, port)).unwrap_or_default(),
        difference: None,
    }
}

fn list_name(list: ListName) -> &'static str {
    match list {
        ListName::Internal => "internal",
        ListName::External => "external",
        ListName::Shortcut => "shortcut",
    }
}

/// The policy by which the list was made.
fn policy_of(met: &Met, reasons: &Reasons) -> TrafficPolicy {
    match met.list {
        ListName::Internal => reasons.internal,
        ListName::External => reasons.external,
        ListName::Shortcut => TrafficPolicy::Cluster,
    }
}

/// What of the folder was refused, and what of this Service is not served as it is written.
fn warnings(world: &World, port: Option<&ServicePort>) -> Vec<String> {
    let refusals = world.refusals.iter().map(|refusal| format!("refused: {refusal}"));
    let service = port.map(|port| &port.key.service);
    let is_about = |warning: &&Warning| match warning {
        Warning::FrontendTaken { winner, loser, .. } => {
            service.is_some_and(|service| service == winner || service == loser)
        }
        other => other.service().is_none() || other.service() == service,
    };
    let others = world.warnings.iter().filter(is_about).map(ToString::to_string);
    let failed = world.failed.iter().map(ToString::to_string);
    let mut warnings: Vec<String> = refusals.chain(others).chain(failed).collect();
    warnings.sort_unstable();
    warnings.dedup();
    warnings
}

fn join(texts: impl IntoIterator<Item = String>) -> String {
    texts.into_iter().collect::<Vec<_>>().join(", ")
}

struct Writer<'a> {
    scene: &'a Scene,
    world: Option<&'a World>,
    question: &'a Question,
    caller: &'a Caller,
    ruling: &'a Ruling,
    steps: Vec<Step>,
}

impl Writer<'_> {
    fn say(&mut self, topic: &'static str, text: impl Into<String>) {
        self.steps.push(Step {
            topic,
            text: text.into(),
        });
    }
}
