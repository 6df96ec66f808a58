//! The lab for hand use: up, status, exec, down.

use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// A standing lab's state file, which ends the lab if the test fails before it does.
struct State(PathBuf);

impl State {
    fn lab(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(lab::programs::lab()?);
        command
            .args(arguments)
            .env("SHUNT_LAB_STATE", &self.0)
            .output()
            .context("starting the lab's program")
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.0.exists() {
            drop(self.lab(&["down"]));
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_standing_lab_serves_until_it_is_taken_down() -> Result<()> {
    let state = State(std::env::temp_dir().join(format!("shunt-standing-{}.json", std::process::id())));
    ensure!(text(&state.lab(&["status"])?).contains("no lab stands"));
    let up = state.lab(&["up", "--style", "bridge", "--socket-lb", "host-only"])?;
    ensure!(up.status.success(), "{}", text(&up));
    ensure!(text(&up).contains("bridge/host-only"), "{}", text(&up));

    let call = [
        "exec",
        "client",
        "--",
        "curl",
        "--silent",
        "--http0.9",
        "--max-time",
        "1",
        "http://203.0.113.10",
    ];
    let answer = text(&state.lab(&call)?);
    ensure!(
        answer.starts_with("name="),
        "the Service does not answer: {answer}"
    );
    let failed = state.lab(&["exec", "n1", "--", "sh", "-c", "exit 7"])?;
    ensure!(
        failed.status.code() == Some(7),
        "the program's exit code is lost: {}",
        failed.status
    );
    let unknown = text(&state.lab(&["exec", "nowhere", "--", "true"])?);
    ensure!(
        unknown.contains("no nowhere, but client, n1, n2, a, b, c"),
        "{unknown}"
    );
    let twice = text(&state.lab(&["up"])?);
    ensure!(twice.contains("stands already"), "{twice}");

    let down = state.lab(&["down"])?;
    ensure!(down.status.success(), "{}", text(&down));
    ensure!(text(&state.lab(&["status"])?).contains("no lab stands"));
    Ok(())
}
