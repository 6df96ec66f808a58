//! What the bench makes of the API.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::SystemTime;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::config::Kubeconfig;
use kube::{Client, Config};
use lab::Namespace;
use lab::cluster::ControlPlane;
use serde_json::{Value, json};

/// Requests at once.
const AT_ONCE: usize = 32;
/// Nodes that endpoints are on.
const NODES: usize = 100;
/// The node that the proxy runs on.
pub(super) const NODE: &str = "node-1";
/// Where all endpoints listen: the client's server, on the node itself, among them.
pub(crate) const SERVER: u16 = 8080;

/// A client of the API inside the control plane's namespace.
pub(crate) struct Api {
    kubeconfig: Kubeconfig,
    namespace: Namespace,
}

impl Api {
    pub(crate) fn of(plane: &ControlPlane) -> Result<Self> {
        Ok(Self {
            kubeconfig: Kubeconfig::read_from(plane.kubeconfig()).context("reading the kubeconfig")?,
            namespace: plane.place().namespace().clone(),
        })
    }

    /// Makes the Node, and the Services that are there before a proxy starts.
    pub(super) fn fill(&self, services: usize, endpoints: usize) -> Result<()> {
        self.run(async |client| make_node(&client).await)?;
        self.make(0..services, |number| addresses(number, endpoints))
    }

    /// Makes Services of these numbers, whose endpoints are at these addresses.
    pub(crate) fn make(
        &self,
        services: Range<usize>,
        endpoints: impl Fn(usize) -> Vec<Ipv4Addr> + Sync,
    ) -> Result<()> {
        self.run(async |client| {
            let make = |number| {
                let client = client.clone();
                let endpoints = endpoints(number);
                async move {
                    let name = format!("s{number}");
                    create(&client, SERVICES, &service(&name, cluster_ip(number))).await?;
                    create(&client, SLICES, &slice(&name, &endpoints)).await
                }
            };
            stream::iter(services.map(make))
                .buffer_unordered(AT_ONCE)
                .try_collect::<()>()
                .await
        })
    }

    /// Adds a Service whose endpoint is the server on the node. Tells when the API had answered that it has it whole.
    pub(super) fn add(&self, number: usize) -> Result<SystemTime> {
        let name = format!("added{number}");
        let endpoints = [lab::cluster::beside::ADDRESS];
        self.run(async |client| {
            create(&client, SERVICES, &service(&name, added_ip(number))).await?;
            create(&client, SLICES, &slice(&name, &endpoints)).await?;
            Ok(SystemTime::now())
        })
    }

    /// Removes it.
    pub(super) fn remove(&self, number: usize) -> Result<()> {
        self.run(async |client| {
            for path in [
                format!("{SERVICES}/added{number}"),
                format!("{SLICES}/added{number}{SUFFIX}"),
            ] {
                let request = http::Request::delete(path)
                    .body(Vec::new())
                    .context("a request")?;
                client
                    .request::<Value>(request)
                    .await
                    .context("removing a Service")?;
            }
            Ok(())
        })
    }

    fn run<T: Send>(&self, action: impl AsyncFnOnce(Client) -> Result<T> + Send) -> Result<T> {
        self.namespace.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let config = Config::try_from(self.kubeconfig.clone()).context("using the kubeconfig")?;
                action(Client::try_from(config).context("preparing a client")?).await
            })
        })
    }
}

/// What a slice's name has after its Service's.
const SUFFIX: &str = "-abcde";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// kube-proxy waits for its Node's addresses.
async fn make_node(client: &Client) -> Result<()> {
    create(
        client,
        "/api/v1/nodes",
        &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}),
    )
    .await?;
    let addresses = [json!({"type": "InternalIP", "address": lab::cluster::beside::ADDRESS})];
    let status = json!({"status": {"addresses": addresses}});
    let request = http::Request::patch(format!("/api/v1/nodes/{NODE}/status"))
        .header("content-type", "application/merge-patch+json")
        .body(serde_json::to_vec(&status).context("writing an object")?)
        .context("a request")?;
    client
        .request::<Value>(request)
        .await
        .context("giving the Node its address")
        .map(drop)
}

async fn create(client: &Client, path: &str, object: &Value) -> Result<()> {
    let body = serde_json::to_vec(object).context("writing an object")?;
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(body)
        .context("a request")?;
    client
        .request::<Value>(request)
        .await
        .context("creating an object")
        .map(drop)
}

/// The address of the Service of this number; its port is 80.
pub(crate) fn cluster_ip(number: usize) -> Ipv4Addr {
    address([10, 96, 4, 0], number)
}

/// Of a Service that is added.
pub(super) fn added_ip(number: usize) -> Ipv4Addr {
    address([10, 96, 240, 0], number)
}

fn addresses(service: usize, count: usize) -> Vec<Ipv4Addr> {
    (0..count)
        .map(|index| address([10, 128, 0, 0], service * count + index))
        .collect()
}

fn address(base: [u8; 4], offset: usize) -> Ipv4Addr {
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    Ipv4Addr::from_bits(Ipv4Addr::from(base).to_bits().wrapping_add(offset))
}

fn service(name: &str, address: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "clusterIP": address,
            "ports": [{"name": "http", "port": 80, "targetPort": SERVER}],
            "selector": {"app": name},
        },
    })
}

/// As the controller writes them.
fn slice(service: &str, addresses: &[Ipv4Addr]) -> Value {
    let endpoint = |address: &Ipv4Addr| {
        let node = format!("node-{}", address.to_bits() as usize % NODES);
        json!({
            "addresses": [address],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": node,
            "zone": "zone-1",
            "targetRef": {
                "kind": "Pod",
                "namespace": "default",
                "name": format!("{service}-{address}"),
                "uid": format!("00000000-0000-4000-8000-0000{:08x}", address.to_bits()),
            },
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}{SUFFIX}"),
            "labels": {
                "app": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": service,
            },
        },
        "addressType": "IPv4",
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": SERVER, "protocol": "TCP"}],
    })
}
