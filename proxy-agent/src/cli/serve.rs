//! The HTTP servers that follow from the configuration, and what else of it can change while the agent runs.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::configure::Configuration;
use crate::agent::Observer;
use crate::announce::{Announcements, Announcer, Notice};
use crate::config::{GROUP, Settings};
use crate::datapath::Datapath;
use crate::health::{self, Health, NodeFitness};
use crate::health_check::HealthChecks;
use crate::metrics::{Metrics, Pages};
use crate::serve::{BindAddress, Failed, Server, Serving, ServingError, Watcher};
use crate::source::Status;

/// What others ask, and those who answer.
#[derive(Debug)]
pub(super) struct Telling {
    health: Health,
    metrics: Arc<Metrics>,
    configuration: watch::Sender<Value>,
    serving: Serving,
    announcer: Announcer,
}

impl Telling {
    /// Starts the servers, and gives them something that watches the run loop.
    pub(super) fn start(
        node_name: &str,
        without_node: NodeFitness,
        configuration: &Configuration,
        datapath: &Datapath,
        source: Option<Arc<Status>>,
        announcer: Announcer,
    ) -> Result<(Self, impl Observer + use<>), ServingError> {
        let health = Health::new(without_node);
        health.set_late(configuration.settings.late);
        health.follow_hooks(datapath.hooks());
        let metrics = Arc::new(Metrics::new(datapath.gauges(), source));
        let (sender, receiver) = watch::channel(in_force(node_name, configuration));
        let settings = &configuration.settings;
        let servers = servers(settings, &health, &metrics, &receiver, &announcer);
        let telling = Self {
            serving: Serving::start(servers, settings.must_bind)?,
            health: health.clone(),
            metrics: metrics.clone(),
            configuration: sender,
            announcer: announcer.clone(),
        };
        let answering = datapath.node_ports().answering();
        let health_checks = HealthChecks::new(&telling.serving, health.clone(), announcer.clone(), answering);
        let watcher = Watcher::new(node_name, without_node, health, metrics);
        let announcements = Announcements::new(announcer);
        Ok((telling, (watcher, (health_checks, announcements))))
    }

    /// Goes on with another configuration.
    pub(super) fn change(&self, node_name: &str, configuration: &Configuration) {
        self.health.set_late(configuration.settings.late);
        self.configuration
            .send_replace(in_force(node_name, configuration));
        let receiver = self.configuration.subscribe();
        let servers = servers(
            &configuration.settings,
            &self.health,
            &self.metrics,
            &receiver,
            &self.announcer,
        );
        self.serving.replace(servers);
    }
}

fn servers(
    settings: &Settings,
    health: &Health,
    metrics: &Arc<Metrics>,
    configuration: &watch::Receiver<Value>,
    announcer: &Announcer,
) -> Vec<Server> {
    let pages = Pages {
        metrics: metrics.clone(),
        configuration: configuration.clone(),
    };
    let (health, counts) = (health.clone(), metrics.clone());
    let failed = |name: &'static str, address: BindAddress| -> Option<Failed> {
        let announcer = announcer.clone();
        Some(Arc::new(move |error| {
            announcer.tell(Notice::of_server(name, &address.to_string(), error));
        }))
    };
    let healthz = settings.healthz.map(|address| Server {
        name: "healthz",
        address,
        handler: Arc::new(move |path| health::page(&health, &counts.health, path)),
        failed: failed("healthz", address),
    });
    let metrics = settings.metrics.map(|address| Server {
        name: "metrics",
        address,
        handler: Arc::new(move |path| pages.page(path)),
        failed: failed("metrics", address),
    });
    healthz.into_iter().chain(metrics).collect()
}

/// For /configz: what was written, and where the agent chose, what it chose.
fn in_force(node_name: &str, configuration: &Configuration) -> Value {
    let Configuration { document, settings } = configuration;
    let mut document = document.clone();
    let text =
        |address: Option<BindAddress>| Some(address.map_or_else(String::new, |address| address.to_string()));
    document.hostname_override = Some(node_name.to_owned());
    document.healthz_bind_address = text(settings.healthz);
    document.metrics_bind_address = text(settings.metrics);
    json!({ GROUP: document })
}
