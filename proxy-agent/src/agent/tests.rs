use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::reconcile::tests::{TestMaps, service, slice};
use super::*;
use crate::source::{Change, ObjectKey, objects};

/// Maps that another task can look at.
#[derive(Clone)]
struct Shared(Arc<std::sync::Mutex<TestMaps>>);

impl MapWriter for Shared {
    type Error = <TestMaps as MapWriter>::Error;

    fn apply(&mut self, operations: &[Operation]) -> Result<(), Self::Error> {
        self.0.lock().unwrap().apply(operations)
    }

    fn snapshot(&mut self) -> Result<Snapshot, Self::Error> {
        self.0.lock().unwrap().snapshot()
    }

    fn capacity(&self) -> Capacity {
        self.0.lock().unwrap().capacity()
    }

    fn make_room(&mut self, shortages: &[Shortage]) -> Result<Room, Self::Error> {
        self.0.lock().unwrap().make_room(shortages)
    }

    fn wait_for_readers(&mut self) -> Result<(), Self::Error> {
        self.0.lock().unwrap().wait_for_readers()
    }

    fn end_with_endpoints(&mut self, service: &ObjectName, ports: Vec<Mortal>) {
        self.0.lock().unwrap().end_with_endpoints(service, ports);
    }
}

impl Shared {
    async fn wait(&self, what: &str, condition: impl Fn(&TestMaps) -> bool) {
        let wait = async {
            while !condition(&self.0.lock().unwrap()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait)
            .await
            .unwrap_or_else(|_| panic!("no {what}"));
    }
}

/// What the run loop told of itself.
#[derive(Clone, Default)]
struct Told(Arc<std::sync::Mutex<Vec<String>>>);

impl Observer for Told {
    fn took(&mut self, batch: &Batch) {
        self.0
            .lock()
            .unwrap()
            .push(format!("took {}", batch.changes.len()));
    }

    fn did(&mut self, done: &Done) {
        if done.operations > 0 {
            self.0.lock().unwrap().push("wrote".to_owned());
        }
    }

    fn settled(&mut self, failed: usize) {
        self.0.lock().unwrap().push(format!("settled, {failed} failed"));
    }

    fn audited(&mut self, differences: &[crate::plan::Difference]) {
        let text = differences.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.0
            .lock()
            .unwrap()
            .push(format!("audited: {}", text.join(", ")));
    }
}

fn batch(manifests: &[String]) -> Batch {
    let objects = manifests.iter().flat_map(|manifest| objects(manifest));
    Batch {
        files: vec!["a.yaml".into()],
        changes: objects.map(Change::Upsert).collect(),
        ..Batch::default()
    }
}

#[tokio::test]
async fn what_is_taken_away_rests_until_grace_and_sweep() {
    let maps = Shared(Arc::new(std::sync::Mutex::new(TestMaps::new())));
    let (sender, batches) = mpsc::channel(1);
    let (sweep, sweeps) = watch::channel(Sweeps::default());
    let graces = Arc::new(AtomicUsize::new(0));
    let grace = {
        let (graces, maps) = (graces.clone(), maps.clone());
        move || {
            maps.0.lock().unwrap().kernel.grace();
            graces.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    };
    let reconciler = Reconciler::start("here", maps.clone()).unwrap();
    let told = Told::default();
    let agent = tokio::spawn(run(
        reconciler,
        Surroundings {
            batches,
            grace,
            sweeps,
            audits: mpsc::channel(1).1,
            observer: told.clone(),
        },
    ));
    sender
        .send(batch(&[service("a", 1, 80), slice("a", &[1, 2])]))
        .await
        .unwrap();
    maps.wait("frontend", |maps| maps.kernel.frontends.len() == 1)
        .await;
    assert_eq!(graces.load(Ordering::SeqCst), 0, "nothing was taken away yet");
    maps.wait("word of it", |_| told.0.lock().unwrap().len() >= 3)
        .await;
    assert_eq!(
        told.0.lock().unwrap()[..],
        ["took 2", "wrote", "settled, 0 failed"]
    );

    let gone = Change::Delete(ObjectKey::Service(crate::name::ObjectName::new("default", "a")));
    sender
        .send(Batch {
            changes: vec![gone],
            ..Batch::default()
        })
        .await
        .unwrap();
    maps.wait("removal", |maps| maps.kernel.frontends.is_empty())
        .await;
    while graces.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    sender.send(batch(&[service("b", 2, 80)])).await.unwrap();
    maps.wait("second Service", |maps| maps.kernel.frontends.len() == 1)
        .await;
    assert_eq!(
        maps.0.lock().unwrap().kernel.identities.len(),
        2,
        "the old id rests"
    );
    // The run loop may still have to learn that the grace period is over: only a later sweep counts.
    maps.wait("end of the rest", |maps| {
        sweep.send_modify(|sweeps| {
            sweeps.begun += 1;
            sweeps.ended += 1;
        });
        maps.kernel.identities.len() == 1
    })
    .await;
    drop(sender);
    agent.await.unwrap().unwrap();
}

#[test]
fn a_sweep_that_had_begun_before_the_grace_period_does_not_count() {
    let token = |number| {
        let mut planner = crate::plan::Planner::adopt(&Snapshot::default(), TestMaps::new().capacity()).0;
        let port = |name: &str| (crate::name::ObjectName::new("default", name), Vec::new());
        let mut last = None;
        for _ in 0..number {
            let mut model = crate::model::Model::new("here");
            model.apply(batch(&[service("a", 1, 80)]).changes);
            let name = crate::name::ObjectName::new("default", "a");
            let plan = planner.apply(&[(name.clone(), model.compile(&name))]);
            assert_eq!(plan.failed, []);
            last = planner.apply(&[port("a")]).token;
        }
        last.unwrap()
    };
    let (first, second) = (token(1), token(2));
    let mut resting = Resting {
        unswept: vec![(first, 3), (second, 4)],
        ..Resting::default()
    };
    assert_eq!(resting.swept(Sweeps { begun: 4, ended: 3 }), None);
    assert_eq!(resting.swept(Sweeps { begun: 4, ended: 4 }), Some(first));
    assert_eq!(resting.swept(Sweeps { begun: 5, ended: 4 }), None);
    assert_eq!(resting.swept(Sweeps { begun: 5, ended: 5 }), Some(second));
}

/// What was logged, as JSON.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn events(&self) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().unwrap();
        let lines = std::str::from_utf8(&bytes).unwrap().lines();
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test]
async fn files_are_told_of_once_all_of_their_change_is_in_the_maps() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    // With one subscriber alone, `tracing` asks the thread that comes by an event first whether anyone listens, and that may be
    // another test's, which has none.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);

    let maps = Shared(Arc::new(std::sync::Mutex::new(TestMaps::new())));
    let (sender, batches) = mpsc::channel(2);
    let (_sweep, sweeps) = watch::channel(Sweeps::default());
    let zones = slice("a", &[1]) + "---\n" + &slice("a", &[2]).replace("a-1", "a-2");
    let zones = zones
        .replace("[10.1.0.1]", "[10.1.0.1], hints: {forZones: [{name: west}]}")
        .replace("[10.1.0.2]", "[10.1.0.2], hints: {forZones: [{name: east}]}");
    let node =
        "apiVersion: v1\nkind: Node\nmetadata: {name: here, labels: {topology.kubernetes.io/zone: east}}";
    let mut first = batch(&[service("a", 1, 80), zones]);
    first.refusals = vec![crate::source::Refusal::of_file("b.yaml", "it is broken")];
    let second = Batch {
        files: vec!["node.yaml".into()],
        ..batch(&[node.to_owned()])
    };
    let surroundings = Surroundings {
        batches,
        grace: || Ok(()),
        sweeps,
        audits: mpsc::channel(1).1,
        observer: Told::default(),
    };
    let agent = tokio::spawn(run(
        Reconciler::start("here", maps.clone()).unwrap(),
        surroundings,
    ));
    sender.send(first).await.unwrap();
    maps.wait("frontend", |maps| maps.kernel.frontends.len() == 1)
        .await;
    sender.send(second).await.unwrap();
    let told = || log.events().iter().any(|event| event["files"] == "node.yaml");
    maps.wait("word of node.yaml", |_| told()).await;
    drop(sender);
    agent.await.unwrap().unwrap();

    let events = log.events();
    let messages: Vec<&str> = events
        .iter()
        .map(|event| event["message"].as_str().unwrap())
        .collect();
    // Before its Node is known, the hints can't be followed.
    assert_eq!(
        messages,
        ["refused", "not served as asked", "applied", "ready", "applied"]
    );
    assert_eq!(
        (&events[0]["file"], &events[0]["error"]),
        (&"b.yaml".into(), &"b.yaml: it is broken".into())
    );
    assert_eq!(events[2]["files"], "a.yaml");
    assert_eq!(
        events[4]["operations"], 3,
        "the identity, slots and words that the node's zone changed"
    );
}

#[tokio::test]
async fn an_audit_that_is_asked_for_mends_the_maps_and_is_told() {
    let maps = Shared(Arc::new(std::sync::Mutex::new(TestMaps::new())));
    let (sender, batches) = mpsc::channel(1);
    let (_sweep, sweeps) = watch::channel(Sweeps::default());
    let (ask, audits) = mpsc::channel(1);
    let told = Told::default();
    let surroundings = Surroundings {
        batches,
        grace: || Ok(()),
        sweeps,
        audits,
        observer: told.clone(),
    };
    let reconciler = Reconciler::start("here", maps.clone()).unwrap();
    let agent = tokio::spawn(run(reconciler, surroundings));
    sender
        .send(batch(&[service("a", 1, 80), slice("a", &[1])]))
        .await
        .unwrap();
    maps.wait("frontend", |maps| !maps.kernel.frontends.is_empty())
        .await;
    maps.0.lock().unwrap().kernel.frontends.clear();
    ask.send(()).await.unwrap();
    maps.wait("frontend again", |maps| !maps.kernel.frontends.is_empty())
        .await;
    ask.send(()).await.unwrap();
    let audits = || -> Vec<String> {
        let told = told.0.lock().unwrap();
        told.iter()
            .filter(|text| text.starts_with("audited"))
            .cloned()
            .collect()
    };
    maps.wait("word of both", |_| audits().len() == 2).await;
    assert_eq!(
        audits(),
        [
            "audited: default/a: FRONTENDS: TCP 10.96.0.1:80 is missing",
            "audited: "
        ]
    );
    drop(sender);
    agent.await.unwrap().unwrap();
}
