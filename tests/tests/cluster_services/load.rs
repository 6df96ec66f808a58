//! Calls without a pause, from pods and from outside, until they are ended; one that failed is an error.

use std::path::PathBuf;
use std::process::Child;

use anyhow::{Context, Result, ensure};

use crate::steps::Standing;

/// Prints a call's outcome as a line: `200` and nothing else if all is well.
fn call(options: &str) -> String {
    format!(
        "curl --silent --output /dev/null --max-time 10 --write-out '%{{http_code}} %{{errormsg}}\\n' {options}"
    )
}

/// How many calls there were.
fn count(outcomes: &str) -> Result<usize> {
    let failed: Vec<_> = outcomes.lines().filter(|line| line.trim() != "200").collect();
    let calls = outcomes.lines().count();
    ensure!(failed.is_empty(), "of {calls} calls failed: {failed:?}");
    Ok(calls)
}

/// The pod `client` calls the Service `server` by its name.
pub(crate) struct FromPod;

impl FromPod {
    pub(crate) fn start(standing: &Standing) -> Result<Self> {
        let one = call("http://server/hostname");
        let line = format!(
            "rm -f /tmp/end /tmp/ended; (while [ ! -e /tmp/end ]; do {one}; done > /tmp/calls; touch /tmp/ended) > /dev/null 2>&1 &"
        );
        standing.shell("client", &line)?;
        Ok(Self)
    }

    /// How many calls there were; one that failed is an error.
    pub(crate) fn end(self, standing: &Standing) -> Result<usize> {
        let line = "touch /tmp/end; while [ ! -e /tmp/ended ]; do sleep 0.1; done; cat /tmp/calls";
        count(&standing.shell("client", line)?)
    }
}

/// The client outside calls.
pub(crate) struct FromOutside {
    calls: Child,
    end: PathBuf,
    outcomes: PathBuf,
}

impl FromOutside {
    /// Starts with these options of curl.
    pub(crate) fn start(standing: &Standing, name: &str, options: &str) -> Result<Self> {
        let folder = standing.cluster.control_plane().folder();
        let (end, outcomes) = (folder.join(format!("{name}.end")), folder.join(name));
        let line = format!(
            "while [ ! -e {} ]; do {}; done > {}",
            end.display(),
            call(options),
            outcomes.display()
        );
        let mut shell = standing.outside.command("sh");
        shell.args(["-c", &line]);
        let calls = standing.outside.spawn(&mut shell)?;
        Ok(Self { calls, end, outcomes })
    }

    /// How many calls there were; one that failed is an error.
    pub(crate) fn end(mut self) -> Result<usize> {
        std::fs::write(&self.end, "").context("telling the client to end")?;
        self.calls.wait().context("waiting for the client")?;
        let said = std::fs::read_to_string(&self.outcomes).context("reading the calls' outcomes")?;
        for file in [&self.end, &self.outcomes] {
            std::fs::remove_file(file).with_context(|| format!("removing {}", file.display()))?;
        }
        count(&said)
    }
}
