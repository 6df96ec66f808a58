//! From options to what it takes to call each API server: read anew whenever credentials may have changed.

use std::path::Path;

use kube::Config;
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};

use super::error::{ApiError, chain};
use super::options::{ApiOptions, Master};

/// The configuration of each server, in the order in which they are tried.
pub(super) fn load(options: &ApiOptions) -> Result<Vec<Config>, ApiError> {
    let config = match &options.kubeconfig {
        Some(file) => of_kubeconfig(file)?,
        None => of_service_account(options)?,
    };
    if options.masters.is_empty() {
        return Ok(vec![config]);
    }
    let with_url = |Master(url): &Master| {
        let mut config = config.clone();
        config.cluster_url = url.clone();
        config
    };
    Ok(options.masters.iter().map(with_url).collect())
}

fn of_kubeconfig(file: &Path) -> Result<Config, ApiError> {
    let wrong = |message: String| ApiError::Kubeconfig {
        file: file.to_owned(),
        message,
    };
    let kubeconfig = Kubeconfig::read_from(file).map_err(|error| wrong(chain(&error)))?;
    check(&kubeconfig).map_err(wrong)?;
    let config = Config::try_from(kubeconfig).map_err(|error| wrong(chain(&error)))?;
    if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
        return Err(wrong(
            "its certificate authority holds no certificate in PEM".into(),
        ));
    }
    Ok(config)
}

/// What would otherwise be passed over in silence.
fn check(kubeconfig: &Kubeconfig) -> Result<(), String> {
    let current = kubeconfig.current_context.as_deref().unwrap_or_default();
    let mut contexts = kubeconfig.contexts.iter();
    let context = contexts.find(|context| context.name == current);
    let Some(context) = context.and_then(|named| named.context.as_ref()) else {
        let names: Vec<_> = kubeconfig.contexts.iter().map(|context| &*context.name).collect();
        return Err(format!(
            "it has no context `{current}`, which its current-context names; it has: {}",
            names.join(", ")
        ));
    };
    if let Some(user) = &context.user
        && !kubeconfig.auth_infos.iter().any(|info| info.name == *user)
    {
        return Err(format!(
            "it has no user `{user}`, which its context `{current}` names"
        ));
    }
    let mut clusters = kubeconfig.clusters.iter();
    let cluster = clusters.find(|cluster| cluster.name == context.cluster);
    let cluster = cluster.and_then(|named| named.cluster.as_ref()).ok_or_else(|| {
        format!(
            "it has no cluster `{}`, which its context `{current}` names",
            context.cluster
        )
    })?;
    if cluster.proxy_url.is_some() {
        return Err("proxy-url is not supported: name a server that is reached directly".into());
    }
    Ok(())
}

/// The token and the CA are read from their files again and again: they are rotated.
fn of_service_account(options: &ApiOptions) -> Result<Config, ApiError> {
    let folder = &options.service_account;
    let [token, ca] = ["token", "ca.crt"].map(|name| folder.join(name));
    let Some(master) = options.masters.first() else {
        return Err(without_address(&token));
    };
    let wrong = |message: String| ApiError::ServiceAccount {
        folder: folder.clone(),
        message,
    };
    for file in [&token, &ca] {
        std::fs::metadata(file).map_err(|error| wrong(format!("{}: {error}", file.display())))?;
    }
    let text = |path: &Path| Some(path.display().to_string());
    let name = "service-account".to_owned();
    let kubeconfig = Kubeconfig {
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(Cluster {
                server: Some(master.to_string()),
                certificate_authority: text(&ca),
                ..Cluster::default()
            }),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(AuthInfo {
                token_file: text(&token),
                ..AuthInfo::default()
            }),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(Context {
                cluster: name.clone(),
                user: Some(name.clone()),
                ..Context::default()
            }),
            ..NamedContext::default()
        }],
        current_context: Some(name),
        ..Kubeconfig::default()
    };
    let mut config = Config::try_from(kubeconfig).map_err(|error| wrong(chain(&error)))?;
    if config.root_cert.as_ref().is_none_or(Vec::is_empty) {
        return Err(wrong(format!("{} holds no certificate in PEM", ca.display())));
    }
    config.root_cert_file = Some(ca);
    Ok(config)
}

fn without_address(token: &Path) -> ApiError {
    match std::env::var("KUBERNETES_SERVICE_HOST") {
        Ok(host) => ApiError::OwnAddress {
            told: format!("KUBERNETES_SERVICE_HOST={host}"),
        },
        Err(_) if token.exists() => ApiError::OwnAddress {
            told: "KUBERNETES_SERVICE_HOST".into(),
        },
        Err(_) => ApiError::NoSource,
    }
}
