//! Why the API can't be the source.

use std::error::Error;
use std::path::PathBuf;

/// What keeps the agent from starting with the API as its source. What happens later is waited out.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The kubeconfig can't be used.
    #[error("can't use the kubeconfig {}: {message}", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The service account's files can't be used.
    #[error("can't use the service account in {}: {message}; outside a pod, give --kubeconfig FILE", folder.display())]
    ServiceAccount {
        /// Their folder.
        folder: PathBuf,
        /// What is wrong with them.
        message: String,
    },
    /// Only the address that this agent provides is known.
    #[error(
        "the API servers' own addresses are not known. What a pod is told ({told}) is a cluster IP, which this very \
         agent provides: a node that starts without it would never get it. Name them: --master \
         https://ADDRESS:6443[,https://...]; `kubectl get endpointslices -n default -l \
         kubernetes.io/service-name=kubernetes` shows them. Or give --kubeconfig FILE"
    )]
    OwnAddress {
        /// What the environment says.
        told: String,
    },
    /// Nothing was given.
    #[error(
        "it is not said where Services come from: give --manifests DIR, or --kubeconfig FILE, or in a pod --master URL"
    )]
    NoSource,
    /// Trust or credentials can't be used.
    #[error("can't prepare calls to the API server {server}: {message}")]
    Client {
        /// Its URL.
        server: String,
        /// What is wrong.
        message: String,
    },
}

/// An error and its causes, each text once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
