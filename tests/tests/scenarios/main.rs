//! Every file in `tests/scenarios`: the maps that come of its manifests, and what becomes of its calls, decided by the rules
//! on the host and by the programs in the kernel's test run alike.
//!
//! With `SCENARIOS=write` the files' results are written anew instead of compared: to be read before they are committed.

mod cluster;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cluster::Cluster;
use lab::scenario::{File, Line, programs};
use libtest_mimic::{Arguments, Failed, Trial};
use proxy_agent::explain::{self, Answer, Question};

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "scenario"))
        .collect();
    files.sort();
    let trials = files.into_iter().map(|path| {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Trial::test(name, move || run(&path).map_err(Failed::from))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Runs all steps and compares, or writes what came of them.
fn run(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut file = File::parse(&text).map_err(|error| error.to_string())?;
    if file.text() != text {
        return Err(
            "it is not written as its grammar has it: see the README there, or use SCENARIOS=write"
                .to_owned(),
        );
    }
    let mut cluster = Cluster::new(&file.agent)?;
    for step in &mut file.steps {
        let told = cluster.change(step)?;
        let maps = cluster.maps()?;
        let world = cluster.world()?;
        let mut calls = Vec::new();
        for line in &mut step.calls {
            let (question, answer) = ask(&world, line)?;
            line.answer = text_of(&answer);
            calls.push((question, answer));
        }
        programs::agree(&world, calls)?;
        step.told = (!told.is_empty()).then_some(told);
        step.maps = step.maps.take().map(|_| maps);
    }
    let found = file.text();
    if std::env::var("SCENARIOS").is_ok_and(|value| value == "write") {
        return std::fs::write(path, found).map_err(|error| error.to_string());
    }
    if found == text {
        Ok(())
    } else {
        Err(difference(&text, &found))
    }
}

fn ask(world: &explain::World, line: &Line) -> Result<(Question, Answer), String> {
    let to = format!("{}/{}", line.to, line.protocol);
    let question = Question::parse(&line.from.to_string(), &to).map_err(|error| error.to_string())?;
    let answer = explain::explain(world, &question).map_err(|error| error.to_string())?;
    Ok((question, answer))
}

/// `forward BACKEND,... SOURCE [affinity]`, or another verdict alone.
fn text_of(answer: &Answer) -> String {
    let word = |value: Result<serde_json::Value, serde_json::Error>| match value {
        Ok(serde_json::Value::String(word)) => word,
        other => format!("{other:?}"),
    };
    let verdict = word(serde_json::to_value(answer.verdict));
    if answer.verdict != explain::Verdict::Forward {
        return verdict;
    }
    let source = word(serde_json::to_value(answer.source));
    let affinity = if answer.affinity { " affinity" } else { "" };
    format!("{verdict} {} {source}{affinity}", answer.backends.join(","))
}

/// The first line that differs, with those around it.
fn difference(expected: &str, found: &str) -> String {
    let lines = expected.lines().zip(found.lines());
    let same = lines.take_while(|(expected, found)| expected == found).count();
    let from = |text: &str| text.lines().skip(same).take(12).collect::<Vec<_>>().join("\n");
    format!(
        "line {}: expected\n{}\n\nfound\n{}",
        same + 1,
        from(expected),
        from(found)
    )
}
