//! `shunt plan`: what applying manifests would change on a node.
//!
//! Both states are worlds of [`crate::explain`], compiled by the model and planned by the planner as the agent does it; what is
//! told is the difference of the two.

mod change;
mod concerns;
mod merge;

use std::path::{Path, PathBuf};

pub use change::{AffinityChange, BackendChange, Conflict, FrontendChange, Moved, Preview};
pub use concerns::PortRange;

use crate::explain::{Place, World};
use crate::source::{Change, FolderError, Object, Refusal, parse_manifest, read_folder};

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

/// What applying these objects would change on the node of this world.
pub fn preview(now: World, place: &Place, applied: Vec<Object>, ephemeral: PortRange) -> Preview {
    let names = merge::services_of(&applied);
    let after = World::of(merge::merged(&now.objects, applied), place);
    change::between(now, &after, &names, ephemeral)
}

#[cfg(test)]
mod tests;
