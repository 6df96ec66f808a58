//! The source of Services as the command line chose it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::SourceChoice;
use crate::announce::Announcer;
use crate::health::NodeFitness;
use crate::source::{Batch, Folder, Kubernetes, Status};

/// A source that is about to be watched.
pub(super) enum Source {
    Folder(Folder),
    Api(Box<Kubernetes>),
}

impl Source {
    /// Reaches for the source that was chosen; `configured` is the kubeconfig that a configuration names.
    pub(super) async fn prepare(
        choice: SourceChoice,
        configured: Option<&std::path::Path>,
        node_name: &str,
    ) -> anyhow::Result<Self> {
        Ok(match choice {
            SourceChoice::Folder(folder) => {
                if configured.is_some() {
                    let field = "clientConnection.kubeconfig";
                    tracing::warn!(field, "{field} does nothing: --manifests is the source");
                }
                Self::Folder(Folder::watch(&folder)?)
            }
            SourceChoice::Api(mut options) => {
                options.kubeconfig = options.kubeconfig.or_else(|| configured.map(Into::into));
                Self::Api(Box::new(Kubernetes::prepare(&options, node_name).await?))
            }
        })
    }

    /// Where events go.
    pub(super) fn announcer(&self, node_name: &str) -> Announcer {
        match self {
            Self::Folder(_) => Announcer::nowhere(),
            Self::Api(api) => Announcer::start(api.client(), node_name),
        }
    }

    /// How the API answers.
    pub(super) fn status(&self) -> Option<Arc<Status>> {
        match self {
            Self::Folder(_) => None,
            Self::Api(api) => Some(api.status()),
        }
    }

    /// What a node is that has no Node object: a folder need not have one.
    pub(super) fn without_node(&self) -> NodeFitness {
        match self {
            Self::Folder(_) => NodeFitness::Eligible,
            Self::Api(_) => NodeFitness::Unknown,
        }
    }

    /// Sends batches until the receiver is gone.
    pub(super) async fn run(self, sender: mpsc::Sender<Batch>) -> anyhow::Result<()> {
        match self {
            Self::Folder(folder) => folder.run(sender).await?,
            Self::Api(api) => api.run(sender).await,
        }
        Ok(())
    }
}
