//! Manifests with nonsense: the fuzzer's corpus and the scenarios' manifests, as they are and with pieces changed, cut and
//! swapped. `fuzz/` looks for more, guided by coverage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use lab::nonsense::digest;
use lab::packet::dice::Dice;
use lab::scenario::File;

const ROUNDS: usize = 6000;

/// What stands in place of something else.
const WORDS: [&str; 28] = [
    "0",
    "-1",
    "65535",
    "65536",
    "99999999999999999999",
    "null",
    "~",
    "true",
    "''",
    "[]",
    "{}",
    "[[]]",
    "None",
    "::",
    "0.0.0.0",
    "255.255.255.255",
    "::ffff:10.0.0.1",
    "fe80::1%eth0",
    "10.0.0.0/33",
    "UDP",
    "SCTP",
    "ExternalName",
    "Local",
    "&a",
    "*a",
    "!!binary x",
    "\u{0}",
    "\u{feff}",
];

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn corpus() -> Vec<String> {
    let mut corpus: Vec<String> = files("../fuzz/corpus/manifests")
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    for file in files("scenarios")
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "scenario"))
    {
        let scenario = File::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
        let sections = scenario.steps.into_iter().flat_map(|step| step.manifests);
        corpus.extend(sections.map(|section| section.text));
    }
    corpus
}

fn below(dice: &mut Dice, count: usize) -> usize {
    dice.below(count.max(1))
}

/// Where words begin and end.
fn pieces(text: &str) -> Vec<std::ops::Range<usize>> {
    let is_word = |c: char| c.is_alphanumeric() || "./:-".contains(c);
    let mut pieces = Vec::new();
    let mut start = None;
    for (place, c) in text.char_indices() {
        match (start, is_word(c)) {
            (None, true) => start = Some(place),
            (Some(from), false) => {
                pieces.push(from..place);
                start = None;
            }
            _ => {}
        }
    }
    pieces.extend(start.map(|from| from..text.len()));
    pieces
}

fn changed(text: &str, other: &str, dice: &mut Dice) -> String {
    let (pieces, others) = (pieces(text), pieces(other));
    let lines: Vec<&str> = text.lines().collect();
    if pieces.is_empty() || others.is_empty() {
        return other.to_owned();
    }
    let piece = pieces[below(dice, pieces.len())].clone();
    let mut text = text.to_owned();
    match dice.below(6) {
        0 => text.replace_range(piece, WORDS[below(dice, WORDS.len())]),
        1 => text.replace_range(piece, &other[others[below(dice, others.len())].clone()]),
        2 => text.replace_range(piece, ""),
        3 => text.truncate(piece.start),
        4 => {
            let mut lines = lines.clone();
            lines.remove(below(dice, lines.len()));
            text = lines.join("\n");
        }
        _ => {
            let mut lines = lines.clone();
            let line = lines[below(dice, lines.len())];
            lines.insert(below(dice, lines.len()), line);
            text = lines.join("\n");
        }
    }
    text
}

#[test]
fn whatever_a_manifest_says_it_is_taken_whole_or_refused_by_name() {
    let corpus = corpus();
    let (mut taken, mut refused) = (0, 0);
    let mut dice = Dice(1);
    for text in &corpus {
        drop(digest(text));
    }
    for _ in 0..ROUNDS {
        let mut text = corpus[below(&mut dice, corpus.len())].clone();
        let other = &corpus[below(&mut dice, corpus.len())];
        for _ in 0..=below(&mut dice, 3) {
            text = changed(&text, other, &mut dice);
        }
        match std::panic::catch_unwind(|| digest(&text)) {
            Ok(Ok(())) => taken += 1,
            Ok(Err(_)) => refused += 1,
            Err(_) => panic!("a panic, by this manifest:\n{text}"),
        }
    }
    assert!(
        taken > ROUNDS / 10 && refused > ROUNDS / 10,
        "{taken} taken, {refused} refused"
    );
}
