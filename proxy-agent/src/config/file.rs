//! Reads a configuration file.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_path_to_error::Track;
use serde_saphyr::MessageFormatter;

use super::document::{Document, KIND, VERSION};
use super::settings::{Invalid, Origin, Settings};
use crate::source::{FieldPath, Refusal, locate, yaml_options};

/// Why a configuration file is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It can't be read.
    #[error("the configuration {} can't be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Something in it is wrong.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

/// Reads a file as a whole, and what follows from it.
pub fn read(path: &Path) -> Result<(Document, Settings), ConfigFileError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigFileError::Read {
        path: path.to_owned(),
        error,
    })?;
    Ok(parse(&path.display().to_string(), &text)?)
}

pub(super) fn parse(file: &str, text: &str) -> Result<(Document, Settings), Refusal> {
    let document = deserialize(file, text)?;
    if document.api_version.is_none() || document.kind.is_none() {
        let message = format!("it must say apiVersion: {VERSION} and kind: {KIND}");
        return Err(Refusal::of_file(file, message));
    }
    let settings = Settings::of(&document, Origin::File).map_err(|invalid| refusal(file, text, invalid))?;
    Ok((document, settings))
}

/// A field that nobody knows, and one that is given twice, are errors: they would do nothing in silence.
fn deserialize(file: &str, text: &str) -> Result<Document, Refusal> {
    let mut track = Track::new();
    let result =
        serde_saphyr::with_deserializer_from_str_with_options(text, yaml_options(), |deserializer| {
            Document::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
        });
    result.map_err(|error| {
        let (line, column) = error
            .location()
            .map_or((0, 0), |place| (place.line(), place.column()));
        let formatter = serde_saphyr::DefaultMessageFormatter;
        Refusal {
            file: file.to_owned(),
            line,
            column,
            field: FieldPath::from(&track.path()).to_string(),
            message: formatter.format_message(error.without_snippet()).into_owned(),
        }
    })
}

fn refusal(file: &str, text: &str, invalid: Invalid) -> Refusal {
    let path = FieldPath::of_keys(invalid.field);
    let (line, column) = locate(text, &path).unwrap_or_default();
    Refusal {
        file: file.to_owned(),
        line,
        column,
        field: invalid.field.to_owned(),
        message: invalid.message,
    }
}

#[cfg(test)]
mod tests;
