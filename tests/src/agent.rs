//! A real agent on a node.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cgroup;
use crate::events::{Event, Events, Mark};
use crate::machine;
use crate::options::{Options, SocketLb, Xdp};
use crate::place::Place;
use crate::programs;

/// What the agent of a DaemonSet has, and so the lab's: what works here works there.
pub const CAPABILITIES: [&str; 3] = ["bpf", "net_admin", "perfmon"];

/// The agent of one node, and what it works on.
#[derive(Debug)]
pub struct Agent {
    /// Where it runs: the node's namespace, a cgroup of its own.
    place: Place,
    folder: PathBuf,
    instance: PathBuf,
    cgroup: PathBuf,
    options: Options,
    /// How it reaches the Kubernetes API; empty: its source is its folder.
    api: Vec<String>,
    map_memory: Option<&'static str>,
    /// Further switches.
    more: Vec<String>,
    is_next: bool,
    config: Option<PathBuf>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    events: Events,
}

impl Agent {
    /// One that does not run yet. `folder` gets its manifests and its log.
    pub(crate) fn new(
        place: Place,
        cgroup: &Path,
        folder: PathBuf,
        instance: PathBuf,
        options: Options,
    ) -> Result<Self> {
        let manifests = folder.join("manifests");
        std::fs::create_dir_all(&manifests).with_context(|| format!("making {}", manifests.display()))?;
        Ok(Self {
            place,
            folder,
            instance,
            cgroup: cgroup.to_owned(),
            options,
            api: Vec::new(),
            map_memory: None,
            more: Vec::new(),
            is_next: false,
            config: None,
            running: None,
        })
    }

    /// From its next start on, its source is the Kubernetes API, reached as these arguments say; its log tells of every
    /// change that is in the maps.
    pub fn use_api(&mut self, arguments: &[&str]) {
        self.api = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// From its next start on, this is its `--map-memory`.
    pub fn use_map_memory(&mut self, size: &'static str) {
        self.map_memory = Some(size);
    }

    /// From its next start on, it has these switches too.
    pub fn use_switches(&mut self, switches: &[&str]) {
        self.more = switches.iter().map(|switch| (*switch).to_owned()).collect();
    }

    /// From its next start on, this is its `--xdp`.
    pub fn use_xdp(&mut self, xdp: Xdp) {
        self.options.xdp = xdp;
    }

    /// From its next start on, this is its `--socket-lb`.
    pub fn use_socket_lb(&mut self, socket_lb: SocketLb) {
        self.options.socket_lb = socket_lb;
    }

    /// From its next start on, its programs are attached to the root of the whole kernel's cgroups, as on a real node: the
    /// kernel's own threads are there and nowhere else. One agent alone can be, and only in a machine of the test's own.
    pub fn use_root_cgroup(&mut self) -> Result<()> {
        ensure!(
            machine::is_own(),
            "this kernel is not the test's alone: `cargo xtask vm run` starts one that is"
        );
        self.cgroup = cgroup::root()?;
        Ok(())
    }

    /// From now on it is of the version with the next layout, or of this one again.
    pub fn use_next_layout(&mut self, is_next: bool) {
        self.is_next = is_next;
    }

    fn shunt(&self) -> Result<PathBuf> {
        if self.is_next {
            programs::shunt_next()
        } else {
            programs::shunt()
        }
    }

    /// Writes kube-proxy's configuration, with these fields, atomically. From its next start on it has this one; it follows
    /// the file while it runs.
    pub fn write_config(&mut self, fields: &str) -> Result<()> {
        let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
        let target = self.folder.join("config.yaml");
        let temporary = self.folder.join("config.yaml.new");
        std::fs::write(&temporary, format!("{head}{fields}"))
            .and_then(|()| std::fs::rename(&temporary, &target))
            .with_context(|| format!("writing {}", target.display()))?;
        self.config = Some(target);
        Ok(())
    }

    /// Starts it and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// Starts it.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(
            self.running.is_none(),
            "the agent of {} runs already",
            self.node()
        );
        let mut command = self.command()?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = self.place.spawn(&mut command)?;
        let stderr = child.stderr.take().context("the agent has no log")?;
        let events = Events::follow(stderr, &self.folder.join("agent.log"))?;
        self.running = Some(Running { child, events });
        Ok(())
    }

    /// Waits until it has installed what there is and attached everywhere.
    pub fn wait_ready(&self) -> Result<()> {
        let what = format!("the agent of {} to be ready", self.node());
        self.events()?
            .wait(Mark::START, &what, |event| event.message() == "ready")
            .map(drop)
    }

    fn command(&self) -> Result<Command> {
        let capabilities = CAPABILITIES.map(|name| format!(",+{name}")).concat();
        let mut command = self.place.command("setpriv");
        command
            .arg(format!("--inh-caps=-all{capabilities}"))
            .arg(format!("--bounding-set=-all{capabilities}"))
            .arg(self.shunt()?)
            .args(["agent", "--node-name", self.node(), "--log-format", "json"])
            .args([
                "--socket-lb",
                self.options.socket_lb.argument(),
                "--attach",
                self.options.attach.argument(),
                "--xdp",
                self.options.xdp.argument(),
            ])
            .arg("--instance")
            .arg(&self.instance)
            .arg("--cgroup")
            .arg(&self.cgroup);
        if let Some(size) = self.map_memory {
            command.args(["--map-memory", size]);
        }
        command.args(&self.more);
        if let Some(file) = &self.config {
            command.arg("--config").arg(file);
        }
        if self.api.is_empty() {
            command.arg("--manifests").arg(self.folder.join("manifests"));
        } else {
            command.args(&self.api).env(
                "SHUNT_LOG",
                "info,proxy_agent=debug,kube_client=off,kube_runtime=off",
            );
        }
        Ok(command)
    }

    /// Kills it, with no chance to do anything more.
    pub fn kill(&mut self) -> Result<()> {
        let mut running = self
            .running
            .take()
            .with_context(|| format!("no agent runs on {}", self.node()))?;
        running.child.kill().context("killing the agent")?;
        running.child.wait().context("waiting for the killed agent")?;
        Ok(())
    }

    /// Ends it as an operator would; it must exit with success.
    pub fn stop(&mut self) -> Result<()> {
        let mut running = self
            .running
            .take()
            .with_context(|| format!("no agent runs on {}", self.node()))?;
        kill(Pid::from_raw(running.child.id().cast_signed()), Signal::SIGTERM).context("ending the agent")?;
        let status = running.child.wait().context("waiting for the agent")?;
        ensure!(
            status.success(),
            "the agent of {} ended with {status}",
            self.node()
        );
        Ok(())
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The number of its process.
    pub fn process(&self) -> Result<u32> {
        let running = self.running.as_ref();
        let running = running.with_context(|| format!("no agent runs on {}", self.node()))?;
        Ok(running.child.id())
    }

    /// Bytes of its own memory that are resident.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process()?);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kibibytes
            .map(|kibibytes| kibibytes * 1024)
            .with_context(|| format!("{path} has no line VmRSS"))
    }

    /// One of its counters.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let counters = self.ask("drops")?;
        let entries = counters.as_array().context("drops are no list")?;
        let entry = entries.iter().find(|entry| entry["name"] == name);
        entry
            .and_then(|entry| entry["value"].as_u64())
            .with_context(|| format!("no counter {name}"))
    }

    /// Its events.
    pub fn events(&self) -> Result<&Events> {
        self.running
            .as_ref()
            .map(|running| &running.events)
            .with_context(|| format!("no agent runs on {}", self.node()))
    }

    /// Writes a manifest atomically and, if the agent runs, waits until the change is in the maps.
    pub fn apply(&self, file: &str, manifest: &str) -> Result<Option<Event>> {
        let mark = self.mark();
        self.write(file, manifest)?;
        self.wait_applied(file, mark)
    }

    /// Writes a manifest atomically.
    pub fn write(&self, file: &str, manifest: &str) -> Result<()> {
        let target = self.manifests().join(file);
        let temporary = self.folder.join(format!("{file}.new"));
        std::fs::write(&temporary, manifest)
            .and_then(|()| std::fs::rename(&temporary, &target))
            .with_context(|| format!("writing {}", target.display()))
    }

    /// Deletes a manifest and, if the agent runs, waits until the change is in the maps.
    pub fn delete(&self, file: &str) -> Result<Option<Event>> {
        let mark = self.mark();
        let target = self.manifests().join(file);
        std::fs::remove_file(&target).with_context(|| format!("deleting {}", target.display()))?;
        self.wait_applied(file, mark)
    }

    fn wait_applied(&self, file: &str, since: Mark) -> Result<Option<Event>> {
        let Some(running) = &self.running else {
            return Ok(None);
        };
        let what = format!("{} to have applied {file}", self.node());
        let matches = |event: &Event| event.message() == "applied" && event.lists("files", file);
        running.events.wait(since, &what, matches).map(Some)
    }

    /// Waits until the agent has attached to an interface, be it long ago. Without an agent there is nothing to wait for.
    pub(crate) fn wait_attached(&self, interface: &str, since: Mark) -> Result<()> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let what = format!("the agent of {} to attach to {interface}", self.node());
        let matches = |event: &Event| event.message() == "attached" && event.text("interface") == interface;
        running.events.wait(since, &what, matches).map(drop)
    }

    /// A point in its log.
    pub fn mark(&self) -> Mark {
        self.running
            .as_ref()
            .map_or(Mark::START, |running| running.events.mark())
    }

    /// The answer of `shunt VERB -o json` on this node.
    pub fn ask(&self, verb: &str) -> Result<Value> {
        let mut command = self.place.command(self.shunt()?);
        command
            .args([verb, "-o", "json", "--instance"])
            .arg(&self.instance);
        let output = self
            .place
            .namespace
            .run(|| command.output().context("starting shunt"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "shunt {verb} on {} failed: {said}",
            self.node()
        );
        serde_json::from_slice(&output.stdout).with_context(|| format!("shunt {verb} printed no JSON"))
    }

    /// The answer of `shunt doctor -o json` on this node, whatever it finds.
    pub fn doctor(&self) -> Result<Value> {
        let mut command = self.place.command(self.shunt()?);
        command
            .args(["doctor", "-o", "json", "--instance"])
            .arg(&self.instance)
            .arg("--cgroup")
            .arg(&self.cgroup);
        let output = self
            .place
            .namespace
            .run(|| command.output().context("starting shunt"))?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("shunt doctor printed no JSON: {output:?}"))
    }

    /// `shunt cleanup` on this node.
    pub fn clean_up(&self) -> Result<()> {
        let mut command = self.place.command(self.shunt()?);
        command.args(["cleanup", "--instance"]).arg(&self.instance);
        let output = self
            .place
            .namespace
            .run(|| command.output().context("starting shunt"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "shunt cleanup on {} failed: {said}",
            self.node()
        );
        Ok(())
    }

    /// A `shunt downgrade` on this node to the layout of a version, by the object that this one carries; not started yet.
    pub fn downgrade(&self, layout: u32, to: &Path) -> Result<Command> {
        let object = self.folder.join("older.o");
        let mut write = self.place.command(to);
        write.args(["object", "--output"]).arg(&object);
        let output = self
            .place
            .namespace
            .run(|| write.output().context("starting shunt"))?;
        ensure!(output.status.success(), "shunt object: {output:?}");
        let mut command = self.place.command(self.shunt()?);
        command
            .args(["downgrade", "--to", &layout.to_string(), "--object"])
            .arg(object)
            .args(["--attach", self.options.attach.argument()])
            .args(["--xdp", self.options.xdp.argument()])
            .arg("--instance")
            .arg(&self.instance)
            .arg("--cgroup")
            .arg(&self.cgroup);
        Ok(command)
    }

    /// Where it runs.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its bpffs directory.
    pub fn instance(&self) -> &Path {
        &self.instance
    }

    /// Its folder of manifests.
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    fn node(&self) -> &str {
        &self.place.name
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.is_running() {
            // The guardian ends it if this does not.
            drop(self.kill());
        }
    }
}
