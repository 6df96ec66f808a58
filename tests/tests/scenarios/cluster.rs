//! A folder of manifests that changes, and the agent's stages from its watch to maps on paper.

use std::path::PathBuf;

use clap::Parser;
use lab::scenario::{Paper, Section, Step, content};
use proxy_agent::agent::{MapWriter, Reconciler};
use proxy_agent::config::ServingFlags;
use proxy_agent::explain::{Place, World};
use proxy_agent::model::ExternalIps;
use proxy_agent::plan::Forwarding;
use proxy_agent::source::{Batch, Folder, read_folder};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// The node that all scenarios look from, unless they have one of its name.
const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: here, labels: {topology.kubernetes.io/zone: z1}}
spec: {podCIDRs: [10.4.0.0/16, 'fd04::/16']}
status: {addresses: [{type: InternalIP, address: 10.1.0.1}, {type: InternalIP, address: 'fd01::1'}]}
";

/// A cluster as its manifests say.
pub(crate) struct Cluster {
    runtime: Runtime,
    folder: PathBuf,
    batches: mpsc::Receiver<Batch>,
    reconciler: Reconciler<Paper>,
    place: Place,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The agent's flags that a scenario can have.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Flags {
    #[arg(long, default_value = "all")]
    external_ips: ExternalIps,
    #[arg(long, value_enum, default_value_t)]
    forwarding: Forwarding,
    #[command(flatten)]
    serving: ServingFlags,
}

/// The node, with what the agent's flags say of it.
fn place(lines: &[String]) -> Result<Place, String> {
    let words = lines.iter().flat_map(|line| line.split_whitespace());
    let flags = Flags::try_parse_from(words).map_err(text)?;
    let settings = flags.serving.settings()?;
    Ok(Place {
        node: "here".to_owned(),
        external_ips: flags.external_ips,
        forwarding: flags.forwarding,
        node_ports: settings.node_ports,
        local_mode: settings.local_mode,
        ..Place::default()
    })
}

impl Cluster {
    /// One whose agent has these flags.
    pub(crate) fn new(flags: &[String]) -> Result<Self, String> {
        let place = place(flags)?;
        let name = format!(
            "shunt-scenario-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).map_err(text)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(text)?;
        let (sender, batches) = mpsc::channel(1);
        let watch = runtime.block_on(async { Folder::watch(&folder) }).map_err(text)?;
        runtime.spawn(watch.run(sender));
        let mut cluster = Self {
            runtime,
            folder,
            batches,
            reconciler: Reconciler::start(&place.node, Paper::default())
                .map_err(text)?
                .with_external_ips(place.external_ips.clone())
                .with_forwarding(place.forwarding)
                .with_detect_local(place.local_mode.detect()),
            place,
        };
        // The folder as it was found: empty.
        cluster.take(0)?;
        let node = Section {
            name: "node".to_owned(),
            text: NODE.to_owned(),
        };
        cluster.change(&Step {
            manifests: vec![node],
            ..Step::default()
        })?;
        Ok(cluster)
    }

    /// Changes the manifests of a step one after another; what the agent says of them.
    pub(crate) fn change(&mut self, step: &Step) -> Result<Vec<String>, String> {
        let mut told = Vec::new();
        for name in &step.removed {
            std::fs::remove_file(self.file(name)).map_err(|error| format!("{name}: {error}"))?;
            told.extend(self.take(1)?);
        }
        for section in &step.manifests {
            let beside = self.folder.join("next");
            std::fs::write(&beside, &section.text).map_err(text)?;
            std::fs::rename(beside, self.file(&section.name)).map_err(text)?;
            told.extend(self.take(1)?);
        }
        told.sort();
        told.dedup();
        Ok(told)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.yaml"))
    }

    /// Takes what the watch hears of so many files, to the end of what follows from it.
    fn take(&mut self, files: usize) -> Result<Vec<String>, String> {
        let mut told = Vec::new();
        let mut heard = 0;
        loop {
            let batch = self.runtime.block_on(self.batches.recv());
            let batch = batch.ok_or("the watch of the folder ended")?;
            heard += batch.files.len().max(batch.refusals.len());
            told.extend(batch.refusals.iter().map(ToString::to_string));
            let mut done = self
                .reconciler
                .take(batch.changes, batch.has_unread_files)
                .map_err(text)?;
            while self.reconciler.has_more() {
                self.reconciler.go_on().map_err(text)?;
            }
            if let Some(token) = done.token.take() {
                self.reconciler.grace_passed(token);
                self.reconciler.swept(token).map_err(text)?;
            }
            told.extend(self.reconciler.warnings().iter().map(ToString::to_string));
            for (service, check) in self.reconciler.health_check_changes() {
                told.push(match check {
                    Some(check) => format!(
                        "health check of {service} at {}: {} ready here",
                        check.port, check.endpoints
                    ),
                    None => format!("health check of {service}: none"),
                });
            }
            if heard >= files {
                return Ok(told);
            }
        }
    }

    /// The maps' content. What came of the changes must be what comes of all at once.
    pub(crate) fn maps(&mut self) -> Result<String, String> {
        let maps = content(&self.reconciler.maps().snapshot().map_err(text)?);
        let is_refused = !read_folder(&self.folder).map_err(text)?.refusals.is_empty();
        if is_refused {
            // What was good before stands, which a first reading does not know.
            return Ok(maps);
        }
        let at_once = content(&self.world()?.snapshot());
        if maps == at_once {
            Ok(maps)
        } else {
            Err(format!(
                "after the changes the maps hold\n{maps}\nand of all at once comes\n{at_once}"
            ))
        }
    }

    /// The same cluster, read as a whole.
    pub(crate) fn world(&self) -> Result<World, String> {
        World::read(&self.folder, &self.place).map_err(text)
    }
}
