//! The thread of the servers: they answer while the run loop is busy, so that a stuck one is told from a busy one.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

use super::{BindAddress, Server};

/// Why there are no servers.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The thread could not be started.
    #[error("starting the thread of the HTTP servers: {0}")]
    Thread(#[source] io::Error),
    /// The address can't be bound, and that was to end the agent.
    #[error("the {name} server can't listen at {address}: {error}")]
    Bind {
        /// Which server.
        name: &'static str,
        /// Where.
        address: String,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// Servers that run; dropping it ends them.
#[derive(Debug)]
pub struct Serving {
    runtime: Handle,
    wanted: Option<UnboundedSender<Vec<Server>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Serving {
    /// Starts servers in the calling thread's network namespace. An address that can't be bound is tried again and
    /// again, unless `must_bind`.
    pub fn start(servers: Vec<Server>, must_bind: bool) -> Result<Self, ServingError> {
        let bound: Vec<Bound> = servers
            .into_iter()
            .map(|server| bind(server, must_bind))
            .collect::<Result<_, _>>()?;
        let (wanted, changes) = mpsc::unbounded_channel();
        // The runtime lives and dies on its own thread: in the caller's it could be dropped among the caller's tasks.
        let (told, outcome) = std::sync::mpsc::sync_channel(1);
        let body = move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                drop(told.send(Ok(runtime.handle().clone())));
                runtime.block_on(serve(bound, changes));
            }
            Err(error) => drop(told.send(Err(error))),
        };
        let thread = thread::Builder::new().name("serve".to_owned()).spawn(body);
        let thread = thread.map_err(ServingError::Thread)?;
        let gone = |_| io::Error::other("it ended at once");
        let built = outcome.recv().map_err(gone).flatten();
        Ok(Self {
            runtime: built.map_err(ServingError::Thread)?,
            wanted: Some(wanted),
            thread: Some(thread),
        })
    }

    /// Where more servers can run.
    pub fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// These servers in the place of those that run. One whose address is the same goes on.
    pub fn replace(&self, servers: Vec<Server>) {
        if let Some(wanted) = &self.wanted {
            // It fails only after a panic of the thread, which is told of when this is dropped.
            drop(wanted.send(servers));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.wanted.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the HTTP servers panicked");
        }
    }
}

/// A server and its listener; none: to be tried again.
type Bound = (Server, Option<TcpListener>);

fn bind(server: Server, must_bind: bool) -> Result<Bound, ServingError> {
    match server.listen() {
        Err(error) if must_bind => Err(ServingError::Bind {
            name: server.name,
            address: server.address.to_string(),
            error,
        }),
        result => {
            let listener = server.tell(result);
            Ok((server, listener))
        }
    }
}

/// Serves until nobody can want anything else any more.
async fn serve(bound: Vec<Bound>, mut changes: UnboundedReceiver<Vec<Server>>) {
    let start = |(server, listener): Bound| {
        let (name, address) = (server.name, server.address);
        (name, (address, tokio::spawn(server.run(listener))))
    };
    let mut running = Running(bound.into_iter().map(start).collect());
    while let Some(servers) = changes.recv().await {
        running.replace(servers);
    }
}

/// The servers that run, by their names.
struct Running(HashMap<&'static str, (BindAddress, JoinHandle<()>)>);

impl Running {
    fn replace(&mut self, servers: Vec<Server>) {
        self.0.retain(|name, (address, task)| {
            let stays = servers
                .iter()
                .any(|server| server.name == *name && server.address == *address);
            if !stays {
                task.abort();
            }
            stays
        });
        for server in servers {
            let (name, address) = (server.name, server.address);
            self.0
                .entry(name)
                .or_insert_with(|| (address, tokio::spawn(server.begin())));
        }
    }
}

#[cfg(test)]
mod tests;
