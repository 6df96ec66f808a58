//! A configuration file, watched.

use std::io;
use std::path::{Path, PathBuf};

use futures::{FutureExt, StreamExt};
use inotify::{EventStream, Inotify, WatchMask};

/// Room for the events of one read.
const BUFFER: usize = 16 * 1024;

/// Why a file is not watched.
#[derive(Debug, thiserror::Error)]
#[error("the configuration {} can't be watched: {error}", path.display())]
pub struct ConfigWatchError {
    path: PathBuf,
    #[source]
    error: io::Error,
}

/// Tells when a file may have changed. Its folder is what is watched: editors put a new file in an old one's place, and
/// ConfigMap volumes turn a link.
#[derive(Debug)]
pub struct ConfigWatch {
    path: PathBuf,
    events: EventStream<Vec<u8>>,
    content: Option<Vec<u8>>,
}

impl ConfigWatch {
    /// Watches from now on.
    pub fn start(path: &Path) -> Result<Self, ConfigWatchError> {
        let failed = |error| ConfigWatchError {
            path: path.to_owned(),
            error,
        };
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let inotify = Inotify::init().map_err(failed)?;
        let changes = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO;
        inotify.watches().add(folder, changes).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            events: inotify.into_event_stream(vec![0; BUFFER]).map_err(failed)?,
            content: std::fs::read(path).ok(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the file's content is another one. A file that is gone is not: the last one stands.
    pub async fn changed(&mut self) -> Result<(), ConfigWatchError> {
        loop {
            let Some(event) = self.events.next().await else {
                return std::future::pending().await;
            };
            event.map_err(|error| ConfigWatchError {
                path: self.path.clone(),
                error,
            })?;
            // What comes together is looked at once.
            while self.events.next().now_or_never().flatten().is_some() {}
            let Ok(content) = std::fs::read(&self.path) else {
                continue;
            };
            let content = Some(content);
            if content != self.content {
                self.content = content;
                return Ok(());
            }
        }
    }
}
