//! `shunt agent`: everything put together.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use super::{AgentArguments, LogFormat, SourceChoice};
use crate::agent::{self, Reconciler, Surroundings};
use crate::datapath::Datapath;
use crate::source::{Batch, Folder, Kubernetes};

/// Logs to the standard error output; SHUNT_LOG chooses how much.
pub fn start_logging(format: LogFormat) {
    // The library tells of each attempt; the source tells of an outage.
    let default = || EnvFilter::new("info,kube_client=off,kube_runtime=off");
    let filter = EnvFilter::try_from_env("SHUNT_LOG").unwrap_or_else(|_| default());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // A log whose reader has gone must not end the agent: telling so on the same stream would panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
    }
}

/// Serves until SIGTERM or SIGINT, and leaves everything attached.
pub fn run_agent(arguments: &AgentArguments) -> anyhow::Result<()> {
    // One thread: nothing here is worth a second, and it stays in the network namespace of its start.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
        tokio::select! {
            result = serve(arguments) => result,
            _ = terminate.recv() => stop("SIGTERM"),
            _ = interrupt.recv() => stop("SIGINT"),
        }
    })
}

async fn serve(arguments: &AgentArguments) -> anyhow::Result<()> {
    let source = Source::prepare(arguments).await?;
    let datapath = Datapath::start(&arguments.datapath())?;
    let (grace, sweeps) = (datapath.grace(), datapath.sweeps());
    let (_serving, observer) = arguments.serve.start(&arguments.node_name, datapath.gauges())?;
    let reconciler = Reconciler::start(&arguments.node_name, datapath)?;
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
    async fn prepare(arguments: &AgentArguments) -> anyhow::Result<Self> {
        Ok(match arguments.source.choice() {
            SourceChoice::Folder(folder) => Self::Folder(Folder::watch(&folder)?),
            SourceChoice::Api(options) => Self::Api(Box::new(
                Kubernetes::prepare(&options, &arguments.node_name).await?,
            )),
        })
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
