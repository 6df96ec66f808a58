//! The servers at spec.healthCheckNodePort: load balancers ask them whether this node has endpoints of a Service of
//! its own (semantics A10). They listen where NodePorts answer.

mod answer;
mod server;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::agent::{Done, Observer};
use crate::announce::Announcer;
use crate::datapath::Answering;
use crate::health::Health;
use crate::model::HealthCheck;
use crate::name::ObjectName;
use crate::serve::Serving;
use crate::source::Batch;

/// The servers that run. They follow what the run loop says, and end when this is dropped.
#[derive(Debug)]
pub struct HealthChecks {
    runtime: Handle,
    health: Health,
    announcer: Announcer,
    answering: watch::Receiver<Answering>,
    running: HashMap<ObjectName, Running>,
}

#[derive(Debug)]
struct Running {
    port: u16,
    endpoints: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HealthChecks {
    /// None yet; they will run beside the other servers, where NodePorts answer, and are as well as the proxy is.
    pub fn new(
        serving: &Serving,
        health: Health,
        announcer: Announcer,
        answering: watch::Receiver<Answering>,
    ) -> Self {
        Self {
            runtime: serving.runtime(),
            health,
            announcer,
            answering,
            running: HashMap::new(),
        }
    }

    fn start(&self, service: &ObjectName, wanted: HealthCheck) -> Running {
        let endpoints = Arc::new(AtomicUsize::new(wanted.endpoints));
        let (name, count, health) = (service.clone(), endpoints.clone(), self.health.clone());
        let answer = move || answer::of(&name, count.load(Ordering::Relaxed), &health);
        let task = self.runtime.spawn(server::run(
            service.clone(),
            wanted.port,
            Arc::new(answer),
            self.announcer.clone(),
            self.answering.clone(),
        ));
        Running {
            port: wanted.port,
            endpoints,
            task: task.abort_handle(),
        }
    }
}

impl Observer for HealthChecks {
    fn took(&mut self, _batch: &Batch) {}

    fn did(&mut self, _done: &Done) {}

    fn settled(&mut self, _failed_services: usize) {}

    fn health_checks(&mut self, changes: &[(ObjectName, Option<HealthCheck>)]) {
        // Who gives a port up does so before another Service takes it.
        for (service, wanted) in changes {
            let port = wanted.map(|wanted| wanted.port);
            if self
                .running
                .get(service)
                .is_some_and(|running| Some(running.port) != port)
            {
                self.running.remove(service);
            }
        }
        for (service, wanted) in changes {
            let Some(wanted) = *wanted else { continue };
            match self.running.get(service) {
                Some(running) => running.endpoints.store(wanted.endpoints, Ordering::Relaxed),
                None => {
                    let running = self.start(service, wanted);
                    self.running.insert(service.clone(), running);
                }
            }
        }
    }
}
