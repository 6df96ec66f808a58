//! What a cloud's load balancer does for Services: it gives addresses, and leads what comes to them to the nodes.
//!
//! It follows the contract of Kubernetes' service controller: a finalizer while it has something to take away, addresses in
//! the Service's status, `externalTrafficPolicy: Local` by the nodes' health checks. Packets keep their addresses: the
//! nodes' proxies translate them.

mod routes;
mod wish;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::config::Kubeconfig;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;

use self::routes::Routes;
use self::wish::{Addresses, FINALIZER, Wish};

/// How often nodes' health checks are asked.
const PERIOD: Duration = Duration::from_millis(500);

/// The load balancer's own main function: it runs in the control plane's namespace, before this many nodes.
pub fn serve(kubeconfig: &Path, nodes: u8) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("preparing the load balancer")?;
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("reading the kubeconfig")?;
        let config = Config::try_from(kubeconfig).context("using the kubeconfig")?;
        let client = Client::try_from(config).context("preparing a client")?;
        Balancer {
            client,
            addresses: Addresses::default(),
            routes: Routes::new(nodes)?,
            services: BTreeMap::new(),
        }
        .run()
        .await
    })
}

struct Balancer {
    client: Client,
    addresses: Addresses,
    routes: Routes,
    /// By namespace and name.
    services: BTreeMap<String, Service>,
}

impl Balancer {
    async fn run(mut self) -> Result<()> {
        let all = Api::<Service>::all(self.client.clone());
        let mut events = watcher(all, watcher::Config::default()).default_backoff().boxed();
        let mut checks = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                event = events.next() => match event.context("the watch has ended")? {
                    Ok(event) => self.note(event).await,
                    Err(error) => eprintln!("load balancer: {error}"),
                },
                _ = checks.tick() => self.lead().await,
            }
        }
    }

    async fn note(&mut self, event: Event<Service>) {
        match event {
            Event::Init | Event::InitDone => {}
            Event::Apply(service) | Event::InitApply(service) => {
                if let Err(error) = self.serve(&service).await {
                    // Each of its changes is an event that brings it here again.
                    eprintln!("load balancer: {}: {error:#}", name(&service));
                }
                self.services.insert(name(&service), service);
            }
            Event::Delete(service) => {
                self.services.remove(&name(&service));
            }
        }
        self.lead().await;
    }

    /// Brings the Service's finalizer and status to what they should be.
    async fn serve(&mut self, service: &Service) -> Result<()> {
        let namespace = service.namespace().unwrap_or_default();
        let api = Api::<Service>::namespaced(self.client.clone(), &namespace);
        let wish = Wish::of(service);
        let addresses = self.addresses.of(service, wish);
        let has_finalizer = service.finalizers().iter().any(|name| name == FINALIZER);
        if wish == Wish::Serve && !has_finalizer {
            let others = service.finalizers().iter().map(String::as_str);
            let finalizers: Vec<_> = others.chain([FINALIZER]).collect();
            set_finalizers(&api, service, &finalizers).await?;
        }
        if wish != Wish::Foreign
            && wish::given(service) != addresses
            && service.metadata.deletion_timestamp.is_none()
        {
            let ingress: Vec<_> = addresses.iter().map(|address| json!({ "ip": address })).collect();
            let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}});
            api.patch_status(&service.name_any(), &PatchParams::default(), &Patch::Merge(patch))
                .await
                .context("telling the addresses")?;
        }
        if wish == Wish::Release && has_finalizer {
            let others = service.finalizers().iter().map(String::as_str);
            let finalizers: Vec<_> = others.filter(|name| *name != FINALIZER).collect();
            set_finalizers(&api, service, &finalizers).await?;
        }
        Ok(())
    }

    /// Leads what comes to the addresses to the nodes that want it now.
    async fn lead(&mut self) {
        let served = self
            .services
            .values()
            .filter(|service| Wish::of(service) == Wish::Serve);
        let served: Vec<_> = served
            .map(|service| (service, self.addresses.of_known(service)))
            .collect();
        if let Err(error) = self.routes.set(&served).await {
            eprintln!("load balancer: {error:#}");
        }
    }
}

async fn set_finalizers(api: &Api<Service>, service: &Service, finalizers: &[&str]) -> Result<()> {
    let patch = json!({"metadata": {"finalizers": finalizers}});
    let name = service.name_any();
    match api
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        // It was deleted meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).context("setting finalizers"),
    }
}

fn name(service: &Service) -> String {
    format!(
        "{}/{}",
        service.namespace().unwrap_or_default(),
        service.name_any()
    )
}
