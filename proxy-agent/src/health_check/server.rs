//! One such server: bound as soon as its port is free.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::announce::{Announcer, Notice};
use crate::name::ObjectName;
use crate::serve::{BindAddress, Reply, Server};

/// First pause before a port that could not be bound is tried again, for the server that had it a moment ago to go;
/// doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Pauses before this one are not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest pause before a port that could not be bound is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Serves at every address of the node until it is dropped.
pub(super) async fn run(
    service: ObjectName,
    port: u16,
    answer: Arc<dyn Fn() -> Reply + Send + Sync>,
    announcer: Announcer,
) {
    let server = Server {
        name: "health check of a Service",
        address: BindAddress::Everywhere(port),
        handler: Arc::new(move |_path| answer()),
        failed: None,
    };
    let mut pause = FIRST_PAUSE;
    let listener = loop {
        match server.listen() {
            Ok(listener) => break listener,
            Err(error) => complain(&service, port, pause, &error, &announcer),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    };
    tracing::info!(%service, port, "health check");
    server.run(Some(listener)).await;
}

fn complain(service: &ObjectName, port: u16, pause: Duration, error: &io::Error, announcer: &Announcer) {
    if pause < PATIENCE {
        return;
    }
    announcer.tell(Notice::of_health_check(service, port, error));
    tracing::error!(
        %service,
        port,
        %error,
        "can't listen at spec.healthCheckNodePort: load balancers take this node for one without endpoints of the \
         Service. It is tried again; stop what has the port, or give the Service another one"
    );
}
