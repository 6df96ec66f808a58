//! `shunt agent`: everything put together.

use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::configure::Configuration;
use super::reload::Reloading;
use super::serve::Telling;
use super::{AgentArguments, LogFormat, SourceChoice};
use crate::agent::{self, Reconciler, Surroundings};
use crate::announce::{Announcer, Notice};
use crate::config::LogStyle;
use crate::datapath::Datapath;
use crate::health::NodeFitness;
use crate::log::{self, LogControl};
use crate::model::ExternalIps;
use crate::source::{Batch, Folder, Kubernetes, Status};

/// Serves until SIGTERM or SIGINT, and leaves everything attached.
pub fn run_agent(arguments: &AgentArguments) -> anyhow::Result<()> {
    let configuration = arguments.config.read()?;
    let log = log::start(
        log_style(arguments, &configuration),
        configuration.settings.verbosity,
    );
    arguments.config.advise(&configuration.document);
    // One thread: nothing here is worth a second, and it stays in the network namespace of its start.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
        tokio::select! {
            result = serve(arguments, configuration, log) => result,
            _ = terminate.recv() => stop("SIGTERM"),
            _ = interrupt.recv() => stop("SIGINT"),
        }
    })
}

fn log_style(arguments: &AgentArguments, configuration: &Configuration) -> LogStyle {
    let given = arguments.log_format.map(|format| match format {
        LogFormat::Text => LogStyle::Text,
        LogFormat::Json => LogStyle::Json,
    });
    given
        .or(configuration.settings.log_style)
        .unwrap_or(LogStyle::Text)
}

/// As kube-proxy: what is given, else the host's name in small letters.
fn node_name(arguments: &AgentArguments, configuration: &Configuration) -> anyhow::Result<String> {
    let given = arguments
        .node_name
        .as_ref()
        .or(configuration.settings.node_name.as_ref());
    if let Some(name) = given {
        return Ok(name.clone());
    }
    let name = nix::unistd::gethostname().context("reading the host's name; give --node-name")?;
    let name = name.to_string_lossy().trim().to_lowercase();
    tracing::info!(name, "the node has the host's name");
    Ok(name)
}

fn external_ips(arguments: &AgentArguments, configuration: &Configuration) -> ExternalIps {
    let given = arguments.external_ips.clone();
    given.unwrap_or(if configuration.settings.has_external_ips {
        ExternalIps::All
    } else {
        ExternalIps::NONE
    })
}

async fn serve(
    arguments: &AgentArguments,
    configuration: Configuration,
    log: LogControl,
) -> anyhow::Result<()> {
    let node_name = node_name(arguments, &configuration)?;
    let source = Source::prepare(arguments, &configuration, &node_name).await?;
    let datapath = Datapath::start(&arguments.datapath(configuration.settings.lives))?;
    let (grace, sweeps) = (datapath.grace(), datapath.sweeps());
    let announcer = source.announcer(&node_name);
    announcer.tell(Notice::started());
    let (telling, observer) = Telling::start(
        &node_name,
        source.without_node(),
        &configuration,
        datapath.gauges(),
        source.status(),
        announcer,
    )?;
    tokio::spawn(log.clone().tell_repeats());
    let external_ips = external_ips(arguments, &configuration);
    let reloading = Reloading {
        arguments: arguments.config.clone(),
        node_name: node_name.clone(),
        configuration,
        telling,
        log,
        lives: datapath.lives(),
    };
    let _reloading = reloading.start()?;
    let reconciler = Reconciler::start(&node_name, datapath)?.with_external_ips(external_ips);
    let (sender, batches) = mpsc::channel(1);
    let source = tokio::spawn(source.run(sender));
    let grace = move || Ok(grace.wait()?);
    agent::run(
        reconciler,
        Surroundings {
            batches,
            grace,
            sweeps,
            observer,
        },
    )
    .await?;
    source.await.context("watching the source")??;
    bail!("the watch of the source ended")
}

/// Where Services come from.
enum Source {
    Folder(Folder),
    Api(Box<Kubernetes>),
}

impl Source {
    async fn prepare(
        arguments: &AgentArguments,
        configuration: &Configuration,
        node_name: &str,
    ) -> anyhow::Result<Self> {
        let configured = &configuration.settings.kubeconfig;
        Ok(match arguments.source.choice() {
            SourceChoice::Folder(folder) => {
                if configured.is_some() {
                    let field = "clientConnection.kubeconfig";
                    tracing::warn!(field, "{field} does nothing: --manifests is the source");
                }
                Self::Folder(Folder::watch(&folder)?)
            }
            SourceChoice::Api(mut options) => {
                options.kubeconfig = options.kubeconfig.or_else(|| configured.clone());
                Self::Api(Box::new(Kubernetes::prepare(&options, node_name).await?))
            }
        })
    }

    /// Where events go.
    fn announcer(&self, node_name: &str) -> Announcer {
        match self {
            Self::Folder(_) => Announcer::nowhere(),
            Self::Api(api) => Announcer::start(api.client(), node_name),
        }
    }

    /// How the API answers.
    fn status(&self) -> Option<Arc<Status>> {
        match self {
            Self::Folder(_) => None,
            Self::Api(api) => Some(api.status()),
        }
    }

    /// What a node is that has no Node object: a folder need not have one.
    fn without_node(&self) -> NodeFitness {
        match self {
            Self::Folder(_) => NodeFitness::Eligible,
            Self::Api(_) => NodeFitness::Unknown,
        }
    }

    async fn run(self, sender: mpsc::Sender<Batch>) -> anyhow::Result<()> {
        match self {
            Self::Folder(folder) => folder.run(sender).await?,
            Self::Api(api) => api.run(sender).await,
        }
        Ok(())
    }
}

fn stop(signal: &str) -> anyhow::Result<()> {
    tracing::info!(signal, "stopped: programs and maps stay, traffic goes on");
    Ok(())
}
