//! A folder of manifests, watched.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures::{FutureExt, StreamExt};
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use tokio::sync::mpsc;

use super::catalog::Catalog;
use super::names::parse_names;
use super::parse::parse;
use super::{Batch, ObjectKey, Refusal};

/// Room for the events of one read; more are read in turn.
const BUFFER: usize = 64 * 1024;

/// What ends the watch of a folder. What it gave stands.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It can't be read or watched.
    #[error("can't {action} the manifests folder {}: {error}", folder.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The folder.
        folder: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It was removed or moved away.
    #[error("the manifests folder {} is gone: put it back and start the agent again", .0.display())]
    Gone(PathBuf),
}

/// A folder of `*.yaml`, `*.yml` and `*.json`. Hidden files and editors' temporary files are ignored.
pub struct Folder {
    files: Files,
    events: EventStream<Vec<u8>>,
}

/// The files of a folder, and what they held when they were read.
struct Files {
    path: PathBuf,
    catalog: Catalog,
    /// Files that were read, or found gone, since the start.
    read: BTreeSet<String>,
    /// Files that could not be read since the start.
    unread: BTreeSet<String>,
}

/// All that a folder of manifests holds now, read as [`Folder::watch`] reads it.
pub fn read_folder(path: &Path) -> Result<Batch, FolderError> {
    Files::of(path).rescan()
}

/// The objects that a folder's manifests name, and the files that can't be read.
pub fn read_folder_names(path: &Path) -> Result<(Vec<ObjectKey>, Vec<Refusal>), FolderError> {
    let files = Files::of(path);
    let (mut keys, mut refusals) = (Vec::new(), Vec::new());
    for file in files.present()? {
        let text = read_text(&path.join(&file), &file);
        match text.and_then(|text| parse_names(&file, &text.unwrap_or_default())) {
            Ok(named) => keys.extend(named),
            Err(refusal) => refusals.push(refusal),
        }
    }
    Ok((keys, refusals))
}

/// What the events of one read ask for.
#[derive(Debug, Default)]
struct Wanted {
    files: BTreeSet<String>,
    rescan: bool,
    gone: bool,
}

impl Folder {
    /// Starts to watch a folder; must be called within a tokio runtime.
    pub fn watch(path: &Path) -> Result<Self, FolderError> {
        let io_error = |action| {
            move |error| FolderError::Io {
                action,
                folder: path.to_owned(),
                error,
            }
        };
        let inotify = Inotify::init().map_err(io_error("watch"))?;
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        inotify.watches().add(path, mask).map_err(io_error("watch"))?;
        let events = inotify
            .into_event_stream(vec![0; BUFFER])
            .map_err(io_error("watch"))?;
        Ok(Self {
            files: Files::of(path),
            events,
        })
    }

    /// Sends the whole folder as the first batch and every change after it, until the receiver is gone. What arrives
    /// while a batch waits to be taken becomes the next one.
    pub async fn run(mut self, sender: mpsc::Sender<Batch>) -> Result<(), FolderError> {
        let mut batch = self.files.rescan()?;
        loop {
            if sender.send(batch).await.is_err() {
                return Ok(());
            }
            batch = self.next_batch().await?;
        }
    }

    async fn next_batch(&mut self) -> Result<Batch, FolderError> {
        loop {
            let wanted = self.wait().await;
            let wanted = wanted.map_err(|error| self.files.io_error("watch", error))?;
            if wanted.gone {
                return Err(FolderError::Gone(self.files.path.clone()));
            }
            let batch = if wanted.rescan {
                self.files.rescan()?
            } else {
                self.files.read(&wanted.files)?
            };
            if !batch.files.is_empty() || !batch.refusals.is_empty() {
                return Ok(batch);
            }
        }
    }

    /// Waits for events and takes all that are there.
    async fn wait(&mut self) -> io::Result<Wanted> {
        let mut wanted = Wanted::default();
        let mut next = self.events.next().await;
        while let Some(event) = next {
            let event = event?;
            wanted.note(&self.files.path, event.mask, event.name.as_deref());
            next = self.events.next().now_or_never().flatten();
        }
        Ok(wanted)
    }
}

impl Files {
    fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            catalog: Catalog::default(),
            read: BTreeSet::new(),
            unread: BTreeSet::new(),
        }
    }

    /// Reads every file, and takes those that are gone out.
    fn rescan(&mut self) -> Result<Batch, FolderError> {
        let mut files: BTreeSet<String> = self.catalog.files().map(|file| file.to_string()).collect();
        files.extend(self.present()?);
        self.read(&files)
    }

    /// Manifests that are there now, in order.
    fn present(&self) -> Result<BTreeSet<String>, FolderError> {
        let mut files = BTreeSet::new();
        for entry in std::fs::read_dir(&self.path).map_err(|error| self.io_error("read", error))? {
            let entry = entry.map_err(|error| self.io_error("read", error))?;
            files.extend(manifest_name(&entry.file_name()));
        }
        Ok(files)
    }

    fn read(&mut self, files: &BTreeSet<String>) -> Result<Batch, FolderError> {
        let mut batch = Batch {
            heard: Some(Instant::now()),
            ..Batch::default()
        };
        for file in files {
            match read_objects(&self.path.join(file), file) {
                Ok(objects) => {
                    let difference = self.catalog.replace(file, objects);
                    merge(&mut batch.changes, difference.changes);
                    batch.refusals.extend(difference.refusals);
                    batch.files.push(file.clone());
                    self.unread.remove(file);
                    self.read.insert(file.clone());
                }
                Err(refusal) => {
                    batch.refusals.push(refusal);
                    if !self.read.contains(file) {
                        self.unread.insert(file.clone());
                    }
                }
            }
        }
        batch.has_unread_files = !self.unread.is_empty();
        Ok(batch)
    }

    fn io_error(&self, action: &'static str, error: io::Error) -> FolderError {
        FolderError::Io {
            action,
            folder: self.path.clone(),
            error,
        }
    }
}

/// A file's text; none: it is gone.
fn read_text(path: &Path, file: &str) -> Result<Option<String>, Refusal> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Refusal::of_file(file, format!("can't read it: {error}"))),
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|error| Refusal::of_file(file, format!("it is not UTF-8 text: {error}")))
}

/// A file that is gone holds nothing.
fn read_objects(path: &Path, file: &str) -> Result<Vec<super::Object>, Refusal> {
    let Some(text) = read_text(path, file)? else {
        return Ok(Vec::new());
    };
    let parsed = parse(file, &text)?;
    for kind in parsed.ignored {
        tracing::info!(file, kind, "ignored an object of a kind that is not used");
    }
    Ok(parsed.objects)
}

impl Wanted {
    fn note(&mut self, folder: &Path, mask: EventMask, name: Option<&OsStr>) {
        if mask.contains(EventMask::Q_OVERFLOW) {
            self.rescan = true;
        }
        if mask.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT) {
            self.gone = true;
        }
        let Some(name) = name else { return };
        // A ConfigMap's volume changes all its files at once by moving this link.
        if name == "..data" {
            self.rescan = true;
        }
        if mask.contains(EventMask::CREATE) && !is_whole_at_creation(&folder.join(name)) {
            return;
        }
        self.files.extend(manifest_name(name));
    }
}

/// A new file is read once its writer closes it; a link is whole when it appears, and nobody closes it.
fn is_whole_at_creation(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}

/// The name, if it is a manifest's.
fn manifest_name(name: &OsStr) -> Option<String> {
    let name = name.to_str()?;
    let extension = Path::new(name).extension()?.to_str()?;
    let temporary = name.starts_with(['.', '#', '~']);
    (!temporary && matches!(extension, "yaml" | "yml" | "json")).then(|| name.to_owned())
}

/// Appends changes; a later change of an object takes the place of an earlier one.
fn merge(changes: &mut Vec<super::Change>, later: Vec<super::Change>) {
    if !changes.is_empty() {
        let keys: BTreeSet<_> = later.iter().map(super::Change::key).collect();
        changes.retain(|change| !keys.contains(&change.key()));
    }
    changes.extend(later);
}

#[cfg(test)]
mod tests;
