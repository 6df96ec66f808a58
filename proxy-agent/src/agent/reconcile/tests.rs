use super::recover::MOST_RECOVERIES;
use super::*;
use crate::agent::{Cause, MapWriter, Room};
use crate::plan::tests::kernel::Kernel;
use crate::plan::{Capacity, Operation, Shortage};
use crate::source::{Object, ObjectKey, objects};

const CAPACITY: Capacity = Capacity {
    services: 64,
    backends: 64,
    slots: 128,
    frontends4: 32,
    frontends6: 32,
    ranges4: 16,
    ranges6: 16,
};

/// Maps that refuse writes for some frontends' sake.
#[derive(Debug)]
pub(crate) struct TestMaps {
    capacity: Capacity,
    pub(crate) kernel: Kernel,
    refused_port: Option<u16>,
    refusals: usize,
    /// Room that was asked for, ever.
    shortages: Vec<Shortage>,
    /// Frontends that were removed, ever.
    removed: usize,
    /// Whose connections end with their endpoints, as it was told.
    mortal: Vec<(ObjectName, Vec<Mortal>)>,
}

#[derive(Debug, thiserror::Error)]
#[error("the map is out of memory")]
pub(crate) struct Refused;

impl TestMaps {
    pub(crate) fn new() -> Self {
        Self::with(CAPACITY)
    }

    pub(crate) fn with(capacity: Capacity) -> Self {
        Self {
            capacity,
            kernel: Kernel::new(capacity),
            refused_port: None,
            refusals: 0,
            shortages: Vec::new(),
            removed: 0,
            mortal: Vec::new(),
        }
    }
}

impl MapWriter for TestMaps {
    type Error = Refused;

    fn apply(&mut self, operations: &[Operation]) -> Result<(), Refused> {
        for operation in operations {
            if let Operation::PutFrontend(frontend, _) = operation
                && self.refused_port == Some(frontend.port.number())
            {
                self.refusals += 1;
                return Err(Refused);
            }
            self.removed += usize::from(matches!(operation, Operation::RemoveFrontend(_)));
            self.kernel.carry_out(std::slice::from_ref(operation));
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot, Refused> {
        Ok(self.kernel.snapshot())
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn make_room(&mut self, shortages: &[Shortage]) -> Result<Room, Refused> {
        self.shortages.extend(shortages);
        Ok(Room::Refused("there is no memory".to_owned()))
    }

    fn wait_for_readers(&mut self) -> Result<(), Refused> {
        self.kernel.grace();
        Ok(())
    }

    fn end_with_endpoints(&mut self, service: &ObjectName, ports: Vec<Mortal>) {
        self.mortal.push((service.clone(), ports));
    }
}

pub(crate) fn service(name: &str, number: u8, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 10.96.0.{number}, ports: [{{port: {port}}}]}}\n"
    )
}

pub(crate) fn slice(service: &str, endpoints: &[u8]) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|number| format!("{{addresses: [10.1.0.{number}]}}"))
        .collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    )
}

fn upserts(manifests: &[String]) -> Vec<Change> {
    manifests
        .iter()
        .flat_map(|manifest| objects(manifest))
        .map(Change::Upsert)
        .collect()
}

fn causes(failures: &[Failure]) -> Vec<(&str, Cause)> {
    let causes = failures.iter();
    causes
        .map(|failure| (&*failure.service.name, failure.cause))
        .collect()
}

fn delete(name: &str) -> Change {
    Change::Delete(ObjectKey::Service(ObjectName::new("default", name)))
}

#[test]
fn whose_connections_end_is_told_once_everything_is_known_and_when_it_changes() {
    let reset = service("a", 1, 80).replace(
        "name: a",
        "name: a, annotations: {shunt.dev/on-endpoint-gone: reset}",
    );
    let mut reconciler = Reconciler::start("here", TestMaps::new()).unwrap();
    let mut tell = |manifests: &[String], has_unread| {
        reconciler.take(upserts(manifests), has_unread).unwrap();
        reconciler.end_connections();
        let told = std::mem::take(&mut reconciler.maps().mortal).into_iter();
        told.map(|(service, ports)| {
            let ends = ports
                .iter()
                .map(|port| (port.frontends.len(), port.endpoints.len()));
            (service.name.to_string(), ends.collect::<Vec<_>>())
        })
        .collect::<Vec<_>>()
    };
    let a = |ends: &[(usize, usize)]| vec![("a".to_owned(), ends.to_vec())];
    assert_eq!(tell(std::slice::from_ref(&reset), true), []);
    assert_eq!(
        tell(&[slice("a", &[1, 2]), service("b", 2, 80)], false),
        a(&[(1, 2)])
    );
    assert_eq!(tell(&[service("c", 3, 80)], false), []);
    assert_eq!(tell(&[slice("a", &[2])], false), a(&[(1, 1)]));
    assert_eq!(
        tell(&[service("a", 1, 80)], false),
        a(&[]),
        "the annotation is gone"
    );
    assert_eq!(tell(&[reset], false), a(&[(1, 1)]));
}

#[test]
fn a_restart_installs_what_differs_and_prunes_only_after_the_first_sync() {
    let mut first = Reconciler::start("here", TestMaps::new()).unwrap();
    let all = [
        service("a", 1, 80),
        slice("a", &[1, 2]),
        service("b", 2, 80),
        slice("b", &[3]),
    ];
    assert!(first.take(upserts(&all), false).unwrap().operations > 0);
    assert_eq!(first.take(upserts(&all), false).unwrap(), Done::default());

    let maps = TestMaps {
        kernel: first.maps.kernel.clone(),
        ..TestMaps::new()
    };
    let mut second = Reconciler::start("here", maps).unwrap();
    assert_eq!(
        second.maps.kernel.frontends.len(),
        2,
        "nothing is pruned before the sync"
    );
    let done = second.take(upserts(&all[..2]), false).unwrap();
    assert_eq!(second.maps.kernel.frontends.len(), 1);
    assert!(done.token.is_some());
}

#[test]
fn a_service_without_room_is_tried_again_when_there_may_be_room() {
    let mut reconciler = Reconciler::start("here", TestMaps::new()).unwrap();
    let big = [service("big", 1, 80), slice("big", &(0..60).collect::<Vec<_>>())];
    let small = [
        service("small", 2, 80),
        slice("small", &(100..110).collect::<Vec<_>>()),
    ];
    reconciler.take(upserts(&big), false).unwrap();
    let done = reconciler.take(upserts(&small), false).unwrap();
    assert_eq!((done.failed, done.operations), (1, 0));
    assert_eq!(reconciler.failures(), [], "there may be room in a moment");
    let at = reconciler.next_retry().unwrap();
    assert_eq!(reconciler.retry(at).unwrap().failed, 1);
    assert_eq!(
        reconciler.maps.shortages,
        [Shortage {
            map: "BACKENDS",
            needed: 7
        }]
    );
    let told = reconciler.failures();
    assert_eq!(causes(&told), [("small", Cause::NoRoom)]);
    let text = &told[0].text;
    assert!(
        text.contains("the map BACKENDS has no room") && text.contains("there is no memory"),
        "{told:?}"
    );
    let later = reconciler.next_retry().unwrap();
    assert!(later > at + FIRST_PAUSE, "the pause grows");
    assert_eq!(reconciler.retry(later).unwrap().failed, 1);
    assert_eq!(reconciler.failures(), told, "the same each time");

    let token = reconciler
        .take(vec![delete("big")], false)
        .unwrap()
        .token
        .unwrap();
    reconciler.maps.kernel.grace();
    reconciler.grace_passed(token);
    let done = reconciler.retry(Instant::now()).unwrap();
    assert_eq!(done.failed, 0);
    assert!(done.operations > 0);
    assert_eq!(reconciler.failures(), []);
    assert_eq!(reconciler.next_retry(), None);
    assert_eq!(reconciler.swept(token).unwrap().operations, 1);
    assert_eq!(reconciler.maps.kernel.identities.len(), 1);
}

#[test]
fn a_write_that_a_map_refuses_stops_that_service_alone() {
    let mut reconciler = Reconciler::start("here", TestMaps::new()).unwrap();
    reconciler
        .take(upserts(&[service("old", 9, 80), slice("old", &[9])]), false)
        .unwrap();
    reconciler.maps.refused_port = Some(81);
    let changes = [
        service("a", 1, 80),
        slice("a", &[1]),
        service("b", 2, 81),
        slice("b", &[2]),
        service("c", 3, 80),
    ];
    let mut changes = upserts(&changes);
    changes.push(delete("old"));
    let done = reconciler.take(changes, false).unwrap();
    assert_eq!(done.failed, 1);
    let told = reconciler.failures();
    assert_eq!(causes(&told), [("b", Cause::Refused)]);
    assert_eq!(
        told[0].text,
        "Service default/b stays as it was: the map is out of memory"
    );
    let ports: Vec<u16> = reconciler
        .maps
        .kernel
        .frontends
        .keys()
        .map(|frontend| frontend.port.number())
        .collect();
    assert_eq!(ports, [80, 80], "a and c are there, old is not");
    let at = reconciler.next_retry().unwrap();
    reconciler.maps.refused_port = None;
    reconciler.retry(at).unwrap();
    assert_eq!(reconciler.maps.kernel.frontends.len(), 3);
    assert_eq!(reconciler.next_retry(), None);
}

#[test]
fn maps_that_refuse_everything_end_the_agent() {
    let mut reconciler = Reconciler::start("here", TestMaps::new()).unwrap();
    reconciler.maps.refused_port = Some(80);
    let services: Vec<String> = (0..20)
        .map(|number| service(&format!("s{number}"), number, 80))
        .collect();
    let error = reconciler.take(upserts(&services), false).unwrap_err();
    assert!(error.to_string().contains("out of memory"), "{error}");
    assert!(reconciler.maps.refusals <= MOST_RECOVERIES + 2);
}

#[test]
fn a_change_of_the_node_is_worked_off_in_slices() {
    let mut reconciler = Reconciler::start("here", TestMaps::new()).unwrap();
    let hinted = |zone| {
        slice("a", &[1])
            .replace(
                "[10.1.0.1]",
                &format!("[10.1.0.1], hints: {{forZones: [{{name: {zone}}}]}}"),
            )
            .replace("a-1", &format!("a-{zone}"))
    };
    let west = hinted("west");
    let east = hinted("east").replace("10.1.0.1", "10.1.0.2");
    reconciler
        .take(upserts(&[service("a", 1, 80), west, east]), false)
        .unwrap();
    assert!(!reconciler.has_more());
    let node =
        "apiVersion: v1\nkind: Node\nmetadata: {name: here, labels: {topology.kubernetes.io/zone: east}}\n";
    let node: Vec<Change> = objects(node)
        .into_iter()
        .map(|object: Object| Change::Upsert(object))
        .collect();
    assert_eq!(reconciler.take(node, false).unwrap().operations, 0);
    assert!(reconciler.has_more());
    assert_eq!(
        reconciler.go_on().unwrap().operations,
        3,
        "the identity, whose hints are followed now, slots and service words"
    );
    assert!(!reconciler.has_more());
}

#[test]
fn an_audit_goes_in_slices_and_what_changes_between_them_is_no_difference() {
    let capacity = Capacity {
        services: 256,
        backends: 256,
        slots: 512,
        frontends4: 256,
        ..CAPACITY
    };
    let mut reconciler = Reconciler::start("here", TestMaps::with(capacity)).unwrap();
    let all = (0..3 * SLICE as u8).flat_map(|number| {
        let name = format!("s{number}");
        [service(&name, number, 80), slice(&name, &[number])]
    });
    reconciler.take(upserts(&all.collect::<Vec<_>>()), false).unwrap();
    reconciler.begin_audit();
    let mut slices = 0;
    let (found, done) = loop {
        // One that was looked at and one that was not, whatever their order: they come, change and go.
        for number in [0, 100, 191] {
            let name = format!("s{number}");
            let change = match slices % 3 {
                0 => upserts(&[slice(&name, &[number, 200 + slices])]),
                1 => vec![delete(&name)],
                _ => upserts(&[service(&name, number, 81)]),
            };
            reconciler.take(change, false).unwrap();
        }
        slices += 1;
        if let Some(end) = reconciler.go_on_with_audit().unwrap() {
            break end;
        }
    };
    assert_eq!((found, done), (vec![], Done::default()));
    assert!(slices > 3, "{slices}");
    assert!(!reconciler.is_auditing());
}

#[test]
fn what_an_unreadable_file_may_hold_is_left_alone_after_a_restart() {
    let mut first = Reconciler::start("here", TestMaps::new()).unwrap();
    let all = [
        service("a", 1, 80),
        slice("a", &[1]),
        service("b", 2, 80),
        slice("b", &[2]),
    ];
    first.take(upserts(&all), false).unwrap();

    // The slice of a and all of b are in a file that is broken now; c is new and has no endpoint.
    let mut second = Reconciler::start("here", first.maps).unwrap();
    let before = second.maps.kernel.meanings();
    let known = [service("a", 1, 80), service("c", 3, 80)];
    second.take(upserts(&known), true).unwrap();
    let after = second.maps.kernel.meanings();
    assert_eq!(after.len(), 3);
    assert!(
        before
            .iter()
            .all(|(frontend, meaning)| after.get(frontend) == Some(meaning))
    );

    // Endpoints that are known are used at once.
    second.take(upserts(&[slice("c", &[3])]), true).unwrap();
    assert_eq!(second.maps.kernel.backends.len(), 3);

    // Now all is known: a has no endpoint and b is gone.
    second.take(Vec::new(), false).unwrap();
    let now = second.maps.kernel.meanings();
    assert_eq!(now.len(), 2);
    let alive = second
        .maps
        .kernel
        .backends
        .values()
        .filter(|backend| backend.is_alive());
    assert_eq!(alive.count(), 1);
}

#[test]
fn a_frontend_moves_in_one_update_however_much_changes_at_once() {
    const COUNT: usize = 2 * SLICE + 10;
    let capacity = Capacity {
        services: 2048,
        frontends4: 1024,
        ..CAPACITY
    };
    let mut reconciler = Reconciler::start("here", TestMaps::with(capacity)).unwrap();
    let all = |uid: &str, owners: [usize; 2]| {
        let manifest = |number: usize| {
            let external = owners.iter().position(|owner| *owner == number);
            let external = external.map_or(String::new(), |last| format!("externalIPs: [192.0.2.{last}], "));
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number:03}, uid: {uid}}}\nspec: {{{external}clusterIP: 10.96.{}.{}, ports: [{{port: 80}}]}}\n",
                number / 256,
                number % 256
            )
        };
        upserts(&(0..COUNT).map(manifest).collect::<Vec<_>>())
    };
    let (first, last) = (0, COUNT - 1);
    reconciler.take(all("one", [first, last]), false).unwrap();
    let done = reconciler.take(all("one", [last, first]), false).unwrap();
    assert_eq!((done.operations, reconciler.maps.removed), (2, 0));
    // Every Service is made anew, and the first and the last swap again.
    reconciler.take(all("two", [first, last]), false).unwrap();
    assert_eq!(reconciler.maps.removed, 0);
    assert_eq!(reconciler.maps.kernel.frontends.len(), COUNT + 2);
}
