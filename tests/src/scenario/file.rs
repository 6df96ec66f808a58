//! From the text of a scenario to its steps, and back.

use super::line::{Line, LineError};

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What the rule is, for people: the text before the first section.
    pub title: String,
    /// The agent's flags, one a line: `--external-ips 192.0.2.0/24`. They hold from the beginning to the end.
    pub agent: Vec<String>,
    /// What happens, one after another.
    pub steps: Vec<Step>,
}

/// A change, and what comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The file's name, which a later step replaces or removes, and its text.
    pub manifests: Vec<Section>,
    /// Names of files that are taken away.
    pub removed: Vec<String>,
    /// What the agent says of them: what it refuses, what it does not serve as asked; in the order of the alphabet.
    pub told: Option<Vec<String>>,
    /// The content of the maps then.
    pub maps: Option<String>,
    /// Calls, and what becomes of them.
    pub calls: Vec<Line>,
}

/// A manifest file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, without `.yaml`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Why a scenario can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A line that is no section's head.
    #[error(
        "line {line}: `=== {text}` is none of: === agent (before all others), === manifest NAME, === remove NAME, === told, \
         === maps, === calls"
    )]
    Head {
        /// Its number, from 1 on.
        line: usize,
        /// The rest of it.
        text: String,
    },
    /// A call that can't be read.
    #[error("line {line}: {error}")]
    Call {
        /// Its number, from 1 on.
        line: usize,
        /// Why.
        error: LineError,
    },
}

enum Kind {
    Title,
    Agent,
    Manifest,
    Told,
    Maps,
    Calls,
}

impl File {
    /// Reads a scenario. A manifest after maps or calls begins the next step.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let mut file = Self {
            title: String::new(),
            agent: Vec::new(),
            steps: vec![Step::default()],
        };
        let mut kind = Kind::Title;
        for (line, text) in (1..).zip(text.lines()) {
            if let Some(head) = text.strip_prefix("=== ") {
                kind = file.begin(line, head)?;
                continue;
            }
            let Some(step) = file.steps.last_mut() else {
                continue;
            };
            match kind {
                Kind::Title => push(&mut file.title, text),
                Kind::Agent if text.trim().is_empty() => {}
                Kind::Agent => file.agent.push(text.to_owned()),
                Kind::Manifest => {
                    if let Some(section) = step.manifests.last_mut() {
                        push(&mut section.text, text);
                    }
                }
                Kind::Told if text.trim().is_empty() => {}
                Kind::Told => step.told.get_or_insert_default().push(text.to_owned()),
                Kind::Maps => push(step.maps.get_or_insert_default(), text),
                Kind::Calls if text.trim().is_empty() => {}
                Kind::Calls => {
                    let call = text.parse().map_err(|error| FileError::Call { line, error })?;
                    step.calls.push(call);
                }
            }
        }
        for step in &mut file.steps {
            let maps = step.maps.take();
            step.maps = maps.map(|maps| maps.trim_end().to_owned() + "\n");
        }
        file.title.truncate(file.title.trim_end().len());
        Ok(file)
    }

    fn begin(&mut self, line: usize, head: &str) -> Result<Kind, FileError> {
        let is_over = |step: &Step| step.told.is_some() || step.maps.is_some() || !step.calls.is_empty();
        let is_change = head.starts_with("manifest ") || head.starts_with("remove ");
        if is_change && self.steps.last().is_some_and(is_over) {
            self.steps.push(Step::default());
        }
        let wrong = FileError::Head {
            line,
            text: head.to_owned(),
        };
        let is_first = self.agent.is_empty() && self.steps == [Step::default()];
        let Some(step) = self.steps.last_mut() else {
            return Err(wrong);
        };
        match head.split_once(' ').unwrap_or((head, "")) {
            ("agent", "") if is_first => Ok(Kind::Agent),
            ("manifest", name) if !name.is_empty() => {
                step.manifests.push(Section {
                    name: name.to_owned(),
                    text: String::new(),
                });
                Ok(Kind::Manifest)
            }
            ("remove", name) if !name.is_empty() => {
                step.removed.push(name.to_owned());
                Ok(Kind::Title)
            }
            ("told", "") => {
                step.told = Some(Vec::new());
                Ok(Kind::Told)
            }
            ("maps", "") => {
                step.maps = Some(String::new());
                Ok(Kind::Maps)
            }
            ("calls", "") => Ok(Kind::Calls),
            _ => Err(wrong),
        }
    }

    /// The same as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        if !self.agent.is_empty() {
            add(&mut text, "=== agent", &self.agent.join("\n"));
        }
        for step in &self.steps {
            for name in &step.removed {
                add(&mut text, &format!("=== remove {name}"), "");
            }
            for section in &step.manifests {
                add(
                    &mut text,
                    &format!("=== manifest {}", section.name),
                    &section.text,
                );
            }
            if let Some(told) = &step.told {
                add(&mut text, "=== told", &told.join("\n"));
            }
            if let Some(maps) = &step.maps {
                add(&mut text, "=== maps", maps);
            }
            if !step.calls.is_empty() {
                let lines: Vec<String> = step.calls.iter().map(Line::to_string).collect();
                add(&mut text, "=== calls", &lines.join("\n"));
            }
        }
        text
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn add(out: &mut String, head: &str, text: &str) {
    *out += &format!("\n{head}\n");
    if !text.trim().is_empty() {
        *out += &format!("{}\n", text.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "A rule.
Told over two lines.

=== agent
--external-ips none

=== manifest web
kind: Service

=== told
Service default/web: it is odd

=== maps
default/web TCP IPv4
  at ClusterIP 10.96.0.1:80

=== calls
10.1.0.9 -> 10.96.0.1:80/TCP = reject

=== remove web

=== maps

=== calls
10.1.0.9 -> 10.96.0.1:80/TCP = not-a-service
";

    #[test]
    fn a_scenario_reads_as_it_is_written() {
        let file = File::parse(TEXT).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(file.title, "A rule.\nTold over two lines.");
        assert_eq!(file.agent, ["--external-ips none"]);
        assert_eq!(file.steps.len(), 2);
        assert_eq!(file.steps[0].manifests[0].text.trim(), "kind: Service");
        assert_eq!(file.steps[1].removed, ["web"]);
        assert_eq!(file.text(), TEXT);
    }

    #[test]
    fn what_can_not_be_read_is_named_by_its_line() {
        for (text, part) in [
            ("A rule.\n=== traffic\n", "line 2: `=== traffic`"),
            ("A rule.\n=== manifest \n", "line 2"),
            ("A rule.\n=== manifest web\n=== agent\n", "line 3"),
            ("A rule.\n\n=== calls\n10.1.0.9 = reject\n", "line 4"),
        ] {
            let error = File::parse(text)
                .map(|file| file.text())
                .expect_err(text)
                .to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
