//! A changed configuration file: taken over as far as that can be while the agent runs, or refused as a whole.

use tokio::task::JoinHandle;

use super::configure::{ConfigArguments, Configuration};
use super::serve::Telling;
use crate::config::{ConfigWatch, ConfigWatchError, Settings};
use crate::datapath::{Lives, NodePorts};
use crate::log::LogControl;

/// Everything that follows a configuration.
pub(super) struct Reloading {
    pub(super) arguments: ConfigArguments,
    pub(super) node_name: String,
    pub(super) configuration: Configuration,
    pub(super) telling: Telling,
    pub(super) log: LogControl,
    pub(super) lives: Lives,
    pub(super) node_ports: NodePorts,
}

/// Follows until it is dropped.
pub(super) struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Reloading {
    /// Follows the file, if there is one.
    pub(super) fn start(self) -> Result<Following, ConfigWatchError> {
        let watch = self
            .arguments
            .config
            .as_deref()
            .map(ConfigWatch::start)
            .transpose()?;
        Ok(Following(tokio::spawn(self.run(watch))))
    }

    async fn run(mut self, watch: Option<ConfigWatch>) {
        let Some(mut watch) = watch else {
            return std::future::pending().await;
        };
        loop {
            if let Err(error) = watch.changed().await {
                tracing::error!(%error, "changes of the configuration are seen no more: restart the agent");
                return std::future::pending().await;
            }
            self.take_over();
        }
    }

    fn take_over(&mut self) {
        let new = match self.arguments.read() {
            Ok(new) => new,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "the changed configuration is refused: the old one stands");
                return;
            }
        };
        self.arguments.advise(&new.document);
        for field in need_restart(&self.configuration.settings, &new.settings) {
            tracing::warn!(
                field,
                "{field} has changed: it holds once the agent is restarted, which costs no traffic"
            );
        }
        self.log.set_verbosity(new.settings.verbosity);
        if let Err(error) = self.lives.set(new.settings.lives) {
            tracing::error!(%error, "the lives of flows stay as they were");
        }
        if let Err(error) = self.node_ports.set(&new.settings.node_ports) {
            tracing::error!(%error, "NodePorts answer where they did");
        }
        self.telling.change(&self.node_name, &new);
        self.configuration = new;
        tracing::info!("the changed configuration holds");
    }
}

/// Fields that can't be changed while the agent runs.
fn need_restart(old: &Settings, new: &Settings) -> impl Iterator<Item = &'static str> {
    let changed = [
        (old.node_name != new.node_name, "hostnameOverride"),
        (old.kubeconfig != new.kubeconfig, "clientConnection.kubeconfig"),
        (old.log_style != new.log_style, "logging.format"),
        (old.must_bind != new.must_bind, "bindAddressHardFail"),
        (old.local_mode != new.local_mode, "detectLocalMode"),
        (
            old.has_external_ips != new.has_external_ips,
            "featureGates.AllowServiceExternalIPs",
        ),
    ];
    changed
        .into_iter()
        .filter(|(changed, _)| *changed)
        .map(|(_, field)| field)
}
