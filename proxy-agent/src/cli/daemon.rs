//! `shunt agent`: everything put together.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::configure::Configuration;
use super::feed::Source;
use super::reload::Reloading;
use super::serve::Telling;
use super::{AgentArguments, LogFormat};
use crate::agent::{self, Reconciler, Surroundings};
use crate::announce::{self, Notice};
use crate::config::LogStyle;
use crate::datapath::Datapath;
use crate::log::{self, LogControl};

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
    let name = super::host_name()?;
    tracing::info!(name, "the node has the host's name");
    Ok(name)
}

/// Asks for an audit once in a while; never, if the time between two is nought.
fn audits(period: Duration) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    if !period.is_zero() {
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if sender.send(()).await.is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

async fn serve(
    arguments: &AgentArguments,
    configuration: Configuration,
    log: LogControl,
) -> anyhow::Result<()> {
    let node_name = node_name(arguments, &configuration)?;
    let source = Source::prepare(
        arguments.source.choice(),
        configuration.settings.kubeconfig.as_deref(),
        &node_name,
    )
    .await?;
    let settings = &configuration.settings;
    let datapath = Datapath::start(&arguments.datapath(settings))?;
    let (grace, sweeps) = (datapath.grace(), datapath.sweeps());
    let announcer = source.announcer(&node_name);
    announcer.tell(Notice::started());
    tokio::spawn(announce::tell_of_source_ports(
        datapath.source_ports(),
        announcer.clone(),
    ));
    let (telling, observer) = Telling::start(
        &node_name,
        source.without_node(),
        &configuration,
        &datapath,
        source.status(),
        announcer,
    )?;
    tokio::spawn(log.clone().tell_repeats());
    let external_ips = configuration
        .settings
        .external_ips(arguments.external_ips.as_ref());
    let detect_local = configuration.settings.local_mode.detect();
    let reloading = Reloading {
        arguments: arguments.config.clone(),
        node_name: node_name.clone(),
        configuration,
        telling,
        log,
        lives: datapath.lives(),
        node_ports: datapath.node_ports(),
    };
    let _reloading = reloading.start()?;
    let reconciler = Reconciler::start(&node_name, datapath)?
        .with_external_ips(external_ips)
        .with_forwarding(arguments.forwarding.forwarding)
        .with_exempt(arguments.forwarding.exempt())
        .with_detect_local(detect_local);
    let (sender, batches) = mpsc::channel(1);
    let source = tokio::spawn(source.run(sender));
    let grace = move || Ok(grace.wait()?);
    agent::run(
        reconciler,
        Surroundings {
            batches,
            grace,
            sweeps,
            audits: audits(arguments.audit_period.0),
            observer,
        },
    )
    .await?;
    source.await.context("watching the source")??;
    bail!("the watch of the source ended")
}

fn stop(signal: &str) -> anyhow::Result<()> {
    tracing::info!(signal, "stopped: programs and maps stay, traffic goes on");
    Ok(())
}
