//! What keeps standing between commands is held by a process of its own, and written down in a file.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::wait;
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clean;

/// How long all of it may take to go: seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often is looked whether it has gone. No event tells once its holder was killed.
const PERIOD: Duration = Duration::from_millis(20);
/// The verb by which a program becomes a holder.
const HOLD: &str = "hold";

/// A kind of what stands: the lab or the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// As messages and `cargo xtask` call it.
    pub(crate) name: &'static str,
    /// Where it is written down.
    pub(crate) file: &'static str,
    /// The variable that names another file, so that a test has one of its own.
    pub(crate) variable: &'static str,
}

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record<S> {
    pub(crate) id: String,
    /// The process that holds it.
    process: i32,
    #[serde(flatten)]
    pub(crate) state: S,
}

/// The part of a record that every kind has.
#[derive(Debug, Deserialize)]
struct Anything {}

impl Kind {
    /// Starts a process that holds one, and waits until it stands.
    pub(crate) fn up(self, program: &Path, arguments: &[impl AsRef<OsStr>]) -> Result<()> {
        self.must_not_stand()?;
        let name = self.name;
        // The holder outlives this process: what it kept of its output, a reader of that would wait for.
        let log = std::env::temp_dir().join(format!("shunt-{name}-{}.log", std::process::id()));
        let errors = std::fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut holder = Command::new(program)
            .arg(HOLD)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting the {name}'s holder"))?;
        let stdout = holder
            .stdout
            .take()
            .with_context(|| format!("the {name}'s holder says nothing"))?;
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .with_context(|| format!("reading from the {name}'s holder"))?;
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        // Its file lives as long as the holder has it open.
        std::fs::remove_file(&log).with_context(|| format!("removing {}", log.display()))?;
        ensure!(
            line == self.stands(),
            "the {name} does not stand: {}",
            said.trim()
        );
        Ok(())
    }

    /// Fails if one stands.
    pub(crate) fn must_not_stand(self) -> Result<()> {
        let name = self.name;
        match self.read::<Anything>()? {
            Some(record) => bail!(
                "the {name} {} stands already: `cargo xtask {name} down` first",
                record.id
            ),
            None => Ok(()),
        }
    }

    /// The holder's own main function: starts one, writes it down and keeps it until it is told to end, or is killed.
    pub(crate) fn hold<T, S: Serialize>(
        self,
        start: impl FnOnce() -> Result<T>,
        describe: impl FnOnce(&T) -> (String, S),
    ) -> Result<()> {
        // Before any thread starts, so that all of them leave the signal to this one.
        let ends = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        ends.thread_block().context("waiting for signals")?;
        // Processes whose parents end become this one's children: nobody else need take note of their ends.
        set_child_subreaper(true).context("becoming the parent of orphans")?;
        let held = start()?;
        let (id, state) = describe(&held);
        let process = std::process::id().try_into().context("a process id")?;
        self.write(&Record { id, process, state })?;
        print!("{}", self.stands());
        std::io::stdout()
            .flush()
            .with_context(|| format!("telling that the {} stands", self.name))?;
        ends.wait().context("waiting for a signal")?;
        drop(held);
        while wait().is_ok() {}
        self.forget()
    }

    /// Ends what stands, and waits until nothing of it is left.
    pub(crate) fn down(self) -> Result<()> {
        let name = self.name;
        let record = self
            .read::<Anything>()?
            .with_context(|| format!("no {name} stands"))?;
        if is_holder(record.process) {
            match kill(Pid::from_raw(record.process), Signal::SIGTERM) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).with_context(|| format!("ending the {name}'s holder")),
            }
        }
        let deadline = Instant::now() + PATIENCE;
        // The holder removes the file last. Without its holder, the guardian has cleaned, and its folder last.
        while self.file().exists() {
            if !is_holder(record.process) && !clean::folder(&record.id).exists() {
                self.forget()?;
            }
            ensure!(
                Instant::now() < deadline,
                "the {name} {} is not gone in {PATIENCE:?}; its holder is the process {}",
                record.id,
                record.process
            );
            std::thread::sleep(PERIOD);
        }
        println!("the {name} {} is gone", record.id);
        Ok(())
    }

    /// What stands, if something does.
    pub(crate) fn read<S: DeserializeOwned>(self) -> Result<Option<Record<S>>> {
        let file = self.file();
        match std::fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("reading {}", file.display()))
                .map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }

    /// What stands; that nothing does is an error.
    pub(crate) fn standing<S: DeserializeOwned>(self) -> Result<Record<S>> {
        self.read()?.with_context(|| self.nothing())
    }

    /// Says that nothing stands, and the way to have it.
    pub(crate) fn nothing(self) -> String {
        format!("no {0} stands: `cargo xtask {0} up`", self.name)
    }

    fn stands(self) -> String {
        format!("the {} stands\n", self.name)
    }

    fn file(self) -> PathBuf {
        std::env::var_os(self.variable).map_or_else(|| self.file.into(), PathBuf::from)
    }

    fn write<S: Serialize>(self, record: &Record<S>) -> Result<()> {
        let text =
            serde_json::to_string_pretty(record).with_context(|| format!("describing the {}", self.name))?;
        let file = self.file();
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
    }

    fn forget(self) -> Result<()> {
        match std::fs::remove_file(self.file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.file().display()))
            }
            _ => Ok(()),
        }
    }
}

/// Whether this process lives and is a holder, not another that got its number later. One that has ended has no command line.
fn is_holder(process: i32) -> bool {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).nth(1) == Some(HOLD.as_bytes())
}
