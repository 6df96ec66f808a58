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

    fn wait_for_readers(&mut self) -> Result<(), Self::Error> {
        self.0.lock().unwrap().wait_for_readers()
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

fn batch(manifests: &[String]) -> Batch {
    let objects = manifests.iter().flat_map(|manifest| objects(manifest));
    Batch {
        files: vec!["a.yaml".into()],
        changes: objects.map(Change::Upsert).collect(),
        refusals: Vec::new(),
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
    let agent = tokio::spawn(run(
        reconciler,
        Surroundings {
            batches,
            grace,
            sweeps,
        },
    ));
    sender
        .send(batch(&[service("a", 1, 80), slice("a", &[1, 2])]))
        .await
        .unwrap();
    maps.wait("frontend", |maps| maps.kernel.frontends.len() == 1)
        .await;
    assert_eq!(graces.load(Ordering::SeqCst), 0, "nothing was taken away yet");

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
