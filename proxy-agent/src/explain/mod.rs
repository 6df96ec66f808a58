//! `shunt explain`: what becomes of a call, and why, decided by the rules of the data path themselves.
//!
//! [`World`] makes of a folder of manifests the maps that a node would have; [`decide`] runs the rules of
//! `proxy_common` over them, once for every backend that could be drawn; [`steps`] says it in words, with the reasons
//! that the model gives for its endpoints. Nothing here decides anything by itself.

mod answer;
mod concern;
mod decide;
mod difference;
mod node;
mod packet;
mod question;
mod running;
mod scene;
mod steps;
mod store;
mod words;
mod world;

pub use answer::{Answer, EndpointAnswer, Source, Step};
pub use decide::{ListName, Verdict};
pub use difference::difference;
pub use node::{Caller, NodeFacts};
pub use question::{Question, QuestionError};
pub use running::Running;
pub use store::Store;
pub use world::{Place, World, WorldError};

use crate::source::Refusal;

/// A manifest that could not be read, and that may hold the answer.
#[derive(Debug, thiserror::Error)]
#[error("{refusal}: this manifest may hold what was asked for ({mention}); correct it and ask again")]
pub struct Concerned {
    /// Why it was refused.
    pub refusal: Refusal,
    /// What of the question it mentions.
    pub mention: String,
}

/// What a node that holds this world does with a call.
///
/// # Errors
/// A manifest could not be read that the answer may depend on.
pub fn explain(world: &World, question: &Question) -> Result<Answer, Concerned> {
    let caller = steps::caller(world, question.from);
    let ruling = decide::ask(&world.scene, question, &caller);
    let answer = steps::answer(&world.scene, Some(world), question, &caller, &ruling);
    match concern::of(
        world,
        question,
        ruling.met.and_then(|met| world.port_at(&met.frontend)),
    ) {
        Some(concerned) => Err(concerned),
        None => Ok(answer),
    }
}

/// The kind of a frontend, as Services name it.
pub(crate) use words::kind as kind_name;

/// What a running node does with a call.
pub fn explain_running(running: &Running, question: &Question) -> Answer {
    let ruling = decide::ask(&running.scene, question, &running.caller);
    steps::answer(&running.scene, None, question, &running.caller, &ruling)
}

#[cfg(test)]
mod tests;
