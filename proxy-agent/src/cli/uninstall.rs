//! `shunt uninstall`: what `helm uninstall` runs first.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::source::{ApiOptions, Kubernetes, Master};
use crate::uninstall;

/// Which DaemonSet of which cluster.
#[derive(Debug, Args)]
pub struct UninstallArguments {
    /// How the API is reached, and as whom. Without it, as the pod's service account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The API servers' own addresses, in the place of the kubeconfig's.
    #[arg(long = "master", value_name = "URL", value_delimiter = ',')]
    masters: Vec<Master>,
    /// The namespace of the DaemonSet.
    #[arg(long, value_name = "NAME", default_value = "kube-system")]
    namespace: String,
    /// The DaemonSet whose pods are the agents.
    #[arg(long, value_name = "NAME", default_value = "shunt")]
    daemonset: String,
}

/// Cleans every node; the DaemonSet itself is left to whoever made it.
pub fn run_uninstall(writer: &mut impl Write, arguments: &UninstallArguments) -> anyhow::Result<()> {
    let options = ApiOptions {
        kubeconfig: arguments.kubeconfig.clone(),
        masters: arguments.masters.clone(),
        ..ApiOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Kubernetes::prepare(&options, "").await?.client();
        let mut told = Ok(());
        let tell = |progress: uninstall::Progress| {
            told = writeln!(writer, "{} of {} nodes are clean", progress.clean, progress.all);
        };
        uninstall::run(client, &arguments.namespace, &arguments.daemonset, tell)
            .await
            .context("uninstalling")?;
        Ok(told?)
    })
}
