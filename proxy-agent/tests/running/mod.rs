//! The binary `shunt` as it runs on a node.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::place::Place;

/// An agent that runs, ended with the test.
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) log: Option<Lines<BufReader<ChildStderr>>>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Agent {
    #[allow(dead_code, reason = "not every test runs an agent without more switches")]
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    /// With more switches.
    pub(crate) fn start_with(place: &Place, switches: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
        command.args([
            "agent",
            "--node-name",
            "here",
            "--log-format",
            "json",
            "--manifests",
        ]);
        command
            .arg(&place.manifests)
            .arg("--instance")
            .arg(&place.instance);
        command.args(switches);
        command.arg("--cgroup").arg(&place.cgroup).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            log: Some(log),
        }
    }

    /// The next event of this name.
    pub(crate) fn wait(&mut self, message: &str) -> Value {
        self.wait_with("message", message)
    }

    /// The next event with this field.
    pub(crate) fn wait_with(&mut self, field: &str, value: &str) -> Value {
        let mut events = self.until_with(field, value);
        events.pop().unwrap_or_default()
    }

    /// All events up to the next of this name.
    #[allow(
        dead_code,
        reason = "not every test that runs an agent looks at what lies between"
    )]
    pub(crate) fn until(&mut self, message: &str) -> Vec<Value> {
        self.until_with("message", message)
    }

    fn until_with(&mut self, field: &str, value: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        for line in self.log.as_mut().unwrap().map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let is_wanted = event[field] == value;
            seen.push(event);
            if is_wanted {
                return seen;
            }
        }
        panic!("the log ended without {field} {value}: {seen:#?}");
    }

    /// Waits for it to end by itself: how it ended, and its log.
    #[allow(dead_code, reason = "not every test that runs an agent has it fail")]
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let lines: Vec<String> = self.log.take().unwrap().map_while(Result::ok).collect();
        (self.child.wait().unwrap(), lines.join("\n"))
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

/// Runs a command on the place's instance, to its end.
#[allow(dead_code, reason = "not every test that runs an agent asks it something")]
pub(crate) fn shunt(place: &Place, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    command.args(arguments).arg("--instance").arg(&place.instance);
    command.output().unwrap()
}

/// Puts a manifest into the folder as a whole.
pub(crate) fn write(place: &Place, file: &str, text: &str) {
    let beside = place.manifests.join(format!("{file}.new"));
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, place.manifests.join(file)).unwrap();
}
