//! docs/conformance.md: one row a spec, one column for each who served the Services.

use std::collections::BTreeSet;

use super::{Exclusions, Results, Specs, Verdict};

/// What one of them made of the specs.
#[derive(Clone, Debug)]
pub struct Column {
    /// Whose it is.
    pub title: String,
    /// When it was run, as YYYY-MM-DD.
    pub date: String,
    /// What came of it.
    pub results: Results,
}

/// The page's text; versions are what was run, a line each.
pub fn write(specs: &Specs, exclusions: &Exclusions, versions: &[String], columns: &[Column]) -> String {
    let mut page = String::from(HEAD);
    for version in versions {
        line(&mut page, &format!("- {version}"));
    }
    line(
        &mut page,
        "\n| | passed | failed | skipped | run on |\n| --- | --- | --- | --- | --- |",
    );
    for column in columns {
        let count = |is: fn(&Verdict) -> bool| column.results.values().filter(|verdict| is(verdict)).count();
        line(
            &mut page,
            &format!(
                "| {} | {} | {} | {} | {} |",
                column.title,
                count(|verdict| *verdict == Verdict::Passed),
                count(|verdict| matches!(verdict, Verdict::Failed(_))),
                count(|verdict| matches!(verdict, Verdict::Skipped(_))),
                column.date,
            ),
        );
    }
    let titles: Vec<_> = columns.iter().map(|column| column.title.as_str()).collect();
    line(
        &mut page,
        &format!("\n## Specs\n\n| spec | {} |", titles.join(" | ")),
    );
    line(&mut page, &format!("| --- |{}", " --- |".repeat(columns.len())));
    for name in specs.names() {
        let cells: Vec<_> = columns
            .iter()
            .map(|column| cell(name, exclusions, column))
            .collect();
        line(
            &mut page,
            &format!("| {} | {} |", escape(name), cells.join(" | ")),
        );
    }
    page
}

const HEAD: &str = "# Conformance\n\nWritten by `cargo xtask conformance`; not by hand.\n\n\
    The specs are those of Kubernetes' own suite that need a Service proxy, or names and ports that lead through it\n\
    (tests/cluster/conformance/specs.txt). A spec without a verdict counts as failed. Excluded ones are not run; each reason\n\
    is in tests/cluster/conformance/exclusions.txt. A small load balancer of the cluster's own gives Services of type\n\
    LoadBalancer their addresses, and leads calls from outside to the nodes.\n\n";

fn cell(name: &str, exclusions: &Exclusions, column: &Column) -> String {
    match (exclusions.reason(name), column.results.get(name)) {
        (Some(reason), _) => format!("excluded: {}", escape(reason.trim_end_matches(':'))),
        (None, Some(verdict)) => escape(&verdict.to_string()),
        (None, None) => "not run".to_owned(),
    }
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

/// The specs that passed in the page's column with this title.
pub fn read_passed(page: &str, title: &str) -> BTreeSet<String> {
    let results = read(page, title).map(|column| column.results).unwrap_or_default();
    let passed = results
        .into_iter()
        .filter(|(_, verdict)| *verdict == Verdict::Passed);
    passed.map(|(name, _)| name).collect()
}

/// The page's column with this title, without specs that were not run.
pub fn read(page: &str, title: &str) -> Option<Column> {
    let mut rows = page.lines().map(cells);
    let summary = rows.find(|cells| cells.len() == 5 && cells[0] == title)?;
    let mut rows = rows.skip_while(|cells| cells.first().map(String::as_str) != Some("spec"));
    let place = rows.next()?.iter().position(|cell| cell == title)?;
    let results = rows.filter_map(|cells| {
        let verdict = Verdict::read(cells.get(place)?)?;
        Some((cells.first()?.clone(), verdict))
    });
    Some(Column {
        title: title.to_owned(),
        date: summary[4].clone(),
        results: results.collect(),
    })
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').trim_end_matches('|');
    let line = line.replace("\\|", "\0");
    line.split('|')
        .map(|cell| cell.trim().replace('\0', "|").replace("&lt;", "<"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_is_read_from_the_page_that_was_written() {
        let specs = Specs::read("[sig] a|b <c>\n[sig] d\n[sig] e\n").unwrap();
        let column = |title: &str, verdicts: &[(&str, Verdict)]| Column {
            title: title.to_owned(),
            date: "2026-01-02".to_owned(),
            results: verdicts
                .iter()
                .map(|(name, verdict)| ((*name).to_owned(), verdict.clone()))
                .collect(),
        };
        let columns = [
            column(
                "Shunt",
                &[
                    ("[sig] a|b <c>", Verdict::Passed),
                    ("[sig] d", Verdict::Failed("no | answer".to_owned())),
                ],
            ),
            column(
                "kube-proxy",
                &[
                    ("[sig] d", Verdict::Passed),
                    ("[sig] e", Verdict::Skipped("why".to_owned())),
                ],
            ),
        ];
        let page = write(
            &specs,
            &Exclusions::default(),
            &["a version".to_owned()],
            &columns,
        );
        assert!(page.contains("| Shunt | 1 | 1 | 0 | 2026-01-02 |"), "{page}");
        assert!(page.contains("| [sig] e | not run | skipped: why |"), "{page}");
        let passed = |title: &str| read_passed(&page, title).into_iter().collect::<Vec<_>>();
        assert_eq!(passed("Shunt"), ["[sig] a|b <c>"]);
        assert_eq!(passed("kube-proxy"), ["[sig] d"]);
        assert!(passed("another").is_empty());
        for column in &columns {
            let read = read(&page, &column.title).unwrap();
            assert_eq!((&read.date, &read.results), (&column.date, &column.results));
        }
    }
}
