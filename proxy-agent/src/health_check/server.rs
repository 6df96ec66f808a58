//! One such server: at every address at which NodePorts answer, bound as soon as its port is free.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::announce::{Announcer, Notice};
use crate::datapath::Answering;
use crate::name::ObjectName;
use crate::serve::{BindAddress, Reply, Server};

/// First pause before a port that could not be bound is tried again, for the server that had it a moment ago to go;
/// doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Pauses before this one are not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest pause before a port that could not be bound is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

type Answer = Arc<dyn Fn() -> Reply + Send + Sync>;

/// Serves until it is dropped; follows the addresses.
pub(super) async fn run(
    service: ObjectName,
    port: u16,
    answer: Answer,
    announcer: Announcer,
    mut answering: watch::Receiver<Answering>,
) {
    // Its tasks end with it.
    let mut tasks = JoinSet::new();
    let mut listening: HashMap<BindAddress, AbortHandle> = HashMap::new();
    loop {
        let wanted = addresses(&answering.borrow_and_update(), port);
        listening.retain(|address, task| {
            let stays = wanted.contains(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for address in wanted {
            listening.entry(address).or_insert_with(|| {
                tasks.spawn(listen(
                    service.clone(),
                    address,
                    port,
                    answer.clone(),
                    announcer.clone(),
                ))
            });
        }
        while tasks.try_join_next().is_some() {}
        if answering.changed().await.is_err() {
            // The data path ends, and with it soon the agent: what listens goes on until then.
            return std::future::pending().await;
        }
    }
}

fn addresses(answering: &Answering, port: u16) -> Vec<BindAddress> {
    match answering {
        Answering::Everywhere => vec![BindAddress::Everywhere(port)],
        Answering::At(addresses) => {
            let at = |address: &std::net::IpAddr| BindAddress::At(SocketAddr::new(*address, port));
            addresses.iter().map(at).collect()
        }
    }
}

/// Serves at one address, or at all, until it is dropped.
async fn listen(service: ObjectName, address: BindAddress, port: u16, answer: Answer, announcer: Announcer) {
    let server = Server {
        name: "health check of a Service",
        address,
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
    tracing::info!(%service, %address, "health check");
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
