//! A long-running program of the cluster, with its log in a file.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::Place;

/// How long a program may take to get ready: seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often is looked whether it is. No event tells.
const PERIOD: Duration = Duration::from_millis(50);
/// How much of its log an error shows.
const TAIL: usize = 15;

/// It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it in the place; its output is appended to `NAME.log` in the folder.
    pub(crate) fn start(
        place: &Place,
        name: &str,
        program: &Path,
        arguments: &[String],
        logs: &Path,
    ) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let open = || {
            File::options()
                .append(true)
                .create(true)
                .open(&log)
                .with_context(|| format!("opening {}", log.display()))
        };
        let mut command = place.command(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?);
        let child = place.spawn(&mut command)?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// The root directory that it sees.
    pub(crate) fn root(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join("root")
    }

    /// Waits until the condition holds; that the program ends meanwhile is an error.
    pub(crate) fn wait_until(&mut self, what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            if let Some(status) = self.child.try_wait().context("asking for a process's end")? {
                bail!("{} ended with {status}:\n{}", self.name, self.tail());
            }
            if Instant::now() > deadline {
                bail!("{}: not {what} in {PATIENCE:?}:\n{}", self.name, self.tail());
            }
            std::thread::sleep(PERIOD);
        }
        Ok(())
    }

    /// Ends it as an operator would, and waits for its end.
    pub(crate) fn stop(mut self) -> Result<()> {
        let process = Pid::from_raw(self.child.id().cast_signed());
        kill(process, Signal::SIGTERM).with_context(|| format!("ending {}", self.name))?;
        let status = self
            .child
            .wait()
            .with_context(|| format!("waiting for {}", self.name))?;
        if !status.success() && status.signal() != Some(libc::SIGTERM) {
            bail!("{} ended with {status}:\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guardian ends it if this does not.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
