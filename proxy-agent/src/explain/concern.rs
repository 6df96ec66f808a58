//! Whether a manifest that could not be read may hold what was asked for.

use std::net::IpAddr;

use super::{Concerned, Question, World};
use crate::plan::ServicePort;
use crate::source::Refusal;

/// The first refused manifest that names the destination, the Service that has it, or the node.
pub(super) fn of(world: &World, question: &Question, port: Option<&ServicePort>) -> Option<Concerned> {
    world.refusals.iter().find_map(|refusal| {
        let mention = mention(world, question, port, refusal)?;
        Some(Concerned {
            refusal: refusal.clone(),
            mention,
        })
    })
}

fn mention(
    world: &World,
    question: &Question,
    port: Option<&ServicePort>,
    refusal: &Refusal,
) -> Option<String> {
    if world.is_taken_over(&refusal.file) {
        // Only one object of it was refused, in favour of another file's.
        return None;
    }
    let bytes = std::fs::read(world.folder.join(&refusal.file)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let to = question.to.ip();
    let is_to = |word: &str| {
        word.parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical() == to)
    };
    if words(&text).any(|word| is_to(word) || word.strip_suffix(':').is_some_and(is_to)) {
        return Some(format!("it names {to}"));
    }
    let is_label_of = |line: &str, name: &str| {
        line.contains("kubernetes.io/service-name") && names(line).any(|word| word == name)
    };
    if let Some(port) = port
        && text.lines().any(|line| is_label_of(line, &port.key.service.name))
    {
        return Some(format!("it has an EndpointSlice of Service {}", port.key.service));
    }
    let node = &world.scene.facts.name;
    if !world.scene.facts.is_known && text.contains("Node") && names(&text).any(|word| word == node) {
        return Some(format!("it names the node {node}"));
    }
    None
}

/// The parts of a text that could be addresses.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |letter: char| letter.is_ascii_hexdigit() || letter == '.' || letter == ':';
    text.split(move |letter| !is_part(letter))
        .filter(|word| word.len() > 2)
}

/// The parts of a text that could be names.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-' || letter == '.'))
}
