//! The switches of the HTTP servers, and the servers that follow from them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::datapath::gauges::Gauges;
use crate::health::{self, Health, NodeFitness};
use crate::metrics::{self, Metrics, Pages};
use crate::serve::{AddressError, BindAddress, Server, Serving, ServingError, Watcher};

/// Where others ask how the agent gets on.
#[derive(Clone, Debug, Args)]
pub struct ServeArguments {
    /// Where /healthz and /livez are; empty: nowhere. Not given: port 10256 of every address of the node.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = healthz_address)]
    healthz_bind_address: Option<Bind>,
    /// Where /metrics, /proxyMode and /configz are; empty: nowhere. Not given: 127.0.0.1:10249.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = metrics_address)]
    metrics_bind_address: Option<Bind>,
}

/// An address, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bind(Option<BindAddress>);

fn healthz_address(text: &str) -> Result<Bind, AddressError> {
    BindAddress::parse(text, health::PORT).map(Bind)
}

fn metrics_address(text: &str) -> Result<Bind, AddressError> {
    BindAddress::parse(text, metrics::PORT).map(Bind)
}

impl ServeArguments {
    fn healthz(&self) -> Option<BindAddress> {
        self.healthz_bind_address
            .map_or(Some(BindAddress::Everywhere(health::PORT)), |bind| bind.0)
    }

    fn metrics(&self) -> Option<BindAddress> {
        let usual = BindAddress::At(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), metrics::PORT));
        self.metrics_bind_address.map_or(Some(usual), |bind| bind.0)
    }

    /// For /configz, in the form of KubeProxyConfiguration.
    fn configuration(&self, node_name: &str) -> Value {
        let text =
            |address: Option<BindAddress>| address.map_or_else(String::new, |address| address.to_string());
        json!({
            "kubeproxy.config.k8s.io": {
                "hostnameOverride": node_name,
                "healthzBindAddress": text(self.healthz()),
                "metricsBindAddress": text(self.metrics()),
            }
        })
    }

    /// Starts the servers that are asked for, and gives them something that watches the run loop.
    pub fn start(&self, node_name: &str, gauges: Gauges) -> Result<(Serving, Watcher), ServingError> {
        // A folder need not have a Node.
        let without_node = NodeFitness::Eligible;
        let health = Health::new(without_node);
        let metrics = Arc::new(Metrics::new(gauges));
        let (_, configuration) = watch::channel(self.configuration(node_name));
        let pages = Pages {
            metrics: metrics.clone(),
            configuration,
        };
        let watcher = Watcher::new(node_name, without_node, health.clone(), metrics.clone());
        let healthz = self.healthz().map(|address| Server {
            name: "healthz",
            address,
            handler: Arc::new(move |path| health::page(&health, &metrics.health, path)),
        });
        let metrics = self.metrics().map(|address| Server {
            name: "metrics",
            address,
            handler: Arc::new(move |path| pages.page(path)),
        });
        let serving = Serving::start(healthz.into_iter().chain(metrics).collect(), false)?;
        Ok((serving, watcher))
    }
}
