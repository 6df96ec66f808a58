//! Calls to whichever API server answers.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceBuilder};

use super::access;
use super::error::{ApiError, chain};
use super::options::ApiOptions;
use crate::source::Status;

/// How long a server may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// A connection is looked after when it was silent for so long, and given up after [`DEAD`].
const SILENT: Duration = Duration::from_secs(10);
/// A server that acknowledges nothing for so long is dead.
const DEAD: Duration = Duration::from_secs(25);
/// Credentials are read again no more often than this.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// All API servers as one. The one that answered last is asked first.
#[derive(Clone)]
pub(super) struct Servers(Arc<Inner>);

struct Inner {
    options: ApiOptions,
    status: Arc<Status>,
    servers: Mutex<Arc<[Server]>>,
    current: AtomicUsize,
    read: Mutex<Instant>,
}

struct Server {
    url: String,
    client: Client,
}

/// No server answered.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoAnswer(String);

impl Servers {
    /// Prepares the calls; nothing is sent yet.
    pub(super) fn prepare(options: &ApiOptions, status: Arc<Status>) -> Result<Self, ApiError> {
        Ok(Self(Arc::new(Inner {
            servers: Mutex::new(read(options)?),
            options: options.clone(),
            status,
            current: AtomicUsize::new(0),
            read: Mutex::new(Instant::now()),
        })))
    }

    /// As a client for any calls.
    pub(super) fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// Their URLs.
    pub(super) fn urls(&self) -> Vec<String> {
        let servers = self.0.servers();
        servers.iter().map(|server| server.url.clone()).collect()
    }
}

impl Service<Request<Body>> for Servers {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = self.0.clone();
        async move { inner.call(request).await }.boxed()
    }
}

impl Inner {
    fn servers(&self) -> Arc<[Server]> {
        self.servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let Some(again) = copy(&request) else {
            return Ok(self.call_any(request).await?);
        };
        let before = self.servers();
        let response = self.call_any(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.read_again();
            if !Arc::ptr_eq(&before, &self.servers()) {
                return Ok(self.call_any(again).await?);
            }
        }
        Ok(response)
    }

    /// Asks one server after the other until one answers, beginning with the one that answered last.
    async fn call_any(&self, request: Request<Body>) -> Result<Response<Body>, NoAnswer> {
        let servers = self.servers();
        let first = self.current.load(Relaxed);
        let mut errors = Vec::new();
        let mut next = Some(request);
        for turn in 0..servers.len() {
            let Some(request) = next.take() else { break };
            next = copy(&request);
            let index = (first + turn) % servers.len();
            let server = &servers[index];
            match ask(server, request).await {
                Ok(response) => {
                    self.status.set_server(&server.url);
                    if self.current.swap(index, Relaxed) != index {
                        tracing::info!(server = server.url, "another API server answers");
                    }
                    return Ok(response);
                }
                Err(error) => errors.push(format!("{}: {error}", server.url)),
            }
        }
        // Certificates may have been replaced.
        self.read_again();
        Err(NoAnswer(errors.join("; ")))
    }

    /// Reads credentials and certificates again, unless that was just done; what can't be read leaves what there was.
    fn read_again(&self) {
        {
            let mut last = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() < READ_AGAIN {
                return;
            }
            *last = Instant::now();
        }
        match read(&self.options) {
            Ok(servers) => {
                *self.servers.lock().unwrap_or_else(PoisonError::into_inner) = servers;
            }
            Err(error) => tracing::debug!(%error, "credentials can't be read again"),
        }
    }
}

async fn ask(server: &Server, request: Request<Body>) -> Result<Response<Body>, String> {
    match tokio::time::timeout(ANSWER, server.client.send(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("it did not answer within {} s", ANSWER.as_secs())),
    }
}

/// A second copy of a request that may be sent twice.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    if request.method() != Method::GET {
        return None;
    }
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

fn read(options: &ApiOptions) -> Result<Arc<[Server]>, ApiError> {
    access::load(options)?.iter().map(server).collect()
}

fn server(config: &Config) -> Result<Server, ApiError> {
    let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let client = client(config).map_err(|error| ApiError::Client {
        server: url.clone(),
        message: chain(&error),
    })?;
    Ok(Server { url, client })
}

fn client(config: &Config) -> kube::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(SILENT));
    connector.set_keepalive_interval(Some(SILENT / 2));
    connector.set_keepalive_retries(Some(3));
    connector.set_tcp_user_timeout(Some(DEAD));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let calls = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(calls);
    Ok(Client::new(service, "default"))
}
