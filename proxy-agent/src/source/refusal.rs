//! Why a manifest was not taken over.

use std::fmt;

/// What is wrong, and where. Printed as `file:line:column: field: message`, without the parts that are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Base name of the file.
    pub file: String,
    /// Line, from 1; 0: the file as a whole.
    pub line: u64,
    /// Column, from 1; 0: the line as a whole.
    pub column: u64,
    /// Path of the field within its document, such as `spec.ports[0].port`; empty: none.
    pub field: String,
    /// What is wrong with it, and the way out where there is one.
    pub message: String,
}

impl Refusal {
    /// The file as a whole is refused.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            field: String::new(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line != 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_not_known_are_left_out() {
        let mut refusal = Refusal::of_file("a.yaml", "it is a folder");
        assert_eq!(refusal.to_string(), "a.yaml: it is a folder");
        refusal.line = 3;
        refusal.column = 5;
        refusal.field = "spec.ports[0].port".into();
        assert_eq!(
            refusal.to_string(),
            "a.yaml:3:5: spec.ports[0].port: it is a folder"
        );
    }
}
