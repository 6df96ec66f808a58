//! The pages of the metrics server.

use std::sync::Arc;

use hyper::StatusCode;
use tokio::sync::watch;

use super::Metrics;
use crate::serve::Reply;

/// Where kube-proxy's metrics are looked for, on the loopback interface.
pub const PORT: u16 = 10249;
/// What /proxyMode says; to kube-proxy it is iptables, ipvs or nftables.
const MODE: &str = "shunt";
/// The text that prometheus-client writes.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Pages {
    /// For /metrics.
    pub metrics: Arc<Metrics>,
    /// The configuration that is in force, for /configz.
    pub configuration: watch::Receiver<serde_json::Value>,
}

impl Pages {
    /// Answers a path.
    pub fn page(&self, path: &str) -> Reply {
        match path {
            "/metrics" => self.metrics(),
            "/healthz" => Reply::text(StatusCode::OK, "ok"),
            "/proxyMode" => Reply::text(StatusCode::OK, MODE),
            "/configz" => Reply::json(StatusCode::OK, &*self.configuration.borrow()),
            _ => Reply::not_found(),
        }
    }

    fn metrics(&self) -> Reply {
        match self.metrics.text() {
            Ok(text) => Reply {
                content_type: CONTENT_TYPE,
                ..Reply::text(StatusCode::OK, text)
            },
            Err(error) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}
