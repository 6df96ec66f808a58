//! The pages for people: every link leads to a file, every test that a page of tests names is there, and no complaint is
//! without an answer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README, and the pages in docs and its folders.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![
        root().join("README.md"),
        root().join("CHANGELOG.md"),
        root().join("tests/scenarios/README.md"),
    ];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    Ok(pages)
}

/// Where the links of a text lead, those to other sites left out.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.is_empty())
        .collect()
}

/// The anchors of a page, as forges make them of its headings.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// What is wrong with the links of a page.
fn broken(page: &Path, text: &str) -> Vec<String> {
    let folder = page.parent().unwrap_or(Path::new("."));
    let is_broken = |target: &&str| {
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = if file.is_empty() {
            page.to_owned()
        } else {
            folder.join(file)
        };
        let has_anchor = || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            anchors(&text).iter().any(|other| other == anchor)
        };
        !path.exists() || !anchor.is_empty() && !has_anchor()
    };
    let wrong = links(text).into_iter().filter(is_broken);
    wrong
        .map(|target| format!("{}: {target}", page.display()))
        .collect()
}

#[test]
fn every_link_leads_to_a_file() -> Result<()> {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages()? {
        let text = std::fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
        count += links(&text).len();
        wrong.extend(broken(&page, &text));
    }
    ensure!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
    ensure!(count > 100, "only {count} links were found");
    Ok(())
}

#[test]
fn a_link_that_leads_nowhere_is_noticed() {
    let page = root().join("docs/features.md");
    for (text, is_wrong) in [
        ("[a](rules.md)", false),
        ("[a](rules.md) [b](no-such-page.md)", true),
        ("[a](operations.md#where-nodeports-answer)", false),
        ("[a](operations.md#nowhere)", true),
        ("[a](https://example.org/nowhere)", false),
    ] {
        assert_eq!(!broken(&page, text).is_empty(), is_wrong, "{text}");
    }
}

/// Each line of the table leads to a test, or says that it is not yet so, or not ours; a test that it names by its function
/// stands in one of the files to which it leads.
#[test]
fn every_complaint_has_an_answer() -> Result<()> {
    let page = root().join("docs/complaints.md");
    let text = std::fs::read_to_string(&page).context("reading docs/complaints.md")?;
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| E")).collect();
    for (number, row) in (1..=37).zip(&rows) {
        ensure!(
            row.starts_with(&format!("| E{number} | ")),
            "E{number} is missing: {row}"
        );
        let links = links(row);
        ensure!(
            !links.is_empty() || row.contains("not yet") || row.contains("not ours"),
            "no answer: {row}"
        );
        let folder = root().join("docs");
        let files = links
            .iter()
            .map(|link| link.split_once('#').map_or(&link[..], |(file, _)| file))
            .map(|file| std::fs::read_to_string(folder.join(file)));
        let files = files.collect::<std::io::Result<Vec<_>>>()?;
        let is_function = |word: &&str| {
            word.contains('_')
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        for name in row.split('`').skip(1).step_by(2).filter(is_function) {
            let definition = format!("fn {name}");
            ensure!(
                files.iter().any(|file| file.contains(&definition)),
                "no file of E{number}'s has the test {name}"
            );
        }
    }
    ensure!(rows.len() == 37, "{} lines", rows.len());
    Ok(())
}

/// All that stands in Rust files of the workspace.
fn sources() -> Result<String> {
    let mut all = String::new();
    let mut folders = [
        "proxy-agent",
        "proxy-common",
        "proxy-ebpf",
        "tests",
        "fuzz",
        "xtask",
    ]
    .map(|name| root().join(name))
    .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all +=
                    &std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            }
        }
    }
    Ok(all)
}

/// Scenarios as a page names them: their rule, and words; those that end in `-*` stand for several.
fn scenarios(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    let is_scenario = |word: &&str| {
        let (rule, rest) = word.split_once('-').unwrap_or((word, ""));
        let (letter, number) = rule.split_at(rule.len().min(1));
        (letter == "a" || letter == "e")
            && !number.is_empty()
            && !rest.is_empty()
            && number.parse::<u8>().is_ok()
    };
    words.filter(is_scenario).collect()
}

/// No line of the contract is empty-handed, and what it names is there.
#[test]
fn every_line_of_the_contract_is_shown() -> Result<()> {
    let page = root().join("docs/contract.md");
    let text = std::fs::read_to_string(&page).context("reading docs/contract.md")?;
    let sources = sources()?;
    let files: Vec<String> = std::fs::read_dir(root().join("tests/scenarios"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    let mut count = [0, 0];
    for row in text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| --- "))
    {
        let shown = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        ensure!(!shown.trim().is_empty(), "nothing shows it: {row}");
        for name in scenarios(shown) {
            let is_it = |file: &String| match name.strip_suffix('-') {
                Some(_) => file.starts_with(name),
                None => file.strip_suffix(".scenario") == Some(name),
            };
            ensure!(files.iter().any(is_it), "there is no scenario {name}: {row}");
            count[0] += 1;
        }
        let is_test = |word: &&str| word.matches('_').count() > 1 && !word.starts_with("shunt_");
        for name in shown.split('`').skip(1).step_by(2).filter(is_test) {
            let mut definitions = ["(", "<"].map(|end| format!("fn {name}{end}")).into_iter();
            let is_there = definitions.any(|definition| sources.contains(&definition));
            ensure!(is_there, "there is no test {name}: {row}");
            count[1] += 1;
        }
    }
    ensure!(count[0] > 100 && count[1] > 60, "only {count:?} were found");
    Ok(())
}
