//! One HTTP server: bound with patience, short with its clients.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::connections::Connections;
use super::{BindAddress, Reply};

/// How long a connection may take, from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at one time; a health check or a scrape needs one for a moment.
const MOST_CONNECTIONS: usize = 64;
/// Most that a request's head may take.
const MOST_HEAD: usize = 16 << 10;
/// First pause before an address that could not be bound is tried again; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before an address that could not be bound is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Answers a path.
pub type Handler = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

/// An HTTP server that answers GET and HEAD, one request a connection.
#[derive(Clone)]
pub struct Server {
    /// What it is for, in the log.
    pub name: &'static str,
    /// Where it listens.
    pub address: BindAddress,
    /// What it answers.
    pub handler: Handler,
    /// Is told when it can't listen.
    pub failed: Option<Failed>,
}

/// Told why a server can't listen.
pub type Failed = Arc<dyn Fn(&io::Error) + Send + Sync>;

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.address)
    }
}

impl Server {
    /// Tries to listen.
    pub(crate) fn listen(&self) -> io::Result<StdListener> {
        self.address.listen()
    }

    /// The listener, or word of why there is none.
    pub(super) fn tell(&self, listener: io::Result<StdListener>) -> Option<StdListener> {
        listener.map_err(|error| self.complain(&error)).ok()
    }

    /// Says why it can't listen, and what to do.
    fn complain(&self, error: &io::Error) {
        if let Some(failed) = &self.failed {
            failed(error);
        }
        tracing::error!(
            server = self.name,
            address = %self.address,
            %error,
            "can't listen there: it is tried again, and all else goes on. {}",
            way_out(error)
        );
    }

    /// Listens and serves until it is dropped. The task that had the address before may not have let it go yet.
    pub(super) async fn begin(self) {
        tokio::task::yield_now().await;
        let listener = self.tell(self.listen());
        self.run(listener).await;
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self, listener: Option<StdListener>) {
        let listener = match listener {
            Some(listener) => listener,
            None => self.bind().await,
        };
        match TcpListener::from_std(listener) {
            Ok(listener) => self.accept(listener).await,
            Err(error) => self.complain(&error),
        }
    }

    /// Listens as soon as that is possible.
    async fn bind(&self) -> StdListener {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            match self.listen() {
                Ok(listener) => return listener,
                Err(error) => self.complain(&error),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn accept(self, listener: TcpListener) {
        tracing::info!(server = self.name, address = %self.address, "listening");
        let mut connections = Connections::new(MOST_CONNECTIONS);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let exchange = exchange(stream, self.handler.clone());
                    let task = tokio::spawn(tokio::time::timeout(PATIENCE, exchange));
                    connections.add(task.abort_handle());
                }
                // Of this one connection, or no descriptor is free: neither ends the server.
                Err(error) => {
                    tracing::debug!(server = self.name, %error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "Another program has this port, kube-proxy perhaps: stop it, or give another address"
        }
        io::ErrorKind::AddrNotAvailable => "The node has no such address: give one that it has",
        io::ErrorKind::PermissionDenied => "Ports below 1024 need CAP_NET_BIND_SERVICE: give a higher one",
        _ => "Give another address",
    }
}

/// One request and its answer. What goes wrong on the way is the client's affair.
async fn exchange(stream: TcpStream, handler: Handler) {
    let service = service_fn(move |request: Request<Incoming>| {
        let reply = answer(&request, &handler);
        async move { Ok::<_, Infallible>(reply.into_response()) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MOST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::trace!(%error, "a client went wrong");
    }
}

fn answer(request: &Request<Incoming>, handler: &Handler) -> Reply {
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return handler(request.uri().path());
    }
    let mut reply = Reply::text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n");
    reply.headers.push((ALLOW, HeaderValue::from_static("GET, HEAD")));
    reply
}
