//! kubectl, as the cluster's administrator.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

use super::binaries::binary;
use crate::Namespace;

/// Runs kubectl where the API server is reached.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) namespace: Namespace,
    pub(crate) kubeconfig: PathBuf,
}

impl Client {
    /// Runs kubectl with this input, and returns what it prints.
    pub fn output(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut kubectl = self.command()?;
        kubectl
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .namespace
            .run(|| kubectl.spawn().context("starting kubectl"))?;
        let mut stdin = child.stdin.take().context("kubectl has no input")?;
        stdin.write_all(input.as_bytes()).context("writing to kubectl")?;
        drop(stdin);
        let output = child.wait_with_output().context("waiting for kubectl")?;
        ensure!(
            output.status.success(),
            "kubectl {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).context("kubectl prints no text")
    }

    /// Runs kubectl on the terminal.
    pub fn run(&self, arguments: &[String]) -> Result<ExitStatus> {
        let mut kubectl = self.command()?;
        kubectl.args(arguments);
        let mut child = self
            .namespace
            .run(|| kubectl.spawn().context("starting kubectl"))?;
        child.wait().context("waiting for kubectl")
    }

    /// Runs a shell's line in this directory, with kubectl among its programs, and returns what it prints.
    pub fn shell(&self, line: &str, directory: &Path) -> Result<String> {
        let kubectl = binary("kubectl")?;
        let programs = kubectl.parent().unwrap_or(Path::new("/")).display();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .current_dir(directory)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.home())
            .env("PATH", format!("{programs}:/usr/sbin:/usr/bin:/sbin:/bin"))
            .stdin(Stdio::null());
        let output = self
            .namespace
            .run(|| shell.output().context("starting a shell"))?;
        ensure!(
            output.status.success(),
            "{line} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).with_context(|| format!("{line} prints no text"))
    }

    /// Its kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    fn command(&self) -> Result<Command> {
        let mut kubectl = Command::new(binary("kubectl")?);
        kubectl
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.home());
        Ok(kubectl)
    }

    fn home(&self) -> &Path {
        self.kubeconfig.parent().unwrap_or(Path::new("/"))
    }
}
