//! The manifests that are given.

use std::path::{Path, PathBuf};

use crate::source::{
    Change, FolderError, Object, ObjectKey, Refusal, parse_manifest, parse_names, read_folder,
    read_folder_names,
};

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
    let objects = if path.is_dir() {
        let batch = read_folder(path)?;
        let upserts = batch.changes.into_iter().filter_map(|change| match change {
            Change::Upsert(object) => Some(object),
            Change::Delete(_) => None,
        });
        whole(upserts.collect(), batch.refusals)?
    } else {
        of_text(path, parse_manifest)?
    };
    something(path, objects)
}

/// What a manifest, a folder of them, or the standard input (`-`) names: more of the objects is not read.
///
/// # Errors
/// It can't be read, an object in it has no name, or there is nothing in it.
pub fn read_names(path: &Path) -> Result<Vec<ObjectKey>, PreviewError> {
    let keys = if path.is_dir() {
        let (keys, refusals) = read_folder_names(path)?;
        whole(keys, refusals)?
    } else {
        of_text(path, parse_names)?
    };
    something(path, keys)
}

fn whole<T>(read: Vec<T>, refusals: Vec<Refusal>) -> Result<Vec<T>, PreviewError> {
    if refusals.is_empty() {
        Ok(read)
    } else {
        Err(PreviewError::Refused(refusals))
    }
}

fn something<T>(path: &Path, read: Vec<T>) -> Result<Vec<T>, PreviewError> {
    if read.is_empty() {
        Err(PreviewError::Nothing(path.display().to_string()))
    } else {
        Ok(read)
    }
}

fn of_text<T>(
    path: &Path,
    parse: impl Fn(&str, &str) -> Result<Vec<T>, Refusal>,
) -> Result<Vec<T>, PreviewError> {
    let (name, text) = if path == Path::new("-") {
        let text = std::io::read_to_string(std::io::stdin());
        ("standard input".to_owned(), text)
    } else {
        (path.display().to_string(), std::fs::read_to_string(path))
    };
    let text = text.map_err(|error| PreviewError::Unread {
        file: path.to_owned(),
        error,
    })?;
    parse(&name, &text).map_err(|refusal| PreviewError::Refused(vec![refusal]))
}
