//! The Kubernetes API as the source.

mod access;
mod address;
mod cache;
mod error;
mod intern;
mod kind;
mod options;
mod outage;
mod servers;
mod watch;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cache::{Cache, Event, Family, Item};
use futures::FutureExt;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use intern::Interner;
use kube::runtime::watcher;
use tokio::sync::mpsc;
use wire::Wire;

use self::address::{Addresses, Server};
use self::kind::{Kind, Nodes, ServiceCidrs, Services, Slices};
use self::outage::Outage;
use self::servers::Servers;
use super::{Batch, Object, Status, Watched};

pub use error::ApiError;
pub use options::{ApiOptions, Master, SERVICE_ACCOUNT};

/// Holds once what objects that nobody else holds yet have in common, as is done with those of the API.
pub fn share<'a>(objects: impl IntoIterator<Item = &'a mut Object>) {
    let mut interner = Interner::default();
    objects.into_iter().for_each(|object| interner.object(object));
}

/// Events that are taken in one go; what is ready then makes one batch.
const MOST_EVENTS: usize = 512;
/// How long the look-up of a server's name may delay the start.
const LOOK_UP: Duration = Duration::from_secs(2);

/// The API, watched.
pub struct Kubernetes {
    servers: Servers,
    node_name: String,
    service_proxy_name: Option<String>,
    status: Arc<Status>,
    addresses: Addresses,
}

/// What a watch brought.
enum News {
    Objects(Family, Event),
    Failed(Watched, String),
}

type NewsStream = BoxStream<'static, News>;

impl Kubernetes {
    /// Prepares the watches of a node; must be called within a tokio runtime. What is wrong with options, files and
    /// certificates is an error; a server that does not answer yet is waited for.
    pub async fn prepare(options: &ApiOptions, node_name: &str) -> Result<Self, ApiError> {
        let status = Arc::<Status>::default();
        let servers = Servers::prepare(options, status.clone())?;
        let addresses = Addresses::new(resolve(servers.urls()).await);
        Ok(Self {
            servers,
            node_name: node_name.to_owned(),
            service_proxy_name: options.service_proxy_name.clone(),
            status,
            addresses,
        })
    }

    /// How it does.
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// A client for other calls, over the same servers and credentials.
    pub fn client(&self) -> kube::Client {
        self.servers.client()
    }

    /// Sends everything that there is as the first batch, and every change after it, until the receiver is gone.
    /// While the API can't be reached nothing is sent, and nothing is lost.
    pub async fn run(mut self, sender: mpsc::Sender<Batch>) {
        let mut news = self.watches();
        let mut cache = Cache::new(self.service_proxy_name.is_some());
        let mut outage = Outage::new(self.status.clone());
        let (mut has_node, mut has_ranges) = (false, false);
        loop {
            let is_synced = has_node
                && has_ranges
                && cache.is_synced(Family::Services)
                && cache.is_synced(Family::Slices);
            tokio::select! {
                first = news.next() => {
                    let ready = std::iter::from_fn(|| news.next().now_or_never().flatten());
                    for one in first.into_iter().chain(ready.take(MOST_EVENTS)) {
                        has_node |= settles(&one, Family::Node, Watched::Node);
                        has_ranges |= settles(&one, Family::ServiceCidrs, Watched::ServiceCidrs);
                        self.take(one, &mut cache);
                    }
                }
                permit = sender.reserve(), if is_synced && cache.has_batch() => {
                    let Ok(permit) = permit else { return };
                    let batch = cache.batch();
                    warn(self.addresses.see_changes(&batch.changes));
                    if !self.status.is_synced() {
                        tracing::info!(objects = batch.changes.len(), "received");
                        self.status.set_synced();
                    }
                    permit.send(batch);
                }
                () = outage.watch() => {}
                () = sender.closed() => return,
            }
        }
    }

    fn watches(&self) -> SelectAll<NewsStream> {
        let services = match &self.service_proxy_name {
            Some(name) => format!("service.kubernetes.io/service-proxy-name={name}"),
            None => "!service.kubernetes.io/service-proxy-name".to_owned(),
        };
        let services = watch::config(Some(&services), Some("spec.clusterIP!=None"));
        let slices = watch::config(Some("!service.kubernetes.io/headless"), None);
        let node = watch::config(None, Some(&format!("metadata.name={}", self.node_name)));
        let mut news = SelectAll::new();
        news.push(self.objects::<Services>(services, Watched::Services, Family::Services));
        news.push(self.objects::<Slices>(slices, Watched::Slices, Family::Slices));
        news.push(self.objects::<Nodes>(node, Watched::Node, Family::Node));
        let all = watch::config(None, None);
        news.push(self.objects::<ServiceCidrs>(all, Watched::ServiceCidrs, Family::ServiceCidrs));
        news
    }

    fn objects<K: Kind<Object = Object>>(
        &self,
        config: watcher::Config,
        watched: Watched,
        family: Family,
    ) -> NewsStream {
        let events = watch::watch::<K>(self.servers.client(), config, watched, self.status.clone());
        events
            .map(move |event| match event {
                Ok(event) => News::Objects(family, of_objects(event)),
                Err(error) => News::Failed(watched, watch::describe(&error)),
            })
            .boxed()
    }

    fn take(&mut self, news: News, cache: &mut Cache) {
        match news {
            News::Objects(family, event) => {
                if let Event::Listed(item) | Event::Changed(item) = &event
                    && let Ok(Object::ServiceCidr(cidr)) = &item.object
                {
                    warn(self.addresses.see_ranges(cidr));
                }
                cache.take(family, event);
            }
            News::Failed(watched, error) => {
                tracing::debug!(watched = watched.name(), error, "a watch failed")
            }
        }
    }
}

/// Whether it is known of these objects what there is to know: all of it, or that it is not given to us for now. The Node decides
/// between endpoints, and nothing should be programmed twice for it; but neither it nor ServiceCIDRs are worth waiting for.
fn settles(news: &News, family: Family, watched: Watched) -> bool {
    match news {
        News::Objects(other, Event::End) => *other == family,
        News::Failed(other, _) => *other == watched,
        News::Objects(..) => false,
    }
}

fn of_objects<K: Kind<Object = Object>>(event: watcher::Event<Wire<K>>) -> Event {
    match event {
        watcher::Event::Init => Event::Begin,
        watcher::Event::InitApply(wire) => Event::Listed(item(wire)),
        watcher::Event::InitDone => Event::End,
        watcher::Event::Apply(wire) => Event::Changed(item(wire)),
        watcher::Event::Delete(wire) => Event::Gone {
            namespace: wire.metadata.namespace.unwrap_or_default(),
            name: wire.metadata.name.unwrap_or_default(),
        },
    }
}

fn item<K: Kind<Object = Object>>(wire: Wire<K>) -> Item {
    Item {
        namespace: wire.metadata.namespace.unwrap_or_default(),
        name: wire.metadata.name.unwrap_or_default(),
        version: wire.metadata.resource_version.unwrap_or_default(),
        object: wire.object,
    }
}

/// The addresses that the servers' names stand for, as far as they can be told at the start.
async fn resolve(urls: Vec<String>) -> Vec<Server> {
    let mut servers = Vec::new();
    for url in urls {
        let host = url.parse::<http::Uri>().ok();
        let host = host.as_ref().and_then(|url| url.host()).unwrap_or_default();
        let addresses = match options::literal(host) {
            Some(address) => vec![address],
            None => look_up(host).await,
        };
        servers.push(Server { url, addresses });
    }
    servers
}

async fn look_up(host: &str) -> Vec<IpAddr> {
    match tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((host, 0))).await {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

fn warn(warnings: Vec<String>) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}
