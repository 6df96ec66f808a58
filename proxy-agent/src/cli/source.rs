//! Where Services come from.

use std::path::PathBuf;

use clap::Args;

use crate::source::{ApiOptions, Master, SERVICE_ACCOUNT};

/// Where Services come from: a folder of manifests, or the Kubernetes API.
#[derive(Debug, Args)]
#[command(next_help_heading = "Source")]
pub struct SourceArguments {
    /// Folder of Services, EndpointSlices and Nodes in YAML or JSON; watched. Without it, the source is the Kubernetes
    /// API.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["kubeconfig", "masters", "service_account", "service_proxy_name"]
    )]
    pub manifests: Option<PathBuf>,
    /// How the API is reached, and as whom. Without it, as the pod's service account.
    #[arg(long, value_name = "FILE", conflicts_with = "service_account")]
    pub kubeconfig: Option<PathBuf>,
    /// The API servers' own addresses, in the place of the kubeconfig's; the next is asked when one does not answer.
    /// Never a cluster IP: that is what this agent provides.
    #[arg(long = "master", value_name = "URL", value_delimiter = ',')]
    pub masters: Vec<Master>,
    /// Folder of the service account's token and ca.crt.
    #[arg(long, value_name = "DIR", default_value = SERVICE_ACCOUNT)]
    pub service_account: PathBuf,
    /// Serves the Services whose label service.kubernetes.io/service-proxy-name has this value, in the place of those
    /// without that label.
    #[arg(long, value_name = "NAME", value_parser = label_value)]
    pub service_proxy_name: Option<String>,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceChoice {
    /// A folder of manifests.
    Folder(PathBuf),
    /// The Kubernetes API.
    Api(ApiOptions),
}

impl SourceArguments {
    /// What was chosen.
    pub fn choice(&self) -> SourceChoice {
        match &self.manifests {
            Some(folder) => SourceChoice::Folder(folder.clone()),
            None => SourceChoice::Api(ApiOptions {
                kubeconfig: self.kubeconfig.clone(),
                masters: self.masters.clone(),
                service_account: self.service_account.clone(),
                service_proxy_name: self.service_proxy_name.clone(),
            }),
        }
    }
}

/// A value that a label can have: it becomes part of a selector.
fn label_value(text: &str) -> Result<String, String> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = [text.bytes().next(), text.bytes().next_back()];
    let is_framed = ends
        .into_iter()
        .all(|byte| byte.is_some_and(|byte| byte.is_ascii_alphanumeric()));
    if is_framed && text.len() <= 63 && text.bytes().all(is_inner) {
        Ok(text.to_owned())
    } else {
        Err("it is no value of a label: at most 63 letters, digits, `-`, `_`, `.`, the first and last a letter or \
             digit"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        source: SourceArguments,
    }

    fn choice(arguments: &[&str]) -> Result<SourceChoice, String> {
        Line::try_parse_from(["x"].iter().chain(arguments))
            .map(|line| line.source.choice())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_source_is_a_folder_or_the_api() {
        assert_eq!(
            choice(&["--manifests", "/m"]),
            Ok(SourceChoice::Folder("/m".into()))
        );
        assert_eq!(choice(&[]), Ok(SourceChoice::Api(ApiOptions::default())));
        let masters = ["https://10.0.0.1:6443", "https://10.0.0.2:6443"];
        let expected = ApiOptions {
            kubeconfig: Some("/k".into()),
            masters: masters.iter().map(|master| master.parse().unwrap()).collect(),
            service_proxy_name: Some("edge".into()),
            ..ApiOptions::default()
        };
        let line = ["--kubeconfig", "/k", "--service-proxy-name", "edge", "--master"];
        let all = masters.join(",");
        assert_eq!(
            choice(&[&line[..], &[&all]].concat()),
            Ok(SourceChoice::Api(expected))
        );
    }

    #[test]
    fn what_contradicts_itself_or_cannot_be_is_refused() {
        for (line, part) in [
            (&["--manifests", "/m", "--kubeconfig", "/k"][..], "--kubeconfig"),
            (&["--manifests", "/m", "--master", "https://a"], "--master"),
            (
                &["--manifests", "/m", "--service-proxy-name", "x"],
                "--service-proxy-name",
            ),
            (&["--master", "10.0.0.1"], "https://10.0.0.1:6443"),
            (&["--service-proxy-name", "a,b"], "no value of a label"),
            (&["--service-proxy-name", "a-"], "no value of a label"),
            (&["--service-proxy-name", ""], "no value of a label"),
        ] {
            let error = choice(line).unwrap_err();
            assert!(error.contains(part), "{line:?}: {error}");
        }
    }
}
