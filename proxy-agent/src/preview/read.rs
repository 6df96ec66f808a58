//! The manifests that are given.

use std::path::{Path, PathBuf};

use crate::source::{Change, FolderError, Object, ObjectKey, Refusal, parse_manifest, read_folder};

/// Why there is nothing to plan.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// A manifest is wrong.
    #[error("{}; correct it: nothing would be applied", .0.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Refusal>),
    /// A manifest can't be read.
    #[error("can't read {}: {error}; give a manifest, a folder of them, or - for the standard input with -f", file.display())]
    Unread {
        /// The file.
        file: PathBuf,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// A folder can't be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There is no object in what was given.
    #[error("{0} holds no Service, EndpointSlice or Node: there is nothing to plan")]
    Nothing(String),
    /// What would be deleted is not there.
    #[error(
        "there is no {} in the state now (--manifests): there is nothing to delete; correct its name or namespace",
        .0.iter().map(ObjectKey::to_string).collect::<Vec<_>>().join(", no ")
    )]
    NotThere(Vec<ObjectKey>),
}

/// The objects of a manifest, of a folder of them, or of the standard input (`-`).
///
/// # Errors
/// It can't be read, something in it is wrong, or there is nothing in it.
pub fn read(path: &Path) -> Result<Vec<Object>, PreviewError> {
    let objects = if path == Path::new("-") {
        of_text(path, "standard input", std::io::read_to_string(std::io::stdin()))?
    } else if path.is_dir() {
        let batch = read_folder(path)?;
        if !batch.refusals.is_empty() {
            return Err(PreviewError::Refused(batch.refusals));
        }
        let upserts = batch.changes.into_iter().filter_map(|change| match change {
            Change::Upsert(object) => Some(object),
            Change::Delete(_) => None,
        });
        upserts.collect()
    } else {
        let name = path.display().to_string();
        of_text(path, &name, std::fs::read_to_string(path))?
    };
    if objects.is_empty() {
        return Err(PreviewError::Nothing(path.display().to_string()));
    }
    Ok(objects)
}

fn of_text(path: &Path, name: &str, text: std::io::Result<String>) -> Result<Vec<Object>, PreviewError> {
    let text = text.map_err(|error| PreviewError::Unread {
        file: path.to_owned(),
        error,
    })?;
    parse_manifest(name, &text).map_err(|refusal| PreviewError::Refused(vec![refusal]))
}
