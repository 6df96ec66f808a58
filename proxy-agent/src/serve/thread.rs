//! The thread of the servers: they answer while the run loop is busy, so that a stuck one is told from a busy one.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::Server;

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
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Serving {
    /// Starts servers in the calling thread's network namespace. An address that can't be bound is tried again and
    /// again, unless `must_bind`.
    pub fn start(servers: Vec<Server>, must_bind: bool) -> Result<Self, ServingError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ServingError::Thread)?;
        for server in servers {
            let listener = match server.listen() {
                Ok(listener) => Some(listener),
                Err(error) if must_bind => {
                    return Err(ServingError::Bind {
                        name: server.name,
                        address: server.address.to_string(),
                        error,
                    });
                }
                Err(error) => {
                    server.complain(&error);
                    None
                }
            };
            runtime.spawn(server.run(listener));
        }
        Self::run(runtime)
    }

    fn run(runtime: Runtime) -> Result<Self, ServingError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("serve".to_owned())
            .spawn(move || {
                // The sender says nothing: it goes.
                drop(runtime.block_on(stopped));
            })
            .map_err(ServingError::Thread)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the HTTP servers panicked");
        }
    }
}

#[cfg(test)]
mod tests;
