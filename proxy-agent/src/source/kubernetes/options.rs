//! How the API is reached, as it is asked for.

use std::path::PathBuf;

use http::Uri;

/// Where a pod finds its service account's token and CA.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Which API, as whom, and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiOptions {
    /// A kubeconfig file; none: the service account's.
    pub kubeconfig: Option<PathBuf>,
    /// The API servers' own addresses; they take the place of the kubeconfig's.
    pub masters: Vec<Master>,
    /// Folder of the service account's `token` and `ca.crt`.
    pub service_account: PathBuf,
    /// Serve the Services that name this proxy, and no others.
    pub service_proxy_name: Option<String>,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            masters: Vec::new(),
            service_account: SERVICE_ACCOUNT.into(),
            service_proxy_name: None,
        }
    }
}

/// The address of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master(pub(super) Uri);

impl std::fmt::Display for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.to_string().trim_end_matches('/'))
    }
}

impl std::str::FromStr for Master {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let way_out = "write it as https://10.0.0.1:6443";
        let uri: Uri = text
            .trim()
            .parse()
            .map_err(|error| format!("it is no URL ({error}); {way_out}"))?;
        let host = uri.host().filter(|host| !host.is_empty());
        match (uri.scheme_str(), host) {
            (Some("https"), Some(_)) => Ok(Self(uri)),
            (Some("http"), Some(host)) if is_loopback(host) => Ok(Self(uri)),
            (Some("http"), Some(_)) => Err(format!(
                "without TLS credentials would be sent in clear text; {way_out}"
            )),
            _ => Err(format!("it is no URL of a server; {way_out}")),
        }
    }
}

/// The host of a URL as an address; none: it is a name.
pub(super) fn literal(host: &str) -> Option<std::net::IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || literal(host).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_a_url_with_tls() {
        let master = |text: &str| text.parse::<Master>().map(|master| master.to_string());
        for good in [
            "https://10.0.0.1:6443",
            "https://[fd00::1]:6443",
            "https://api.example.org",
            "http://127.0.0.1:8001",
        ] {
            assert_eq!(master(good).as_deref(), Ok(good));
        }
        for (wrong, why) in [
            ("10.0.0.1:6443", "no URL"),
            ("http://10.0.0.1:6443", "clear text"),
            ("", "no URL"),
            ("ftp://a", "no URL of a server"),
        ] {
            let error = master(wrong).unwrap_err();
            assert!(
                error.contains(why) && error.contains("https://10.0.0.1:6443"),
                "{wrong}: {error}"
            );
        }
    }
}
