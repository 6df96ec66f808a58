//! What can go wrong with an uninstallation.

/// Why a cluster was not cleaned.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// The API did not do it.
    #[error("{doing} DaemonSet {name}: {source}{}", way_out(.source))]
    Call {
        /// What was tried.
        doing: &'static str,
        /// Namespace and name.
        name: String,
        /// What the API says.
        #[source]
        source: Box<kube::Error>,
    },
    /// Its pods are not what is taken over.
    #[error(
        "DaemonSet {name} is not Shunt's: {reason}. Nothing was changed; name the right one with --namespace and --daemonset"
    )]
    Foreign {
        /// Namespace and name.
        name: String,
        /// What was looked for.
        reason: &'static str,
    },
    /// It was deleted before its nodes were clean.
    #[error(
        "the DaemonSet was deleted before every node was clean: clean the rest with `kubectl apply -k deploy/cleanup`"
    )]
    Deleted,
    /// The watch ended.
    #[error("the watch of the DaemonSet ended")]
    Ended,
}

impl UninstallError {
    pub(super) fn of_call(doing: &'static str, namespace: &str, name: &str, source: kube::Error) -> Self {
        Self::Call {
            doing,
            name: format!("{namespace}/{name}"),
            source: Box::new(source),
        }
    }
}

fn way_out(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.code == 404 => "; name it with --namespace and --daemonset",
        kube::Error::Api(status) if status.code == 403 => "; needs get, list, watch and patch of it",
        _ => "",
    }
}
