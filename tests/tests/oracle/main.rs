//! The proxy against an independent reading of the same rules, over random clusters: every verdict, every backend that
//! could be chosen, whose address it sees.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod strategy;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use lab::oracle::{Answer, Question, Source, Verdict, World, answer};
use lab::scenario::{Paper, content, programs};
use proptest::prelude::*;
use proxy_agent::agent::{MapWriter, Reconciler};
use proxy_agent::datapath::NodePortAddresses;
use proxy_agent::explain::{self, explain};
use proxy_agent::source::{Change, ObjectKey, read_folder};
use serde_json::Value;

/// A folder of manifests, removed at the end.
struct Folder(PathBuf);

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

impl Folder {
    fn with(manifests: &[Value]) -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("shunt-oracle-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        for (number, manifest) in manifests.iter().enumerate() {
            std::fs::write(path.join(format!("{number}.json")), manifest.to_string()).unwrap();
        }
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn read(folder: &Folder, world: &World) -> explain::World {
    let node_ports: Vec<String> = world.node_ports.iter().map(|entry| entry.text()).collect();
    let place = explain::Place {
        node: world.node.clone(),
        node_ports: NodePortAddresses::parse(&node_ports).unwrap(),
        ..explain::Place::default()
    };
    explain::World::read(&folder.0, &place).unwrap()
}

fn asked(question: &Question) -> explain::Question {
    explain::Question {
        from: question.from,
        to: question.to,
        protocol: match question.protocol {
            lab::oracle::Protocol::Tcp => 6,
            lab::oracle::Protocol::Udp => 17,
            lab::oracle::Protocol::Sctp => 132,
        },
    }
}

/// What the proxy answers.
fn proxy(world: &explain::World, question: &Question) -> Answer {
    let said = explain(world, &asked(question)).unwrap();
    let backends: BTreeSet<SocketAddr> = said.backends.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(backends.len(), said.backends.len(), "each once");
    Answer {
        verdict: match said.verdict {
            explain::Verdict::Forward => Verdict::Forward,
            explain::Verdict::Reject => Verdict::Reject,
            explain::Verdict::Drop => Verdict::Drop,
            explain::Verdict::NotAService => Verdict::NotAService,
        },
        backends,
        source: match said.source {
            explain::Source::Kept => Source::Kept,
            explain::Source::Masqueraded => Source::Masqueraded,
            explain::Source::MasqueradedToRemote => Source::MasqueradedToRemote,
        },
        affinity: said.affinity,
    }
}

fn compare(world: &World) -> Result<(), TestCaseError> {
    let manifests = world.manifests();
    let folder = Folder::with(&manifests);
    let proxys = read(&folder, world);
    for question in strategy::questions(world) {
        let (expected, found) = (answer(world, &question), proxy(&proxys, &question));
        if expected != found {
            let manifests = serde_json::to_string_pretty(&manifests).unwrap_or_default();
            return Err(TestCaseError::fail(format!(
                "{question:?}\nthe rules: {expected:?}\nthe proxy: {found:?}\n{manifests}"
            )));
        }
    }
    Ok(())
}

/// What the programs do is what the proxy says of itself.
fn compare_programs(world: &World) -> Result<(), TestCaseError> {
    let folder = Folder::with(&world.manifests());
    let proxys = read(&folder, world);
    let answered = strategy::questions(world).into_iter().map(|question| {
        let asked = asked(&question);
        (asked, explain(&proxys, &asked).unwrap())
    });
    programs::agree(&proxys, answered).map_err(TestCaseError::fail)
}

/// The maps' content after changes, in parts of so many.
fn content_after(changes: &[Change], part: usize) -> String {
    let mut reconciler = Reconciler::start("here", Paper::default()).unwrap();
    for part in changes.chunks(part) {
        let mut done = reconciler.take(part.to_vec(), false).unwrap();
        while reconciler.has_more() {
            reconciler.go_on().unwrap();
        }
        if let Some(token) = done.token.take() {
            reconciler.grace_passed(token);
        }
    }
    content(&reconciler.maps().snapshot().unwrap())
}

/// From one world to another in random order: what is in the maps then depends on the last world alone.
fn arrive(before: &World, after: &World, order: &[usize], part: usize) -> Result<(), TestCaseError> {
    let changes = |world: &World| read_folder(&Folder::with(&world.manifests()).0).unwrap().changes;
    let (old, new) = (changes(before), changes(after));
    let is_gone = |key: &ObjectKey| new.iter().all(|change| change.key() != *key);
    let gone: Vec<Change> = old
        .iter()
        .map(Change::key)
        .filter(is_gone)
        .map(Change::Delete)
        .collect();
    let mut last: Vec<(usize, Change)> = order
        .iter()
        .copied()
        .cycle()
        .zip(new.iter().cloned().chain(gone))
        .collect();
    last.sort_by_key(|(place, _)| *place);
    let last = last.into_iter().map(|(_, change)| change);
    let history: Vec<Change> = old.into_iter().chain(last).collect();
    prop_assert_eq!(content_after(&history, part), content_after(&new, new.len()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_order_of_arrival_never_matters(
        before in strategy::world(),
        after in strategy::world(),
        order in prop::collection::vec(0..100_usize, 5..30),
        part in 1..5_usize,
    ) {
        arrive(&before, &after, &order, part)?;
    }

    #[test]
    fn the_proxy_decides_as_the_rules_say(world in strategy::world()) {
        compare(&world)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_programs_do_as_the_proxy_says(world in strategy::world()) {
        compare_programs(&world)?;
    }
}

/// The random clusters are worth asking: each verdict and each kind of source comes up, and often.
#[test]
fn random_clusters_ask_for_everything() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{TestRng, TestRunner};
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig::default(),
        TestRng::deterministic_rng(Default::default()),
    );
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..100 {
        let world = strategy::world().new_tree(&mut runner).unwrap().current();
        for question in strategy::questions(&world) {
            let Answer {
                verdict,
                source,
                affinity,
                backends,
            } = answer(&world, &question);
            let several = backends.len() > 1;
            for text in [
                format!("{verdict:?}"),
                format!("{source:?}"),
                format!("affinity {affinity}"),
                format!("several {several}"),
            ] {
                *counts.entry(text).or_default() += 1;
            }
        }
    }
    for wanted in [
        "Forward",
        "Reject",
        "Drop",
        "NotAService",
        "Kept",
        "Masqueraded",
        "MasqueradedToRemote",
        "affinity true",
        "several true",
    ] {
        let count = counts.get(wanted).copied().unwrap_or_default();
        assert!(count >= 20, "{wanted}: {count} of {counts:?}");
    }
}
