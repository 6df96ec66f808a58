//! The guardian: a process that outlives the lab's own, however that ends, and then removes what the lab made.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::programs;

/// Holds a pipe's end; when it closes, the guardian cleans.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts the guardian of the lab with this id.
    pub(crate) fn start(id: &str) -> Result<Self> {
        let child = Command::new(programs::lab()?)
            .args(["guard", id])
            .stdin(Stdio::piped())
            // A group of its own: an interrupt from the terminal is for the lab, not for its guardian.
            .process_group(0)
            .spawn()
            .context("starting the lab's guardian")?;
        Ok(Self { child })
    }

    /// Lets it clean, and waits for it.
    fn release(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().context("waiting for the lab's guardian")?;
        ensure!(
            status.success(),
            "the lab's guardian ended with {status}: parts of the lab may be left"
        );
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            eprintln!("lab: {error:#}");
        }
    }
}

/// The guardian's own main function: waits for the lab's end, then cleans.
pub fn guard(id: &str) -> Result<()> {
    let mut rest = Vec::new();
    std::io::stdin()
        .read_to_end(&mut rest)
        .context("reading from the lab")?;
    crate::clean(id)
}
