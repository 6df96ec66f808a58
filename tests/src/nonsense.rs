//! Manifests that make no sense: whatever they say, nothing panics, no Service is served in part, and what is refused is
//! named.

use std::net::SocketAddr;

use proxy_agent::explain::{Place, Question, World, explain};
use proxy_agent::model::Model;
use proxy_agent::plan::Audit;
use proxy_agent::source::{Change, Refusal, parse_manifest};

/// Reads a manifest, makes the maps of it, and asks for a call to each frontend.
///
/// # Errors
/// It is refused, by name.
///
/// # Panics
/// The maps do not hold what the manifest asks for, as a whole; or the refusal names nothing.
pub fn digest(text: &str) -> Result<(), Refusal> {
    let objects = parse_manifest("fuzz.yaml", text).inspect_err(assert_named)?;
    let changes: Vec<Change> = objects.into_iter().map(Change::Upsert).collect();
    let place = Place {
        node: "here".to_owned(),
        ..Place::default()
    };
    let world = World::of(changes.clone(), &place);
    assert_whole(&world, changes);
    for (frontend, _) in world.snapshot().frontends.into_iter().take(8) {
        let mut to = SocketAddr::new(frontend.address, frontend.port.number());
        let from = if to.is_ipv4() {
            [192, 0, 2, 1].into()
        } else {
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()
        };
        if frontend.address.is_unspecified() {
            to.set_ip(if to.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                [0, 0, 0, 0, 0, 0, 0, 1].into()
            });
        }
        let question = Question {
            from,
            to,
            protocol: frontend.protocol,
        };
        // What it answers is not the question here.
        drop(explain(&world, &question));
    }
    Ok(())
}

/// Every Service is in the maps as a whole, and nothing else is.
fn assert_whole(world: &World, changes: Vec<Change>) {
    let mut model = Model::new("here");
    model.apply(changes);
    let snapshot = world.snapshot();
    let mut audit = Audit::of(&snapshot);
    let names: Vec<_> = model.services().cloned().collect();
    for port in names.iter().flat_map(|name| model.compile(name)) {
        audit.check(&port);
    }
    audit.check_vips();
    let differences = audit.finish();
    assert!(differences.is_empty(), "{differences:#?}");
}

/// A refusal says where, and what.
fn assert_named(refusal: &Refusal) {
    assert!(!refusal.message.is_empty(), "{refusal:?}");
    assert!(
        refusal.line > 0 || !refusal.field.is_empty() || !refusal.file.is_empty(),
        "{refusal:?}"
    );
}
