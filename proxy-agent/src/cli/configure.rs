//! From the command line and the configuration file to what the agent does.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;

use crate::config::{self, Advice, Document, KubeProxyFlags, ServingFlags, Settings};
use crate::datapath::NodePortAddresses;

/// kube-proxy's configuration.
#[derive(Clone, Debug, Args)]
pub struct ConfigArguments {
    /// KubeProxyConfiguration (v1alpha1) of kube-proxy; watched. As with kube-proxy, its flags beside it are void, but for
    /// the node's name and those of the log.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// kube-proxy's flags.
    #[command(flatten)]
    pub flags: KubeProxyFlags,
}

/// What of the agent's configuration decides what becomes of calls.
#[derive(Clone, Debug, Args)]
pub struct ServingArguments {
    /// KubeProxyConfiguration (v1alpha1) of kube-proxy, as the agent has it; in the place of the flags of kube-proxy's here.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: ServingFlags,
}

impl ServingArguments {
    /// Reads what there is.
    pub fn read(&self) -> anyhow::Result<Settings> {
        let Some(file) = &self.config else {
            return self.flags.settings().map_err(|error| anyhow!(error));
        };
        if let Some(flag) = self.flags.given().first() {
            bail!(
                "--{flag} is void beside --config, as with kube-proxy: write it into {}, or leave one of both out",
                file.display()
            );
        }
        let (_, settings) = config::read(file)?;
        Ok(settings)
    }

    /// The first that was given.
    pub fn given(&self) -> Option<&'static str> {
        let file = self.config.as_ref().map(|_| "config");
        file.or_else(|| self.flags.given().first().copied())
    }
}

/// A configuration that is whole and good.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// As it was written.
    pub document: Document,
    /// What is made of it.
    pub settings: Settings,
}

impl ConfigArguments {
    /// Reads what there is.
    pub fn read(&self) -> anyhow::Result<Configuration> {
        let (document, settings) = match &self.config {
            Some(file) => self.read_file(file)?,
            None => self.flags.settings().map_err(|error| anyhow!(error))?,
        };
        Ok(Configuration { document, settings })
    }

    fn read_file(&self, file: &Path) -> anyhow::Result<(Document, Settings)> {
        let (mut document, _) = config::read(file)?;
        self.flags
            .put_over(&mut document)
            .map_err(|error| anyhow!(error))?;
        let settings = Settings::of_file(&document).map_err(|error| anyhow!(error));
        let settings = settings.context("the flags and the configuration together")?;
        Ok((document, settings))
    }

    /// Names what does nothing here, and what to do instead.
    pub fn advise(&self, document: &Document) {
        for Advice { field, what_to_do } in config::advise(document) {
            match self.flags.of_field(field).filter(|_| self.config.is_none()) {
                Some(flag) => tracing::warn!(flag, "--{flag} does nothing: {what_to_do}"),
                None => tracing::warn!(field, "{field} of the configuration does nothing: {what_to_do}"),
            }
        }
        let addresses = document.node_port_addresses.as_deref().unwrap_or_default();
        if let Some(family) = NodePortAddresses::unnamed_family(addresses) {
            tracing::warn!(
                field = "nodePortAddresses",
                "nodePortAddresses names no address of {family}: its NodePorts answer at all of the node's; add a network \
                 of that family to choose"
            );
        }
        for (flag, what_to_do) in self.flags.useless() {
            tracing::warn!(flag, "--{flag} does nothing: {what_to_do}");
        }
        if self.config.is_some() {
            for flag in self.flags.void_beside_file() {
                tracing::warn!(
                    flag,
                    "--{flag} is void beside --config, as with kube-proxy: write it into the file"
                );
            }
        }
    }
}
