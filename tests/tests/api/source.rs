//! The source at work in a thread of its own, inside a control plane's network namespace.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::cluster::ControlPlane;
use proxy_agent::source::{ApiOptions, Batch, Change, Kubernetes, Object, ObjectKey, Status};
use tokio::sync::oneshot;

/// How long a batch may take: machines are busy, and pauses between attempts grow to half a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// A source that runs until it is dropped.
pub(crate) struct Source {
    batches: mpsc::Receiver<Batch>,
    pub(crate) status: Arc<Status>,
    log: Log,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Source {
    /// Starts it; an error is the source's own, of its preparation.
    pub(crate) fn start(plane: &ControlPlane, options: ApiOptions) -> Result<Self, String> {
        let (to_test, batches) = mpsc::channel();
        let (to_stop, stopped) = oneshot::channel();
        let (to_status, status) = mpsc::channel();
        let log = Log::default();
        let writer = log.clone();
        let place = plane.place().namespace().clone();
        let thread = std::thread::spawn(move || {
            place.run(|| {
                let subscriber = tracing_subscriber::fmt()
                    .with_ansi(false)
                    .with_env_filter("info,kube_client=off,kube_runtime=off")
                    .with_writer(move || writer.clone())
                    .finish();
                tracing::subscriber::with_default(subscriber, || {
                    run(&options, &to_status, &to_test, stopped);
                });
                Ok(())
            })
        });
        let status = status.recv_timeout(PATIENCE).expect("the source did not start");
        Ok(Self {
            batches,
            status: status?,
            log,
            stop: Some(to_stop),
            thread: Some(thread),
        })
    }

    /// The next batch.
    pub(crate) fn batch(&self) -> Batch {
        self.batches
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| panic!("no batch: {error}; the log:\n{}", self.log()))
    }

    /// Whether nothing has arrived.
    pub(crate) fn is_silent(&self) -> bool {
        self.batches.try_recv().is_err()
    }

    /// Takes batches until all of these changes within a namespace of the cluster came, in any order, and no others.
    pub(crate) fn expect(&self, namespace: &str, expected: &[&str]) -> Vec<Change> {
        let mut missing: BTreeSet<String> = expected.iter().map(|change| (*change).to_owned()).collect();
        let mut changes = Vec::new();
        while !missing.is_empty() {
            for change in self.batch().changes {
                if namespace_of(&change.key()) != Some(namespace) {
                    continue;
                }
                let text = describe(&change);
                // An object may come in several steps.
                let is_known = missing.remove(&text) || expected.contains(&&*text);
                assert!(
                    is_known,
                    "{text} came, where {expected:?} should; the log:\n{}",
                    self.log()
                );
                changes.push(change);
            }
        }
        changes
    }

    /// Waits until the log has this.
    pub(crate) fn wait_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(
                Instant::now() < deadline,
                "no `{text}` in the log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All that was logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.0.lock().unwrap()).into_owned()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap().unwrap();
            }
        }
    }
}

fn run(
    options: &ApiOptions,
    to_status: &mpsc::Sender<Result<Arc<Status>, String>>,
    to_test: &mpsc::Sender<Batch>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let source = match Kubernetes::prepare(options, "node-1").await {
            Ok(source) => source,
            Err(error) => return to_status.send(Err(error.to_string())).unwrap(),
        };
        to_status.send(Ok(source.status())).unwrap();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let forward = async {
            while let Some(batch) = receiver.recv().await {
                to_test.send(batch).unwrap();
            }
        };
        tokio::select! {
            () = source.run(sender) => panic!("the source ended"),
            () = forward => panic!("the source ended"),
            _ = stopped => {}
        }
    });
}

/// `+Service namespace/name`, `-EndpointSlice namespace/name`.
pub(crate) fn describe(change: &Change) -> String {
    let sign = if matches!(change, Change::Upsert(_)) {
        '+'
    } else {
        '-'
    };
    format!("{sign}{}", change.key())
}

fn namespace_of(key: &ObjectKey) -> Option<&str> {
    match key {
        ObjectKey::Service(name) | ObjectKey::Slice(name) => Some(&name.namespace),
        ObjectKey::Node(_) | ObjectKey::ServiceCidr(_) => None,
    }
}

/// The addresses of a slice that came.
pub(crate) fn addresses(change: &Change) -> Vec<String> {
    let Change::Upsert(Object::Slice(slice)) = change else {
        panic!("{change:?} is no slice");
    };
    let endpoints = slice.endpoints.iter();
    endpoints
        .map(|endpoint| format!("{:?}", endpoint.address))
        .collect()
}
