//! Which specs count: three lists in tests/cluster/conformance.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

/// Full names of specs, each once, in the order of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specs(Vec<String>);

/// Specs that are not run, and why.
#[derive(Clone, Debug, Default)]
pub struct Exclusions(BTreeMap<String, String>);

impl Specs {
    /// All that count.
    pub fn all() -> Result<Self> {
        Self::read(include_str!("../../../cluster/conformance/specs.txt"))
    }

    /// Those that every run of all tests has time for.
    pub fn subset() -> Result<Self> {
        let subset = Self::read(include_str!("../../../cluster/conformance/subset.txt"))?;
        let all = Self::all()?;
        for name in &subset.0 {
            ensure!(
                all.0.contains(name),
                "the subset has a spec that does not count: {name}"
            );
        }
        Ok(subset)
    }

    pub(super) fn read(text: &str) -> Result<Self> {
        let names: Vec<_> = lines(text).map(ToOwned::to_owned).collect();
        let mut known = BTreeSet::new();
        for name in &names {
            ensure!(known.insert(name), "a spec is listed twice: {name}");
        }
        Ok(Self(names))
    }

    /// Those whose names hold the text.
    #[must_use]
    pub fn focus(&self, text: &str) -> Self {
        Self(
            self.0
                .iter()
                .filter(|name| name.contains(text))
                .cloned()
                .collect(),
        )
    }

    /// Those that are not excluded.
    #[must_use]
    pub fn without(&self, exclusions: &Exclusions) -> Self {
        let kept = self.0.iter().filter(|name| exclusions.reason(name).is_none());
        Self(kept.cloned().collect())
    }

    /// Their names.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// What Ginkgo is to match full names with: these, and no other.
    pub(super) fn expression(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|name| escape(name)).collect();
        format!(" ({})$", names.join("|"))
    }
}

impl Exclusions {
    /// The one list of them.
    pub fn all() -> Result<Self> {
        Self::read(
            include_str!("../../../cluster/conformance/exclusions.txt"),
            &Specs::all()?,
        )
    }

    /// A paragraph for each reason: the reason, then the specs, indented.
    fn read(text: &str, specs: &Specs) -> Result<Self> {
        let mut exclusions = BTreeMap::new();
        let mut reason = None;
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        {
            let Some(name) = line.strip_prefix("  ") else {
                reason = Some(line);
                continue;
            };
            let reason = reason.with_context(|| format!("no reason stands before the excluded {name}"))?;
            ensure!(
                specs.0.iter().any(|spec| spec == name),
                "an excluded spec does not count: {name}"
            );
            let before = exclusions.insert(name.to_owned(), reason.to_owned());
            ensure!(before.is_none(), "a spec is excluded twice: {name}");
        }
        Ok(Self(exclusions))
    }

    /// Why the spec is not run, if it is not.
    pub fn reason(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Takes their meaning from a regular expression's signs.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_whole() {
        let all = Specs::all().unwrap();
        let exclusions = Exclusions::all().unwrap();
        assert!(all.names().len() > 140);
        let run = all.without(&exclusions);
        assert_eq!(run.names().len() + exclusions.0.len(), all.names().len());
        for name in Specs::subset().unwrap().names() {
            assert_eq!(
                exclusions.reason(name),
                None,
                "{name} is excluded and in the subset"
            );
        }
    }

    #[test]
    fn an_exclusion_has_a_reason_and_names_a_spec_that_counts() {
        let specs = Specs::read("one\ntwo\n").unwrap();
        let exclusions = Exclusions::read("# comment\nno kernel for it:\n  one\n", &specs).unwrap();
        assert_eq!(exclusions.reason("one"), Some("no kernel for it:"));
        assert_eq!(specs.without(&exclusions).names(), ["two"]);
        assert!(Exclusions::read("  one\n", &specs).is_err());
        assert!(Exclusions::read("why\n  three\n", &specs).is_err());
    }

    #[test]
    fn names_are_matched_as_they_are() {
        let specs = Specs::read("[a] b (c)\n").unwrap();
        assert_eq!(specs.expression(), r" (\[a\] b \(c\))$");
    }
}
